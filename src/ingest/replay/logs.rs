//! Logs of connectors: each is read by the codec and the decoder of the feed that would have sent it. What a decoder would
//! ask is not asked: the log has the answers, or nobody has.

use std::collections::HashMap;

use super::engine::Engine;
use crate::ingest::asterisk::codec::{Codec, Frame};
use crate::ingest::asterisk::decode::{Decoder, Output};
use crate::ingest::capture::Kind;
use crate::ingest::freeswitch::{codec as event_socket, decode as freeswitch};
use crate::model::{FeedKind, Now};

/// All logs of a replay, by their number among the files.
#[derive(Default)]
pub(super) struct Logs {
    asterisks: HashMap<usize, Asterisk>,
    outputs: Vec<Output>,
    event_sockets: HashMap<usize, EventSocket>,
}

struct Asterisk {
    codec: Codec,
    decoder: Decoder,
}

struct EventSocket {
    codec: event_socket::Codec,
    decoder: freeswitch::Decoder,
}

impl Logs {
    /// Takes a piece of a log, whose messages may begin and end anywhere.
    pub(super) fn take(&mut self, log: usize, kind: Kind, bytes: &[u8], at_us: i64, engine: &mut Engine) {
        // Nothing has happened before the first stamp, and the capture's clock does not begin in 1970.
        let now = engine.pass(at_us);
        match kind {
            Kind::Ami => self.take_ami(log, bytes, now, engine),
            Kind::EventSocket => self.take_event_socket(log, bytes, now, engine),
            Kind::Pcap | Kind::PcapNg | Kind::HepLengths | Kind::HepPlain => {}
        }
    }

    fn take_ami(&mut self, log: usize, bytes: &[u8], now: Now, engine: &mut Engine) {
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

    fn take_event_socket(&mut self, log: usize, bytes: &[u8], now: Now, engine: &mut Engine) {
        let socket = self.event_sockets.entry(log).or_insert_with(|| {
            engine.is_led();
            EventSocket { codec: event_socket::Codec::default(), decoder: freeswitch::Decoder::new(engine.pbx()) }
        });
        let mut outputs = Vec::new();
        socket.codec.push(bytes);
        // Pieces are whole frames, so that an error here is one that reading the file has met before.
        while let Ok(Some(frame)) = socket.codec.take() {
            socket.decoder.frame(&frame, now, &mut outputs);
        }
        for output in outputs {
            apply_freeswitch(output, now, engine);
        }
    }
}

fn apply_freeswitch(output: freeswitch::Output, now: Now, engine: &mut Engine) {
    use freeswitch::Output as Said;
    match output {
        Said::Leg(event) => engine.leg(&event, now),
        Said::Live(legs) => engine.legs(FeedKind::Freeswitch, &legs, now),
        Said::Contact(aor, contact) => engine.contacts(&aor.user, &[contact], false, now),
        Said::ContactGone(aor, uri) => engine.contact_gone(&aor.user, &uri, now),
        Said::Unregistered(aor) => engine.contacts(&aor.user, &[], true, now),
        Said::AllContacts(all, _) => {
            for (aor, contacts) in all {
                engine.contacts(&aor.user, &contacts, true, now);
            }
        }
        Said::Queues(queues) => engine.queues(&queues, now),
        Said::Member(queue, member) => engine.member(&queue, &member, now),
        Said::Users(_) | Said::Ask(_) | Said::Dropped(_) => {}
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
