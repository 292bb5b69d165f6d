//! `FreeSWITCH` by its event socket, inbound: we connect, log in, subscribe, look at everything once, and follow.
//!
//! `codec` cuts the stream into frames and `event` reads what is in them; `decode` makes legs, registrations and queue
//! members of them; `session` holds the connection; `apply` hands on what came out; `control` sends changes back.
//! The numbers of events (`Event-Sequence`) are no use for finding losses: some are never sent and others come out of
//! order. So everything is looked at again at an interval, after a reconnect and when the core's id is a new one.

pub mod codec;
pub mod decode;
pub mod event;
pub mod question;

mod apply;
mod control;
mod link;
mod session;

pub use session::Freeswitch;
