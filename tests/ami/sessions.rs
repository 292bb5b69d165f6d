//! Following an Asterisk over a real socket: recordings played, connections cut, calls that end unseen, commands.

use std::fs;
use std::path::Path;
use std::time::Duration;

use hookswitch::config::Tls;
use hookswitch::model::{Call, CallState, LegEnd, LegState};
use hookswitch::registry::{Command, ControlRequest};
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;

use super::server::{Office, Peer, Server};
use super::support::wait::until;

#[tokio::test]
async fn a_recorded_queue_call_becomes_the_same_record_however_it_arrives() {
    let recorded = recording("asterisk22-queue-call");
    let mut records = Vec::new();
    for portion in [usize::MAX, 1, 1_000] {
        let (office, _server, mut peer) = followed().await;
        for bytes in recorded.chunks(portion.min(recorded.len())) {
            peer.send(bytes).await;
        }
        let keeps = tokio::spawn(peer.obey_on());
        let call = office.call(CallState::Ended).await;
        let legs = call.legs.iter().map(|leg| (leg.role, leg.end, leg.answered_at.is_some()));
        records.push((call.direction, call.outcome, legs.collect::<Vec<_>>(), office.calls().await.len()));
        keeps.abort();
    }
    assert_eq!(records[0], records[1]);
    assert_eq!(records[0], records[2]);
    assert_eq!(records[0].2.len(), 2);
}

#[tokio::test]
async fn a_recording_cut_in_the_middle_goes_on_over_the_next_connection() {
    let recorded = recording("asterisk22-direct-answered");
    let ringing = find(&recorded, b"Event: DialState");
    let (office, server, mut peer) = followed().await;
    peer.send(&recorded[..ringing + 40]).await;
    office.call(CallState::Ringing).await;
    drop(peer);
    let mut peer = server.let_in().await;
    let rest = find(&recorded[ringing..], b"\r\n\r\n") + ringing + 4;
    peer.send(&recorded[rest..]).await;
    let keeps = tokio::spawn(obey_without_lists(peer));
    let call = office.call(CallState::Ended).await;
    assert_eq!(office.calls().await.len(), 1, "it is one call");
    assert!(call.legs.iter().all(|leg| leg.end == Some(LegEnd::Bye)), "{:#?}", call.legs);
    keeps.abort();
}

#[tokio::test]
async fn calls_that_ended_while_nobody_listened_end_with_the_next_snapshot() {
    let (office, mut peer, _) = reconnected_in_mid_call().await;
    peer.snapshot("").await;
    let call = office.call(CallState::Ended).await;
    assert!(call.legs.iter().all(|leg| leg.end == Some(LegEnd::Lost)), "{:#?}", call.legs);
    assert!(call.legs.iter().all(|leg| leg.state == LegState::Ended));
}

#[tokio::test]
async fn a_call_that_went_on_while_nobody_listened_is_the_same_call_afterwards() {
    let (office, mut peer, before) = reconnected_in_mid_call().await;
    peer.snapshot(&LISTED.replace('\n', "\r\n")).await;
    let after = office.call(CallState::Answered).await;
    assert_eq!((before.id, office.calls().await.len()), (after.id, 1));
    assert_eq!(after.legs.len(), 2, "{:#?}", after.legs);
    drop(peer);
}

#[tokio::test]
async fn an_asterisk_that_shuts_down_has_no_calls() {
    let (office, _server, mut peer) = followed().await;
    peer.snapshot("").await;
    peer.send(CALL).await;
    office.call(CallState::Ringing).await;
    peer.send("Event: Shutdown\r\nShutdown: Cleanly\r\nRestart: False\r\n\r\n").await;
    office.call(CallState::Ended).await;
}

#[tokio::test]
async fn a_channel_is_asked_for_its_call_id_as_soon_as_it_is_there() {
    let (office, _server, mut peer) = followed().await;
    peer.snapshot("").await;
    peer.send("Event: Newchannel\r\nChannel: PJSIP/101-0000000a\r\nChannelState: 0\r\nUniqueid: 7.1\r\n\r\n").await;
    let asked = until("the question", async || {
        let asked = peer.asked().await;
        (asked["Action"] == "Getvar").then_some(asked)
    })
    .await;
    assert_eq!(asked["Channel"], "PJSIP/101-0000000a");
    assert_eq!(asked["Variable"], "CHANNEL(pjsip,call-id)");
    drop(office);
}

#[tokio::test]
async fn a_command_goes_to_the_pbx_and_counts_when_its_event_comes_back() {
    let (office, server) = (Office::open().await, Server::listen().await);
    office.may_be_changed(true);
    office.follow("asterisk", &server.address(), Tls::Off);
    let mut peer = server.let_in().await;
    peer.snapshot("").await;
    office.up("asterisk").await;
    let control = office.registry.feeds.control(office.pbx).expect("it takes commands");
    let pause = |reason: &str| Command::Pause {
        queue: Some("sales".into()),
        user: "101".into(),
        paused: true,
        reason: Some(reason.into()),
    };
    let (done, answer) = oneshot::channel();
    control.send(ControlRequest { command: pause("lunch"), done }).await.expect("it listens");
    let asked = peer.asked().await;
    let field = |key: &str| asked[key].as_str();
    assert_eq!((field("Action"), field("Queue"), field("Interface")), ("QueuePause", "sales", "PJSIP/101"));
    assert_eq!((field("Paused"), field("Reason")), ("true", "lunch"));
    peer.answer(&asked, "Success", "Message: Interface paused successfully\r\n").await;
    assert_eq!(answer.await.expect("an answer"), Ok(()));
    assert!(office.registry.queues.all().is_empty(), "nothing counts before the PBX says so");
    let event = "Event: QueueMemberPause\r\nQueue: sales\r\nInterface: PJSIP/101\r\nMemberName: Alice\r\nPaused: 1\r\n\
                 PausedReason: lunch\r\nMembership: static\r\nStatus: 1\r\n\r\n";
    peer.send(event).await;
    let reason = until("the event counts", async || {
        let queues = office.registry.queues.all();
        queues.first().and_then(|queue| queue.value.members.first().cloned()).and_then(|member| member.pause_reason)
    });
    assert_eq!(reason.await, "lunch");
    let (done, answer) = oneshot::channel();
    control.send(ControlRequest { command: pause("a\r\nAction: Originate"), done }).await.expect("it listens");
    assert!(answer.await.expect("an answer").is_err(), "a line break is refused before it is sent");
}

