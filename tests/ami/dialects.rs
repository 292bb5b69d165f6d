//! What versions and distributions write differently, and what recordings mean in the terms of an office.

use super::captures::lines_of;
use super::told::{asked_of, told_of, told_snapshots};

fn has(lines: &[String], all: &[&str]) -> bool {
    lines.iter().any(|line| all.iter().all(|part| line.contains(part)))
}

#[test]
fn a_queue_call_names_its_queue_on_the_leg_that_rings() {
    let lines = lines_of("asterisk22-queue-call");
    assert!(has(&lines, &["queued in sales at Some(1)"]), "{lines:#?}");
    assert!(
        has(&lines, &["started out to 101, +14155550100 dials 101", "for queue sales", "AgentCalled"]),
        "{lines:#?}"
    );
    assert!(has(&lines, &["rang | AMI"]), "{lines:#?}");
    assert!(has(&lines, &["unqueued | AMI QueueCallerLeave sales"]), "{lines:#?}");
}

#[test]
fn a_member_behind_a_local_channel_rings_on_its_own_phone_only() {
    let lines = lines_of("asterisk22-fpbxqueue");
    assert!(!has(&lines, &[" started ", "Local/"]), "a Local channel is no leg: {lines:#?}");
    assert!(has(&lines, &["started out to 101, +14155550100", "for queue fpbx"]), "{lines:#?}");
    assert!(has(&lines, &["queues", "fpbx [101 (Alice Agent)"]), "{lines:#?}");
}

#[test]
fn one_of_a_ring_group_answers_and_the_other_was_cancelled_elsewhere() {
    for name in ["asterisk22-ringgroup", "asterisk22-localgroup", "asterisk22-queue-ringall"] {
        let lines = lines_of(name);
        assert_eq!(
            lines.iter().filter(|line| line.contains("ended(cancelledelsewhere)")).count(),
            1,
            "{name}: {lines:#?}"
        );
    }
}

#[test]
fn a_caller_who_gives_up_is_going_before_the_phone_stops_ringing() {
    for name in ["asterisk22-direct-cancel", "asterisk22-queue-abandon"] {
        let lines = lines_of(name);
        let at = |part: &str| lines.iter().position(|line| line.contains(part));
        let (going, stops) = (at("cancelling | AMI HangupRequest"), at("ended("));
        assert!(going.is_some() && going < stops, "{name}: {lines:#?}");
    }
}

#[test]
fn no_answer_busy_and_a_refusal_end_as_they_do_in_sip() {
    assert!(has(&lines_of("asterisk22-direct-noanswer"), &["ended(cancelled)"]));
    assert!(has(&lines_of("asterisk22-direct-busy"), &["ended(rejected(486))"]));
    assert!(has(&lines_of("asterisk22-queue-agent-reject"), &["ended(rejected(486))"]));
}

#[test]
fn a_phone_that_did_not_answer_its_queue_is_called_again_as_another_leg() {
    let lines = lines_of("asterisk22-queue-ringnoanswer");
    let rings = lines.iter().filter(|line| line.contains("started out to 101") && line.contains("for queue sales"));
    assert_eq!(rings.count(), 2, "{lines:#?}");
    assert_eq!(lines.iter().filter(|line| line.contains("queued in sales")).count(), 1, "{lines:#?}");
}

#[test]
fn a_blind_transfer_refers_the_transferer_and_its_target_rings_in_the_same_call() {
    let lines = lines_of("asterisk22-blind-transfer");
    let referred = lines.iter().position(|line| line.contains("referred | AMI BlindTransfer")).expect("it is told");
    let target = lines.iter().position(|line| line.contains("started out to 102")).expect("it rings");
    assert!(referred < target, "{lines:#?}");
    let call = |line: &str| line.split_once("call ").map(|(_, rest)| rest.split([' ', ',']).next().map(str::to_owned));
    let first = lines.iter().find(|line| line.contains("started in")).expect("the caller's leg");
    assert_eq!(call(first), call(&lines[target]), "{lines:#?}");
}

#[test]
fn an_attended_transfer_moves_the_target_into_the_first_call() {
    for (name, state) in [("asterisk22-refer-attended", "answered"), ("asterisk22-refer-blonde", "ringing")] {
        let lines = lines_of(name);
        let referred = lines.iter().filter(|line| line.contains("referred | AMI AttendedTransfer")).count();
        assert_eq!(referred, 2, "both legs of the transferer, {state}: {lines:#?}");
        let moves: Vec<&String> = lines.iter().filter(|line| line.contains(" moved to ")).collect();
        assert_eq!(moves.len(), 1, "once, whatever later events still show, {state}: {lines:#?}");
        assert!(moves[0].contains("AMI AttendedTransfer, PJSIP/102"), "{moves:?}");
    }
}

