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

use std::collections::VecDeque;

use uuid::Uuid;

pub use session::Freeswitch;

use crate::model::{Now, PbxId, Tick, UnixMillis};

/// The events that are subscribed to. What is not read is not asked for: events are large.
pub const EVENTS: &str = "CHANNEL_CREATE CHANNEL_PROGRESS CHANNEL_PROGRESS_MEDIA CHANNEL_ANSWER CHANNEL_BRIDGE \
    CHANNEL_HANGUP_COMPLETE CUSTOM sofia::register sofia::unregister sofia::expire callcenter::info";

/// Reads arbitrary bytes as the stream of an event socket, and as answers to everything that is asked of it. It must come
/// to an end without a panic; for fuzzing.
pub fn exercise(bytes: &[u8]) {
    let mut now = Now { tick: Tick(1_000_000), unix: UnixMillis(1_795_287_000_000) };
    let (mut codec, mut decoder, mut out) =
        (codec::Codec::default(), decode::Decoder::new(PbxId(Uuid::nil())), Vec::new());
    let mut asked: VecDeque<question::Question> = VecDeque::new();
    decoder.connected(&mut out);
    // The pieces are as uneven as what the network makes of it.
    for piece in bytes.chunks(1 + bytes.len() / 3) {
        codec.push(piece);
        while let Ok(Some(frame)) = codec.take() {
            match (&frame, asked.pop_front()) {
                (codec::Frame::Answer(text) | codec::Frame::Reply(text), Some(question)) => {
                    decoder.answer(&question, text, now, now, &mut out);
                }
                (_, question) => {
                    asked.extend(question);
                    decoder.frame(&frame, now, &mut out);
                }
            }
            now = now.after(50);
            for output in out.drain(..) {
                if let decode::Output::Ask(question) = output
                    && asked.len() < 100
                    && question.command().is_ok()
                {
                    asked.push_back(question);
                }
            }
        }
    }
    decoder.poll(now.after(60_000), &mut out);
}
