//! A decoder on the bench: recordings go in, what it tells comes out as words.

use std::collections::BTreeMap;

use hookswitch::ingest::freeswitch::codec::Frame;
use hookswitch::ingest::freeswitch::decode::{Decoder, Output};
use hookswitch::ingest::freeswitch::question::Question;
use hookswitch::model::{Hop, LegEnd, LegEvent, LegKey, LegStart, Now, PbxId, Tick, UnixMillis};

use crate::recorded::{frames, stamp};

/// A decoder with its own time and what it has said.
pub struct Bench {
    pub decoder: Decoder,
    pub now: Now,
    pub out: Vec<Output>,
}

impl Bench {
    /// One that knows nothing yet.
    pub fn new() -> Self {
        let now = Now { tick: Tick(1_000_000), unix: UnixMillis(1_795_287_000_000) };
        Self { decoder: Decoder::new(PbxId(uuid::Uuid::nil())), now, out: Vec::new() }
    }

    /// A frame comes, at the time its event has.
    pub fn frame(&mut self, frame: &Frame) {
        if let Some(stamp) = stamp(frame) {
            let at = self.now.to_tick(UnixMillis(stamp / 1000)).max(self.now.tick);
            self.advance_to(at);
        }
        self.decoder.frame(frame, self.now, &mut self.out);
    }

    /// A recording comes.
    pub fn frames(&mut self, recording: &[(Vec<u8>, Frame)]) {
        for (_, frame) in recording {
            self.frame(frame);
        }
    }

    /// Lets time pass, with everything that is due in between.
    fn advance_to(&mut self, at: Tick) {
        while let Some(due) = self.decoder.next_deadline().filter(|due| *due <= at) {
            self.now = self.now.after(due - self.now.tick);
            self.decoder.poll(self.now, &mut self.out);
        }
        self.now = self.now.after(at - self.now.tick);
    }

    /// Lets time pass.
    pub fn advance(&mut self, milliseconds: u64) {
        self.advance_to(self.now.tick + milliseconds);
    }

    /// Answers everything it asks from `answers`, as well as it can.
    pub fn answer(&mut self, mut given: impl FnMut(&Question) -> String) {
        loop {
            let (asked, said) = std::mem::take(&mut self.out).into_iter().partition(|o| matches!(o, Output::Ask(_)));
            self.out = said;
            let asked: Vec<Output> = asked;
            if asked.is_empty() {
                return;
            }
            for question in asked {
                let Output::Ask(question) = question else { continue };
                self.decoder.answer(&question, &given(&question), self.now, self.now, &mut self.out);
            }
        }
    }

    /// What was told so far, in words.
    pub fn told(&self) -> Vec<String> {
        told(&self.out)
    }
}

/// What is told of legs, which are called A, B … in the order they are first named.
fn told(out: &[Output]) -> Vec<String> {
    let mut names: BTreeMap<LegKey, char> = BTreeMap::new();
    let name = |key: &LegKey, names: &mut BTreeMap<LegKey, char>| {
        let next = char::from(b'A' + u8::try_from(names.len()).expect("few legs"));
        *names.entry(key.clone()).or_insert(next)
    };
    let mut lines = Vec::new();
    for output in out {
        match output {
            Output::Leg(event) => {
                let leg = name(&event.leg, &mut names);
                lines.push(match &event.event {
                    LegEvent::Started(start) => {
                        let call = name(&LegKey(start.call_key.clone()), &mut names);
                        format!("{leg} {}", started(start, call))
                    }
                    LegEvent::Moved(key) => format!("{leg} moves to {}", name(&LegKey(key.clone()), &mut names)),
                    LegEvent::Queued(queued) => format!("{leg} waits in {}", queued.queue),
                    LegEvent::Named(_) => format!("{leg} named"),
                    LegEvent::Ended(end) => format!("{leg} ended {}", ended(*end)),
                    other => format!("{leg} {}", format!("{other:?}").to_lowercase()),
                });
            }
            Output::Live(legs) => {
                let mut live: Vec<char> = legs.iter().map(|leg| name(leg, &mut names)).collect();
                live.sort_unstable();
                lines.push(format!("live: {}", live.into_iter().collect::<String>()));
            }
            Output::Contact(aor, contact) => lines.push(format!("{} at {}", aor.user, contact.uri)),
            Output::ContactGone(aor, uri) => lines.push(format!("{} not at {uri}", aor.user)),
            Output::Unregistered(aor) => lines.push(format!("{} nowhere", aor.user)),
            Output::Member(queue, member) => {
                let paused = if member.paused { " paused" } else { "" };
                lines.push(format!("{queue}: {} {:?}{paused}", member.user, member.state));
            }
            _ => {}
        }
    }
    lines
}

fn started(start: &LegStart, call: char) -> String {
    let way = match start.hop {
        Hop::ToPbx => "calls",
        Hop::FromPbx => "is called as",
        Hop::Unknown => "?",
    };
    let who = start.endpoint.as_ref().map_or("-", |endpoint| endpoint.user.as_str());
    let queue = start.queue.as_ref().map(|queue| format!(" for {queue}")).unwrap_or_default();
    let port = start.media_port.map(|_| " on a port").unwrap_or_default();
    let named = if start.sip_call_id.is_some() { " named" } else { "" };
    let (caller, target) = (&start.caller.number, &start.target.user.split('-').next().unwrap_or_default());
    format!("({who}, {caller}) {way} {target} in {call}{queue}{port}{named}")
}

fn ended(end: LegEnd) -> String {
    format!("{end:?}").to_lowercase()
}

/// What is told of a recording.
pub fn decoded(name: &str) -> Vec<String> {
    let mut bench = Bench::new();
    bench.frames(&frames("json", name));
    bench.advance(5_000);
    bench.told()
}