#[test]
fn a_pick_up_moves_the_picker_and_the_phone_it_was_taken_from_was_answered_elsewhere() {
    let lines = lines_of("asterisk22-pickup");
    let moves: Vec<&String> = lines.iter().filter(|line| line.contains(" moved to ")).collect();
    assert!(moves.len() == 1 && moves[0].contains("AMI Pickup, PJSIP/103"), "{lines:#?}");
    assert!(has(&lines, &["ended(cancelledelsewhere)", "PJSIP/101"]), "{lines:#?}");
}

#[test]
fn a_second_call_on_a_busy_phone_is_a_leg_of_its_own() {
    let lines = lines_of("asterisk22-callwaiting");
    assert_eq!(lines.iter().filter(|line| line.contains("started out to 101")).count(), 2, "{lines:#?}");
}

#[test]
fn a_caller_who_wants_no_name_has_none_on_any_leg() {
    let text = concat!(
        "Response: Success\nActionID: hookswitch-snapshot-clock\nPing: Pong\n\n",
        "Event: Newchannel\nChannel: PJSIP/trunk-00000001\nChannelState: 4\nCallerIDNum: +14155550100\n",
        "CallerIDName: Jane Caller\nExten: 101\nUniqueid: 1.1\nLinkedid: 1.1\n\n",
        "Event: Newchannel\nChannel: PJSIP/101-00000002\nChannelState: 0\nExten: s\nUniqueid: 1.2\nLinkedid: 1.1\n\n",
        "Event: DialBegin\nChannel: PJSIP/trunk-00000001\nUniqueid: 1.1\nLinkedid: 1.1\nCallerIDNum: +14155550100\n",
        "DestChannel: PJSIP/101-00000002\nDestUniqueid: 1.2\nDestLinkedid: 1.1\nDestConnectedLineNum: +14155550100\n",
        "DialString: 101\n\n",
    );
    let before = told_of(text);
    assert!(before.is_empty(), "nothing is told before it is known: {before:#?}");
    let answer = "Response: Success\nActionID: hookswitch-presentation-1.1\nVariable: CALLERID(num-pres)\n";
    let hidden = told_of(&format!("{text}{answer}Value: prohib_passed_screen\n\n"));
    assert_eq!(hidden.len(), 2, "{hidden:#?}");
    assert!(hidden.iter().all(|line| line.contains("withheld") && !line.contains("4155550100")), "{hidden:#?}");
    let shown = told_of(&format!("{text}{answer}Value: allowed_not_screened\n\n"));
    assert!(shown.iter().all(|line| line.contains("+14155550100")), "{shown:#?}");
    let refused = "Response: Error\nActionID: hookswitch-presentation-1.1\nMessage: No such channel\n\n";
    assert_eq!(told_of(&format!("{text}{refused}")).len(), 2, "an answer that says nothing holds nothing up");
}

#[test]
fn a_log_of_somebody_elses_session_waits_for_no_answers() {
    let text = "Event: Newchannel\nChannel: PJSIP/trunk-01\nChannelState: 4\nExten: 101\nUniqueid: 1.1\n\n";
    assert_eq!(told_of(text).len(), 1);
}

#[test]
fn members_are_told_by_old_versions_with_less_and_by_lists_with_other_names() {
    let lines = told_of(concat!(
        "Event: QueueMember\nQueue: sales\nName: Alice\nLocation: SIP/101\nMembership: dynamic\nPenalty: 3\nStatus: 1\n",
        "Paused: 0\n\n",
        "Event: QueueParams\nQueue: sales\n\nEvent: QueueStatusComplete\n\n",
        "Event: QueueMemberPaused\nQueue: sales\nLocation: SIP/101\nMemberName: Alice\nPaused: 1\nReason: lunch\n\n",
        "Event: QueueMemberPause\nQueue: sales\nInterface: SIP/101\nMemberName: Alice\nPaused: 0\nPausedReason:\n\n",
    ));
    assert_eq!(
        lines,
        [
            "queues sales [101 (Alice) Dynamic Free penalty 3]",
            "sales: 101 (Alice) Dynamic Free penalty 3, paused for lunch",
            "sales: 101 (Alice) Dynamic Free penalty 3",
        ]
    );
}

