//! What the decoder makes of the recordings, without a daemon.

use hookswitch::ingest::freeswitch::codec::{Codec, Frame};
use hookswitch::ingest::freeswitch::decode::Output;
use hookswitch::ingest::freeswitch::exercise;
use hookswitch::ingest::freeswitch::question::Question;

use crate::bench::{Bench, decoded};
use crate::recorded::{answers, bytes, frames};

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
