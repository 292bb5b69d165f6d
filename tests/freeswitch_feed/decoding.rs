//! What the decoder makes of the recordings, without a daemon.

use std::collections::BTreeMap;

use hookswitch::ingest::freeswitch::codec::{Codec, Frame};
use hookswitch::ingest::freeswitch::decode::{Decoder, Output};
use hookswitch::ingest::freeswitch::exercise;
use hookswitch::ingest::freeswitch::question::Question;
use hookswitch::model::{Hop, LegEnd, LegEvent, LegKey, LegStart, Now, PbxId, Tick, UnixMillis};

use crate::recorded::{answers, bytes, frames, stamp};

/// A decoder with its own time and what it has said.
struct Bench {
    decoder: Decoder,
    now: Now,
    out: Vec<Output>,
}

impl Bench {
    fn new() -> Self {
        let now = Now { tick: Tick(1_000_000), unix: UnixMillis(1_795_287_000_000) };
        Self { decoder: Decoder::new(PbxId(uuid::Uuid::nil())), now, out: Vec::new() }
    }

    fn frame(&mut self, frame: &Frame) {
        if let Some(stamp) = stamp(frame) {
            let at = self.now.to_tick(UnixMillis(stamp / 1000)).max(self.now.tick);
            self.advance_to(at);
        }
        self.decoder.frame(frame, self.now, &mut self.out);
    }

