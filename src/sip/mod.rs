//! SIP without sockets: bytes in, decisions out. Nothing here reads a clock, blocks or panics on any input.
//!
//! [`scan::scan`] finds the headers of a message in place; the typed values ([`NameAddr`], [`Contact`], [`Via`],
//! [`CSeq`], [`Uri`]) are read from it on demand and borrow from the same bytes.

pub mod address;
pub mod check;
pub mod client;
pub mod cseq;
pub mod dialog;
pub mod digest;
pub mod fault;
pub mod frame;
pub mod hep;
pub mod keepalive;
pub mod message;
pub mod name;
pub mod refusal;
pub mod registrar;
pub mod reply;
pub mod scan;
pub mod subscriber;
pub mod syntax;
pub mod uri;
pub mod via;

pub use address::{Contact, NameAddr};
pub use check::check;
pub use cseq::{CSeq, Method};
pub use fault::{HeaderError, HeaderFault, ScanError};
pub use frame::{Frame, FrameError, Framer};
pub use message::Message;
pub use name::Name;
pub use refusal::Refusal;
pub use reply::{Reply, Response, Salt, Unanswerable};
pub use scan::scan;
pub use uri::{Scheme, Uri, UriError};
pub use via::Via;
