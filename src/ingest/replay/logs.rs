//! Logs of connectors: each is read by the codec and the decoder of the feed that would have sent it. What a decoder would
//! ask is not asked: the log has the answers, or nobody has.

use std::collections::HashMap;

use super::engine::Engine;
use crate::ingest::asterisk::codec::{Codec, Frame};
use crate::ingest::asterisk::decode::{Decoder, Output};
use crate::ingest::capture::Kind;
use crate::model::{FeedKind, Now};

/// All logs of a replay, by their number among the files.
#[derive(Default)]
pub(super) struct Logs {
    asterisks: HashMap<usize, Asterisk>,
    outputs: Vec<Output>,
}

struct Asterisk {
    codec: Codec,
    decoder: Decoder,
}

impl Logs {
    /// Takes a piece of a log, whose messages may begin and end anywhere.
    pub(super) fn take(&mut self, log: usize, kind: Kind, bytes: &[u8], at_us: i64, engine: &mut Engine) {
        // Nothing has happened before the first stamp, and the capture's clock does not begin in 1970.
        let now = engine.pass(at_us);
        if kind != Kind::Ami {
            return;
        }
        let asterisk = self.asterisks.entry(log).or_insert_with(|| {
            engine.is_led();
            Asterisk { codec: Codec::default(), decoder: Decoder::new(engine.pbx()) }
        });
        asterisk.codec.push(bytes);
        while let Some(frame) = asterisk.codec.next_frame() {
            if let Frame::Message(message) = frame {
                asterisk.decoder.message(&message, now, &mut self.outputs);
            }
        }
        for output in self.outputs.drain(..) {
            apply(output, now, engine);
        }
    }
}

fn apply(output: Output, now: Now, engine: &mut Engine) {
    match output {
        Output::Leg(event) => engine.leg(&event, now),
        Output::Legs(legs) => engine.legs(FeedKind::Asterisk, &legs, now),
        Output::Contacts { user, contacts, complete } => engine.contacts(&user, &contacts, complete, now),
        Output::AllContacts(all) => {
            for (user, contacts) in all {
                engine.contacts(&user, &contacts, true, now);
            }
        }
        Output::ContactGone { user, uri } => engine.contact_gone(&user, &uri, now),
        Output::Queues(queues) => engine.queues(&queues, now),
        Output::Member { queue, member } => engine.member(&queue, &member, now),
        Output::MemberGone { queue, user } => engine.member_gone(&queue, &user, now),
        Output::Reachability { .. }
        | Output::Endpoints(_)
        | Output::Ask(_)
        | Output::Refused { .. }
        | Output::Settled
        | Output::Booted
        | Output::ShuttingDown => {}
    }
}