#[test]
fn who_waits_behind_one_who_leaves_moves_up() {
    let join = |id: &str, position: u32| {
        format!(
            "Event: Newchannel\nChannel: PJSIP/trunk-{id}\nChannelState: 4\nExten: 600\nUniqueid: 1.{id}\n\n\
             Event: QueueCallerJoin\nChannel: PJSIP/trunk-{id}\nUniqueid: 1.{id}\nQueue: sales\nPosition: {position}\n\n"
        )
    };
    let leave = "Event: QueueCallerLeave\nChannel: PJSIP/trunk-1\nUniqueid: 1.1\nQueue: sales\nPosition: 1\n\n";
    let lines = told_of(&format!("{}{}{}{leave}", join("1", 1), join("2", 2), join("3", 3)));
    let ends: Vec<&str> = lines.iter().rev().take(3).rev().map(|line| line.split(" | ").next().unwrap_or("")).collect();
    assert_eq!(ends, ["1 unqueued", "2 queued in sales at Some(1)", "3 queued in sales at Some(2)"], "{lines:#?}");
}

#[test]
fn a_chan_sip_peer_is_a_phone_and_one_with_a_fixed_address_is_a_trunk() {
    let lines = told_of(concat!(
        "Response: Error\nActionID: hookswitch-snapshot-endpoints\nMessage: Invalid/unknown command: PJSIPShowEndpoints.\n\n",
        "Response: Error\nActionID: hookswitch-snapshot-contacts\nMessage: Invalid/unknown command: PJSIPShowContacts.\n\n",
        "Event: PeerEntry\nChanneltype: SIP\nObjectName: 101\nIPaddress: 192.0.2.11\nIPport: 5061\nDynamic: yes\n",
        "Status: OK (12 ms)\n\n",
        "Event: PeerEntry\nChanneltype: SIP\nObjectName: 102\nIPaddress: -none-\nIPport: 0\nDynamic: yes\n",
        "Status: UNKNOWN\n\n",
        "Event: PeerEntry\nChanneltype: SIP\nObjectName: trunk\nIPaddress: 192.0.2.1\nIPport: 5060\nDynamic: no\n",
        "Status: Unmonitored\n\n",
        "Event: PeerlistComplete\n\n",
        "Event: PeerStatus\nChannelType: SIP\nPeer: SIP/102\nPeerStatus: Registered\nAddress: 192.0.2.12:5060\n\n",
        "Event: PeerStatus\nChannelType: SIP\nPeer: SIP/102\nPeerStatus: Unreachable\nTime: -1\n\n",
        "Event: PeerStatus\nChannelType: SIP\nPeer: SIP/102\nPeerStatus: Unregistered\n\n",
    ));
    assert_eq!(
        lines,
        [
            "extensions 101 102",
            "all contacts: 101 [sip:101@192.0.2.11:5061 at 192.0.2.11:5061 for ever by ? reachable Some(true)]",
            "contacts of 102: sip:102@192.0.2.12:5060 at 192.0.2.12:5060 for ever by ? reachable None",
            "102 as a whole reachable Some(false) None",
            "contacts of 102: ",
        ]
    );
}

#[test]
fn a_version_that_lists_no_contacts_is_asked_endpoint_by_endpoint() {
    let lines = told_of(concat!(
        "Event: EndpointList\nObjectName: 101\nAor: 101\nAuths: 101\n\n",
        "Event: EndpointListComplete\n\n",
        "Response: Error\nActionID: hookswitch-snapshot-contacts\nMessage: Invalid/unknown command: PJSIPShowContacts.\n\n",
        "Response: Error\nActionID: hookswitch-snapshot-peers\nMessage: Invalid/unknown command: SIPpeers.\n\n",
        "Event: ContactStatusDetail\nActionID: hookswitch-endpoint-101\nAOR: 101\nURI: sip:101@192.0.2.11\n",
        "UserAgent: Phone/1.0\nRegExpire: 1795304660\nViaAddress: 192.0.2.11:5060\nStatus: Reachable\n",
        "RoundtripUsec: 1200\n\n",
        "Event: EndpointDetailComplete\nActionID: hookswitch-endpoint-101\n\n",
    ));
    assert_eq!(
        lines,
        [
            "extensions 101",
            "contacts of 101: sip:101@192.0.2.11 at 192.0.2.11:5060 until some time by Phone/1.0 reachable Some(true)",
        ]
    );
}

#[test]
fn every_snapshot_tells_the_phones_once_and_as_they_are() {
    let snapshot = concat!(
        "Event: EndpointList\nObjectName: 101\nAor: 101\nAuths: 101\n\nEvent: EndpointListComplete\n\n",
        "Event: ContactList\nObjectName: 101;@0e94\nUri: sip:101@192.0.2.11\nExpirationTime: 1795304660\n\n",
        "Event: ContactListComplete\n\n",
        "Response: Error\nActionID: hookswitch-snapshot-peers\nMessage: Invalid/unknown command: SIPpeers.\n\n",
    );
    let lines = told_snapshots(&[snapshot, snapshot, snapshot]);
    let told: Vec<&String> = lines.iter().filter(|line| line.starts_with("all contacts")).collect();
    assert!(told.len() == 3 && told.iter().all(|line| line.contains("sip:101@192.0.2.11")), "{lines:#?}");
}