#[tokio::test]
async fn control_that_is_switched_on_or_off_holds_for_the_next_command() {
    let (office, server) = (Office::open().await, Server::listen().await);
    office.follow("asterisk", &server.address(), Tls::Off);
    let mut peer = server.let_in().await;
    let control = until("it takes commands", async || office.registry.feeds.control(office.pbx)).await;
    let order = |penalty| {
        let command = Command::SetPenalty { queue: "sales".into(), user: "101".into(), penalty };
        let (done, answer) = oneshot::channel();
        control.try_send(ControlRequest { command, done }).expect("it listens");
        answer
    };
    let off = order(1);
    peer.snapshot("").await;
    let why = off.await.expect("an answer").expect_err("control is off");
    assert!(why.contains("control is off"), "{why}");
    office.may_be_changed(true);
    // Nobody waits for this one any more, so it is not done behind anybody's back.
    drop(order(2));
    let on = order(3);
    let asked = peer.asked().await;
    let field = |key: &str| asked[key].as_str();
    assert_eq!((field("Action"), field("Queue"), field("Interface")), ("QueuePenalty", "sales", "PJSIP/101"));
    assert_eq!(field("Penalty"), "3", "the first that was sent");
    peer.answer(&asked, "Success", "Message: Interface penalty set successfully\r\n").await;
    assert_eq!(on.await.expect("an answer"), Ok(()));
    office.may_be_changed(false);
    assert!(order(4).await.expect("an answer").is_err());
}

#[tokio::test]
async fn tls_is_spoken_when_asked_for() {
    let (office, server) = (Office::open().await, Server::listen().await);
    office.follow("asterisk", &server.address(), Tls::Insecure);
    let mut peer = server.accept().await;
    let mut first = [0; 1];
    tokio::io::AsyncReadExt::read_exact(&mut peer.stream, &mut first).await.expect("a handshake");
    assert_eq!(first[0], 22, "a TLS handshake record comes first");
    peer.stream.shutdown().await.expect("a socket");
    let (error, _) = office.failed("asterisk").await;
    assert!(error.contains("TLS"), "{error}");
}

/// An office that follows a PBX, which has let it in.
async fn followed() -> (Office, Server, Peer) {
    let (office, server) = (Office::open().await, Server::listen().await);
    office.follow("asterisk", &server.address(), Tls::Off);
    let peer = server.let_in().await;
    (office, server, peer)
}

/// The same on its second connection: the first one broke while [`CALL`] rang.
async fn reconnected_in_mid_call() -> (Office, Peer, Call) {
    let (office, server, mut peer) = followed().await;
    peer.snapshot("").await;
    peer.send(CALL).await;
    let keeps = tokio::spawn(peer.obey_on());
    let call = office.call(CallState::Ringing).await;
    keeps.abort();
    let peer = server.let_in().await;
    (office, peer, call)
}

/// Answers what must be answered, and no list, as if the PBX were the recording.
async fn obey_without_lists(mut peer: Peer) {
    while let Some(asked) = peer.next_asked().await {
        peer.answer(&asked, "Success", "Ping: Pong\r\n").await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// What the recorded Asterisk sent after the login.
fn recording(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/ami").join(format!("{name}.ami"));
    let bytes = fs::read(path).expect("a fixture can be read");
    let accepted = find(&bytes, b"Authentication accepted\r\n\r\n");
    bytes[accepted + b"Authentication accepted\r\n\r\n".len()..].to_vec()
}

fn find(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).position(|window| window == part).expect("it is in the recording")
}

const CALL: &str = "Event: Newchannel\r\nChannel: SIP/trunk-01\r\nChannelState: 4\r\nCallerIDNum: +14155550100\r\n\
    Exten: 101\r\nUniqueid: 5.1\r\nLinkedid: 5.1\r\n\r\n\
    Event: Newchannel\r\nChannel: SIP/101-02\r\nChannelState: 0\r\nUniqueid: 5.2\r\nLinkedid: 5.1\r\n\r\n\
    Event: DialBegin\r\nChannel: SIP/trunk-01\r\nUniqueid: 5.1\r\nLinkedid: 5.1\r\nDestChannel: SIP/101-02\r\n\
    DestUniqueid: 5.2\r\nDestLinkedid: 5.1\r\nDialString: 101\r\n\r\n\
    Event: Newstate\r\nChannel: SIP/101-02\r\nChannelState: 5\r\nUniqueid: 5.2\r\nLinkedid: 5.1\r\n\r\n";
const LISTED: &str = "Event: CoreShowChannel\nChannel: SIP/trunk-01\nChannelState: 6\nUniqueid: 5.1\nLinkedid: 5.1\n\
    Application: Dial\n\nEvent: CoreShowChannel\nChannel: SIP/101-02\nChannelState: 6\nUniqueid: 5.2\nLinkedid: 5.1\n\
    Application: AppDial\nApplicationData: (Outgoing Line)\n\n";
