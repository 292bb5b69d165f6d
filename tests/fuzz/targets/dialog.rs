//! What a PBX's packets say about calls: the dialog tracker over a whole recording.

use std::collections::HashMap;

use hookswitch::model::{FeedKind, Hop, LegEvent, LegKey, Now, PbxEvent, PbxId, Tick, UnixMillis};
use hookswitch::sip::dialog::{Sighting, Tracker};
use hookswitch::sip::{hep, scan};

/// A recording as in `fixtures/hep`, 50 ms between packets. Each leg's story has one beginning and one end, and in the end
/// nothing is remembered.
pub fn run(recording: &[u8]) {
    let mut tracker = Tracker::default();
    let mut now = Now { tick: Tick(1_000_000), unix: UnixMillis(1_700_000_000_000) };
    let mut stories = Stories::default();
    for packet in packets(recording) {
        now = now.after(50);
        let mut events = Vec::new();
        tracker.poll(now, &mut events);
        observe(&mut tracker, packet, now, &mut events);
        stories.hear(&events);
        assert!(tracker.next_deadline().is_none_or(|at| at > now.tick), "what is due was done");
    }
    let mut steps = 0;
    while let Some(at) = tracker.next_deadline() {
        now = now.after((at - now.tick).max(1));
        let mut events = Vec::new();
        tracker.poll(now, &mut events);
        stories.hear(&events);
        steps += 1;
        assert!(steps < 100_000, "its deadlines never end");
    }
    assert!(tracker.is_empty(), "{} threads are kept for ever", tracker.len());
    assert!(stories.0.values().all(|ended| *ended), "a leg never ends");
}

/// The packets of a recording: each after its length (u32, big-endian).
pub fn packets(recording: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = recording;
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (packet, after) = after.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        rest = after;
        Some(packet)
    })
}

fn observe(tracker: &mut Tracker, packet: &[u8], now: Now, events: &mut Vec<PbxEvent>) {
    let Ok(packet) = hep::decode(packet) else { return };
    let Ok(message) = scan(packet.payload) else { return };
    let pbx = PbxId(uuid::Uuid::nil());
    let (source, destination) = (packet.source, packet.destination);
    let sighting = Sighting { message: &message, pbx, feed: FeedKind::Hep, source, destination, hop: Hop::Unknown };
    let _ = tracker.observe(now, &sighting, events);
}

/// Legs that were heard of, and whether they have ended.
#[derive(Default)]
struct Stories(HashMap<LegKey, bool>);

impl Stories {
    fn hear(&mut self, events: &[PbxEvent]) {
        for PbxEvent { leg, event, evidence, .. } in events {
            match event {
                LegEvent::Started(_) => assert_eq!(self.0.insert(leg.clone(), false), None, "{leg:?} starts twice"),
                LegEvent::Ended(_) => assert_eq!(self.0.insert(leg.clone(), true), Some(false), "{leg:?} ends anew"),
                _ => assert_eq!(self.0.get(leg), Some(&false), "{leg:?} is told of outside its time: {event:?}"),
            }
            assert!(evidence.len() < 1_000, "{evidence}");
        }
    }
}