#[test]
fn a_call_id_that_was_not_there_yet_is_asked_for_again_when_the_phone_rings() {
    let made = "Event: Newchannel\nChannel: PJSIP/101-02\nChannelState: 0\nUniqueid: 1.2\n\n";
    let rings = concat!(
        "Event: DialBegin\nDestChannel: PJSIP/101-02\nDestChannelState: 0\nDestUniqueid: 1.2\nDialString: 101\n\n",
        "Event: Newstate\nChannel: PJSIP/101-02\nChannelState: 5\nUniqueid: 1.2\n\n",
    );
    let nothing = "Response: Success\nActionID: hookswitch-call-id-1.2\nVariable: CHANNEL(pjsip,call-id)\nValue: \n\n";
    assert_eq!(asked_of(made), 1);
    assert_eq!(asked_of(&format!("{made}{nothing}")), 1, "nothing has changed yet");
    assert_eq!(asked_of(&format!("{made}{nothing}{rings}")), 2);
    assert_eq!(asked_of(&format!("{made}{rings}{nothing}")), 2);
    assert_eq!(asked_of(&format!("{made}{rings}{}", nothing.repeat(20))), 4, "and not for ever");
}

#[test]
fn an_endpoint_with_another_name_than_its_address_of_record_is_the_address_of_record() {
    let lines = told_of(concat!(
        "Event: EndpointList\nObjectName: desk-alice\nAor: 101\nAuths: 101\n\nEvent: EndpointListComplete\n\n",
        "Event: Newchannel\nChannel: PJSIP/desk-alice-0000000a\nChannelState: 4\nCallerIDNum: 101\nExten: 102\n",
        "Uniqueid: 1.1\n\n",
    ));
    assert!(has(&lines, &["started in from 101, 101 dials 102"]), "{lines:#?}");
}

#[test]
fn a_snapshot_ends_what_it_misses_only_after_the_news_of_its_end_could_have_come() {
    let start = "Event: Newchannel\nChannel: PJSIP/trunk-01\nChannelState: 4\nExten: 101\nUniqueid: 1.1\n\n\
                 Event: Newchannel\nChannel: PJSIP/trunk-02\nChannelState: 4\nExten: 101\nUniqueid: 1.2\n\n";
    let list = "Event: CoreShowChannelsComplete\n\n";
    let news = "Event: Hangup\nChannel: PJSIP/trunk-01\nUniqueid: 1.1\nCause: 17\nCause-txt: User busy\n\n";
    let end = "Response: Success\nActionID: hookswitch-snapshot-end\nPing: Pong\n\n";
    let lines = told_of(&format!("{start}{list}{news}{end}"));
    assert!(has(&lines, &["1 ended(rejected(486))"]), "the news that were on their way count: {lines:#?}");
    assert_eq!(lines.last().map(String::as_str), Some("Settled"));
    assert!(lines.contains(&"live ".to_owned()), "the other one is not among the living: {lines:#?}");
}

#[test]
fn a_channel_found_in_a_snapshot_is_told_with_the_state_it_is_in() {
    let lines = told_of(concat!(
        "Event: QueueParams\nQueue: sales\n\n",
        "Event: QueueEntry\nQueue: sales\nPosition: 1\nChannel: PJSIP/trunk-01\nUniqueid: 1.1\nWait: 7\n\n",
        "Event: QueueStatusComplete\n\n",
        "Event: CoreShowChannel\nChannel: PJSIP/101-02\nChannelState: 5\nConnectedLineNum: +14155550100\n",
        "Uniqueid: 1.2\nLinkedid: 1.1\nApplication: AppQueue\nApplicationData: (Outgoing Line)\n\n",
        "Event: CoreShowChannel\nChannel: PJSIP/trunk-01\nChannelState: 6\nCallerIDNum: +14155550100\nExten: 600\n",
        "Uniqueid: 1.1\nLinkedid: 1.1\nApplication: Queue\n\n",
        "Event: CoreShowChannelsComplete\n\n",
    ));
    let legs: Vec<&str> = lines.iter().skip(1).map(|line| line.split(" | ").next().unwrap_or("")).collect();
    assert_eq!(
        legs,
        [
            "1 started in from trunk, +14155550100 dials 600, call 1",
            "1 queued in sales at Some(1)",
            "1 answered",
            "2 started out to 101, +14155550100 dials 101, call 1 for queue sales",
            "2 rang",
        ]
    );
}