    fn frames(&mut self, recording: &[(Vec<u8>, Frame)]) {
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

    fn advance(&mut self, milliseconds: u64) {
        self.advance_to(self.now.tick + milliseconds);
    }

    /// Answers everything it asks from `answers`, as well as it can.
    fn answer(&mut self, mut given: impl FnMut(&Question) -> String) {
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

    fn told(&self) -> Vec<String> {
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

fn decoded(name: &str) -> Vec<String> {
    let mut bench = Bench::new();
    bench.frames(&frames("json", name));
    bench.advance(5_000);
    bench.told()
}

#[test]
fn a_direct_call_that_is_answered() {
    let expected = [
        "A (-, +14155550100) calls 201 in A named",
        "B (201, +14155550100) is called as 201 in A on a port",
        "B named",
        "B rang",
        "A rang",
        "B answered",
        "A answered",
        "B ended bye",
        "A ended bye",
    ];
    assert_eq!(decoded("direct-answered"), expected);
    let tcp: Vec<String> = decoded("tcp-phone").into_iter().filter(|line| line.starts_with(['A', 'B'])).collect();
    assert_eq!(tcp, expected.map(|line| line.replace("201", "202")));
}

#[test]
fn a_direct_call_that_nobody_answers_and_one_whose_caller_gives_up() {
    let ended = |name: &str| decoded(name).into_iter().skip(5).collect::<Vec<_>>();
    assert_eq!(ended("direct-noanswer"), ["B ended cancelled", "A ended rejected(480)"]);
    assert_eq!(ended("direct-cancel"), ["A ended cancelled", "B ended cancelled"]);
}

#[test]
fn calls_inside_and_to_the_outside() {
    let internal = decoded("internal-call");
    assert_eq!(internal[..2], ["A (201, 201) calls 202 in A named", "B (202, 201) is called as 202 in A on a port",]);
    assert_eq!(internal[7..], ["B ended bye", "A ended bye"]);
    let outbound = decoded("outbound-answered");
    assert_eq!(
        outbound[..2],
        [
            "A (201, 201) calls 9+14155550123 in A named",
            "B (gateway/trunk, +14155550600) is called as +14155550123 in A on a port",
        ]
    );
}

#[test]
fn a_queue_call_belongs_to_its_caller_from_the_agents_first_event() {
    assert_eq!(
        decoded("queue-call"),
        [
            "A (-, +14155550100) calls 650 in A named",
            "A answered",
            "A waits in sales@default",
            "B (201, +14155550100) is called as 201 in A for sales@default on a port",
            "B named",
            "B rang",
            "B answered",
            "A unqueued",
            "B ended bye",
            "A ended bye",
        ]
    );
}

#[test]
fn of_two_agents_the_one_who_was_slower_was_called_in_vain() {
    let told = decoded("queue-ringall");
    let of = |leg: &str| told.iter().filter(|line| line.starts_with(leg)).map(String::as_str).collect::<Vec<_>>();
    let ends: Vec<&str> = told.iter().filter(|line| line.contains("ended")).map(String::as_str).collect();
    let (winner, loser) = if of("B").contains(&"B answered") { ("B", "C") } else { ("C", "B") };
    assert_eq!(
        ends,
        [format!("{loser} ended cancelledelsewhere"), "A ended bye".to_owned(), format!("{winner} ended bye"),]
    );
    assert!(told.iter().filter(|line| line.contains("in A for sales@default")).count() == 2, "{told:#?}");
}

#[test]
fn a_caller_who_gives_up_in_the_queue_cancels_before_the_agents_phone_falls_silent() {
    assert_eq!(decoded("queue-abandon")[6..], ["A cancelling", "B ended cancelled", "A unqueued", "A ended bye",]);
}

#[test]
fn an_agent_without_a_registration_makes_no_leg() {
    assert_eq!(
        decoded("queue-agent-unregistered"),
        [
            "A (-, +14155550100) calls 650 in A named",
            "A answered",
            "A waits in sales@default",
            "A unqueued",
            "A ended bye",
        ]
    );
}

#[test]
fn after_a_blind_transfer_the_call_goes_on_with_a_new_leg() {
    assert_eq!(
        decoded("blind-transfer")[6..],
        [
            "B answered",
            "A unqueued",
            "B referred",
            "B ended bye",
            "C (202, +14155550100) is called as 202 in A on a port",
            "C named",
            "C rang",
            "C answered",
            "C ended bye",
            "A ended bye",
        ]
    );
}

#[test]
fn registrations_come_and_go() {
    assert_eq!(
        decoded("register"),
        ["201 at sip:201-0x55fea709cec0@127.0.0.1:5181", "202 at sip:202-0x5606b0b66ec0@127.0.0.1:5183",]
    );
    let contact = "sip:201-0x561d53c8bec0@127.0.0.1:5181";
    assert_eq!(decoded("unregister"), [format!("201 at {contact}"), format!("201 not at {contact}")]);
    let contact = "sip:201-0x55c939d09ec0@127.0.0.1:5181";
    assert_eq!(decoded("register-expiry"), [format!("201 at {contact}"), format!("201 not at {contact}")]);
    assert_eq!(decoded("register-refresh").len(), 3);
    assert_eq!(decoded("reg-badpass"), [""; 0]);
}

#[test]
fn the_status_of_an_agent_is_that_of_its_member() {
    let recorded = answers("agent-tiers");
    let mut bench = Bench::new();
    bench.decoder.poll_queues(false, &mut bench.out);
    let list = |command: &str| recorded[command][0].clone();
    bench.answer(|question| match question {
        Question::Queues => answers("queue-ringall")["api callcenter_config queue list"][0].clone(),
        Question::Agents => list("api callcenter_config agent list"),
        _ => list("api callcenter_config tier list"),
    });
    bench.out.clear();
    bench.frames(&frames("json", "agent-status"));
    let sales: Vec<String> =
        bench.told().into_iter().filter_map(|line| line.strip_prefix("sales@default: ").map(str::to_owned)).collect();
    assert_eq!(
        sales,
        [
            "201 Free paused",
            "201 Free",
            "201 Free",
            "201 LoggedOut",
            "201 Free",
            "201 Unavailable",
            "201 Free",
            "201 Free",
        ]
    );
}

#[test]
fn both_formats_tell_the_same() {
    for name in ["queue-call", "register", "agent-status"] {
        let (mut json, mut plain) = (Bench::new(), Bench::new());
        json.frames(&frames("json", name));
        // The connection with JSON had not asked for early media.
        let asked_for =
            |frame: &Frame| !matches!(frame, Frame::Event(event) if event.name() == "CHANNEL_PROGRESS_MEDIA");
        frames("plain", name).iter().filter(|(_, frame)| asked_for(frame)).for_each(|(_, frame)| plain.frame(frame));
        json.advance(5_000);
        plain.advance(5_000);
        assert_eq!(json.told(), plain.told(), "{name}");
        let legs = |out: &[Output]| out.iter().filter(|o| matches!(o, Output::Leg(_))).cloned().collect::<Vec<_>>();
        assert_eq!(legs(&json.out), legs(&plain.out), "{name}: the same facts as well");
    }
}

#[test]
fn it_is_the_same_whole_in_pieces_and_cut_short() {
    for name in ["queue-ringall", "blind-transfer", "register-expiry"] {
        let bytes = bytes(&format!("esl-json-{name}.txt"));
        let read = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let (mut codec, mut bench) = (Codec::default(), Bench::new());
            for piece in pieces {
                codec.push(piece);
                while let Some(frame) = codec.take().unwrap() {
                    bench.frame(&frame);
                }
            }
            bench.out
        };
        let whole = read(&mut std::iter::once(bytes.as_slice()));
        for step in [1, 1_448, 65_536] {
            assert_eq!(read(&mut bytes.chunks(step)), whole, "{name} in pieces of {step}");
        }
        for cut in [bytes.len() / 7, bytes.len() / 3, bytes.len() - 1] {
            let short = read(&mut std::iter::once(&bytes[..cut]));
            assert!(whole.starts_with(&short), "{name} cut at {cut}");
        }
    }
}

#[test]
fn channels_that_were_there_before_are_found_by_asking() {
    let recorded = answers("direct-answered");
    let mut bench = Bench::new();
    bench.decoder.connected(&mut bench.out);
    bench.answer(|question| match question {
        Question::Channels => recorded["api show channels as json"].last().unwrap().clone(),
        Question::Channel(uuid) => recorded[&format!("api uuid_dump {uuid} json")].last().unwrap().clone(),
        _ => "-ERR not here\n".to_owned(),
    });
    bench.advance(5_000);
    let mut told = bench.told();
    let live = told.pop().unwrap();
    told.sort();
    assert_eq!(told.iter().filter(|line| line.contains("answered")).count(), 2, "{told:#?}");
    assert_eq!(told.iter().filter(|line| line.contains(") ")).count(), 2, "{told:#?}");
    assert_eq!(live, "live: AB");
}

#[test]
fn a_channel_that_a_list_lacks_is_gone_only_after_a_grace_and_a_young_one_never() {
    let mut bench = Bench::new();
    let recording = frames("json", "direct-answered");
    let created = recording.iter().position(|(_, frame)| stamp(frame).is_some()).unwrap() + 2;
    bench.frames(&recording[..created]);
    bench.out.clear();
    let empty = |question: &Question| match question {
        Question::Channels => "{\"row_count\": 0}\n".to_owned(),
        _ => "-ERR\n".to_owned(),
    };
    bench.decoder.snapshot(&mut bench.out);
    bench.answer(empty);
    bench.advance(5_000);
    assert_eq!(bench.told(), ["live: AB"], "they are younger than the list may be");
    bench.out.clear();
    bench.decoder.snapshot(&mut bench.out);
    bench.answer(empty);
    assert_eq!(bench.told(), [""; 0], "their ends may still be on their way");
    bench.advance(5_000);
    assert_eq!(bench.told(), ["live: "]);
}

#[test]
fn a_new_core_is_looked_at_from_the_start() {
    let mut bench = Bench::new();
    bench.frames(&frames("json", "register"));
    bench.out.clear();
    let other = frames("json", "internal-call");
    bench.frame(&other.iter().find(|(_, frame)| stamp(frame).is_some()).unwrap().1);
    assert!(bench.out.contains(&Output::Ask(Question::Channels)), "{:#?}", bench.out);
}

#[test]
fn an_answer_that_is_cut_short_or_refused_makes_nothing_go_away() {
    let mut bench = Bench::new();
    let recording = frames("json", "direct-answered");
    recording.iter().take(6).for_each(|(_, frame)| bench.frame(frame));
    bench.advance(60_000);
    bench.out.clear();
    for nonsense in ["-ERR permission denied", "", "{\"row_count\":5", "+OK", "garbage\u{fffd}", "====\n====\n"] {
        bench.decoder.connected(&mut bench.out);
        bench.answer(|_| nonsense.to_owned());
        bench.advance(5_000);
    }
    assert!(!bench.out.iter().any(|o| matches!(o, Output::Live(_) | Output::AllContacts(..))), "{:#?}", bench.out);
}

#[test]
fn bytes_that_were_tampered_with_do_no_harm() {
    let mut random = 7_u64;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(random >> 33).unwrap() % below
    };
    let files =
        ["esl-json-register.txt", "esl-plain-agent-status.txt", "esl-agent-tiers.actions.txt", "esl-protocol.txt"];
    for file in files {
        let whole = bytes(file);
        exercise(&whole);
        for _ in 0..150 {
            let mut bytes = whole.clone();
            for _ in 0..=next(8) {
                let at = next(bytes.len());
                match next(4) {
                    0 => bytes[at] = u8::try_from(next(256)).unwrap(),
                    1 => drop(bytes.drain(at..(at + next(40)).min(bytes.len()))),
                    2 => bytes.insert(at, b'\n'),
                    _ => bytes.truncate(at.max(1)),
                }
            }
            exercise(&bytes);
        }
    }
}

/// A plain event.
fn event(name: &str, fields: &str) -> Frame {
    let body = format!("Event-Name: {name}\n{fields}\n\n");
    let text = format!("Content-Type: text/event-plain\nContent-Length: {}\n\n{body}", body.len());
    crate::recorded::cut(text.as_bytes()).remove(0).1
}

/// A channel that a phone made, or that the PBX made for the leg `of`.
fn created(uuid: &str, of: Option<&str>, at: u64, more: &str) -> Frame {
    let way = if of.is_some() { "outbound" } else { "inbound" };
    let originator = of.map(|of| format!("variable_originator: {of}\n")).unwrap_or_default();
    let fields = format!(
        "Unique-ID: {uuid}\nCall-Direction: {way}\nCaller-Channel-Created-Time: {at}\n{originator}\
         Channel-Call-UUID: {}\n{more}",
        of.unwrap_or(uuid)
    );
    event("CHANNEL_CREATE", fields.trim_end())
}

fn bridged(own: &str, other: &str) -> Frame {
    event(
        "CHANNEL_BRIDGE",
        &format!(
            "Unique-ID: {own}\nBridge-A-Unique-ID: {own}\nBridge-B-Unique-ID: {other}\nOther-Leg-Unique-ID: {other}"
        ),
    )
}

#[test]
fn after_an_attended_transfer_the_new_leg_is_in_the_old_call() {
    let mut bench = Bench::new();
    // a calls b; the phone behind b consults (c calls d) and connects a with d. The event is d's.
    bench.frame(&created("a", None, 1_000, ""));
    bench.frame(&created("b", Some("a"), 1_001, ""));
    bench.frame(&created("c", None, 9_000, ""));
    bench.frame(&created("d", Some("c"), 9_001, ""));
    bench.frame(&event("CHANNEL_ANSWER", "Unique-ID: c"));
    bench.frame(&event("CHANNEL_ANSWER", "Unique-ID: b"));
    bench.frame(&bridged("d", "a"));
    let consulted = "Unique-ID: c\nHangup-Cause: NORMAL_CLEARING\nvariable_endpoint_disposition: ATTENDED_TRANSFER";
    bench.frame(&event("CHANNEL_HANGUP_COMPLETE", consulted));
    let first = "Unique-ID: b\nHangup-Cause: NORMAL_CLEARING\nvariable_transfer_to: att%3Ad";
    bench.frame(&event("CHANNEL_HANGUP_COMPLETE", first));
    assert_eq!(bench.told()[6..], ["D moves to A", "C referred", "C ended bye", "B referred", "B ended bye",]);
}

#[test]
fn a_pick_up_takes_the_older_call_and_the_phone_that_rang_was_called_in_vain() {
    let mut bench = Bench::new();
    bench.frame(&created("a", None, 1_000, ""));
    bench.frame(&created("b", Some("a"), 1_001, ""));
    bench.frame(&created("c", None, 5_000, ""));
    // Which of the two legs the event is about says nothing.
    bench.frame(&bridged("c", "a"));
    bench.frame(&event("CHANNEL_HANGUP_COMPLETE", "Unique-ID: b\nHangup-Cause: PICKED_OFF"));
    assert_eq!(bench.told()[3..], ["C moves to A", "B ended cancelledelsewhere"]);
}

#[test]
fn a_click_to_dial_is_one_call_although_the_pbx_calls_both_ends() {
    let mut bench = Bench::new();
    bench.frame(&event("CHANNEL_CREATE", "Unique-ID: a\nCall-Direction: outbound\nCaller-Channel-Created-Time: 1000"));
    bench.frame(&event("CHANNEL_ANSWER", "Unique-ID: a"));
    bench.frame(&created("b", Some("a"), 2_000, ""));
    bench.frame(&bridged("a", "b"));
    let told = bench.told();
    assert!(told[0].contains("is called as") && told[2].contains("in A"), "{told:#?}");
    assert_eq!(told.len(), 3, "{told:#?}");
}

#[test]
fn behind_a_loopback_is_the_phone_and_nothing_else_is_told() {
    let mut bench = Bench::new();
    bench.frame(&created("a", None, 1_000, ""));
    bench.frame(&created("l1", Some("a"), 1_001, "Channel-Name: loopback/201-a"));
    let other = "Channel-Name: loopback/201-b\nvariable_other_loopback_leg_uuid: l1";
    bench.frame(&created("l2", None, 1_002, other));
    bench.frame(&created("p", Some("l2"), 1_003, "variable_dialed_user: 201"));
    let told = bench.told();
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(told[1].starts_with("B (201, ") && told[1].contains(" in A"), "{told:#?}");
}

#[test]
fn a_queue_that_gives_up_on_its_caller_is_no_caller_who_gives_up() {
    let queue = |action: &str, more: &str| {
        let fields = format!(
            "Event-Subclass: callcenter%3A%3Ainfo\nCC-Action: {action}\nCC-Queue: sales\nCC-Member-Session-UUID: a{more}"
        );
        event("CUSTOM", &fields)
    };
    let mut bench = Bench::new();
    bench.frame(&created("a", None, 1_000, ""));
    bench.frame(&queue("member-queue-start", ""));
    bench.frame(&created("b", Some("a"), 2_000, ""));
    bench.frame(&event("CHANNEL_HANGUP_COMPLETE", "Unique-ID: b\nHangup-Cause: ORIGINATOR_CANCEL"));
    bench.frame(&queue("member-queue-end", "\nCC-Cause: Cancel\nCC-Cancel-Reason: TIMEOUT"));
    assert_eq!(bench.told()[3..], ["B ended cancelled", "A unqueued"]);
}

#[test]
fn callers_who_wait_are_found_by_asking_and_those_who_abandoned_are_not() {
    let recorded = answers("queue-ringall");
    let list = &recorded["api callcenter_config queue list members sales@default"];
    let mut bench = Bench::new();
    let recording = frames("json", "queue-ringall");
    let upto = recording
        .iter()
        .position(|(_, frame)| matches!(frame, Frame::Event(e) if e.name() == "CHANNEL_ANSWER"))
        .unwrap();
    bench.frames(&recording[..=upto]);
    bench.out.clear();
    let waiting = Question::Waiting("sales@default".into());
    bench.decoder.answer(&waiting, &list[0], bench.now, bench.now, &mut bench.out);
    assert_eq!(bench.told(), ["A waits in sales@default"]);
    bench.out.clear();
    bench.advance(10_000);
    // The same caller has been answered since.
    bench.decoder.answer(&waiting, list.last().unwrap(), bench.now, bench.now, &mut bench.out);
    assert_eq!(bench.told(), ["A unqueued"]);
}
