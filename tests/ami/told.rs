//! What a decoder says of some bytes, one line each.

use hookswitch::ingest::asterisk::codec::{Codec, Frame};
use hookswitch::ingest::asterisk::decode::{Decoder, Output};
use hookswitch::model::{Hop, LegEvent, LegStart, Now, PbxId, Tick, UnixMillis};
use hookswitch::registry::{ReportedContact, ReportedMember};
use uuid::Uuid;

pub const PBX: PbxId = PbxId(Uuid::from_u128(7));

/// Reads bytes portion by portion; questions are left out, since they are not asked here.
pub fn told<'a>(portions: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
    let (mut codec, mut decoder) = (Codec::default(), Decoder::new(PBX));
    let mut outputs = Vec::new();
    for bytes in portions {
        codec.push(bytes);
        while let Some(frame) = codec.next_frame() {
            if let Frame::Message(message) = frame {
                decoder.message(&message, NOW, &mut outputs);
            }
        }
    }
    outputs.iter().filter_map(line).collect()
}

/// The same for a text with bare line feeds, as it is nicer to write.
pub fn told_of(text: &str) -> Vec<String> {
    told([text.as_bytes()])
}

/// What is said of snapshots that are asked for one after the other.
pub fn told_snapshots(answers: &[&str]) -> Vec<String> {
    let mut decoder = Decoder::new(PBX);
    let mut outputs = Vec::new();
    for answer in answers {
        decoder.snapshot(&mut outputs);
        read(&mut decoder, answer, &mut outputs);
    }
    outputs.iter().filter_map(line).collect()
}

/// How many questions a text raises.
pub fn asked_of(text: &str) -> usize {
    let mut outputs = Vec::new();
    read(&mut Decoder::new(PBX), text, &mut outputs);
    outputs.iter().filter(|output| matches!(output, Output::Ask(_))).count()
}

fn read(decoder: &mut Decoder, text: &str, outputs: &mut Vec<Output>) {
    let mut codec = Codec::default();
    codec.push(text.as_bytes());
    while let Some(frame) = codec.next_frame() {
        if let Frame::Message(message) = frame {
            decoder.message(&message, NOW, outputs);
        }
    }
}

fn line(output: &Output) -> Option<String> {
    Some(match output {
        Output::Leg(event) => {
            let leg = short(&event.leg.0);
            format!("{leg} {} | {}", leg_event(&event.event), event.evidence)
        }
        Output::Legs(legs) => {
            let mut legs: Vec<&str> = legs.iter().map(|leg| short(&leg.0)).collect();
            legs.sort_unstable();
            format!("live {}", legs.join(" "))
        }
        Output::Contacts { user, contacts, complete } => {
            format!("contacts of {user}{}: {}", if *complete { "" } else { " among others" }, list(contacts, contact))
        }
        Output::AllContacts(all) => {
            format!("all contacts: {}", list(all, |(user, contacts)| format!("{user} [{}]", list(contacts, contact))))
        }
        Output::ContactGone { user, uri } => format!("contact of {user} gone: {uri}"),
        Output::Reachability { user, uri, reachable, rtt_us } => {
            format!("{user} {} reachable {reachable:?} {rtt_us:?}", uri.as_deref().unwrap_or("as a whole"))
        }
        Output::Endpoints(users) => format!("extensions {}", users.join(" ")),
        Output::Queues(queues) => {
            format!("queues {}", list(queues, |queue| format!("{} [{}]", queue.name, list(&queue.members, member))))
        }
        Output::Member { queue, member: one } => format!("{queue}: {}", member(one)),
        Output::MemberGone { queue, user } => format!("{queue}: {user} gone"),
        Output::Ask(_) => return None,
        other => format!("{other:?}"),
    })
}

fn leg_event(event: &LegEvent) -> String {
    match event {
        LegEvent::Started(start) => format!("started {}", started(start)),
        LegEvent::Moved(call) => format!("moved to {}", short(call)),
        LegEvent::Queued(queued) => format!("queued in {} at {:?}", queued.queue, queued.position),
        LegEvent::Named(_) => "named".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}

fn started(start: &LegStart) -> String {
    let way = match start.hop {
        Hop::ToPbx => "in from",
        Hop::FromPbx => "out to",
        Hop::Unknown => "somehow with",
    };
    let endpoint = start.endpoint.as_ref().map_or("?", |endpoint| &endpoint.user);
    let caller = if start.caller.withheld { "withheld" } else { &start.caller.number };
    let queue = start.queue.as_ref().map(|queue| format!(" for queue {queue}")).unwrap_or_default();
    let named = if start.sip_call_id.is_some() { ", named" } else { "" };
    let (call, target) = (short(&start.call_key), &start.target.user);
    format!("{way} {endpoint}, {caller} dials {target}, call {call}{queue}{named}")
}

fn contact(contact: &ReportedContact) -> String {
    let received = contact.received.map_or("nowhere".to_owned(), |address| address.to_string());
    let until = if contact.expires_at.is_some() { "until some time" } else { "for ever" };
    let agent = contact.user_agent.as_deref().unwrap_or("?");
    format!("{} at {received} {until} by {agent} reachable {:?}", contact.uri, contact.reachable)
}

fn member(member: &ReportedMember) -> String {
    let paused = match (&member.pause_reason, member.paused) {
        (Some(reason), true) => format!(", paused for {reason}"),
        (None, true) => ", paused".to_owned(),
        (_, false) => String::new(),
    };
    let name = member.name.as_deref().unwrap_or("?");
    format!("{} ({name}) {:?} {:?} penalty {}{paused}", member.user, member.kind, member.state, member.penalty)
}

fn list<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    items.iter().map(show).collect::<Vec<_>>().join("; ")
}

/// `1795285354.7` is `.7` here: seconds differ from recording to recording.
fn short(key: &str) -> &str {
    key.rsplit_once('.').map_or(key, |(_, number)| number)
}

pub const NOW: Now = Now { tick: Tick(1_000_000), unix: UnixMillis(1_795_304_600_000) };
