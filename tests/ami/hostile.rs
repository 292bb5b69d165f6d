//! Peers that mean no good: whatever they send costs bounded memory and time, and other feeds go on.

use std::time::{Duration, Instant};

use hookswitch::config::Tls;
use hookswitch::ingest::asterisk::codec::{Codec, Frame};
use hookswitch::ingest::asterisk::decode::Decoder;
use hookswitch::model::CallState;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use super::server::{Office, Server};
use super::told::{NOW, PBX};

#[tokio::test]
async fn a_line_without_end_ends_the_session() {
    let (office, server) = (Office::open().await, Server::listen().await);
    office.follow("asterisk", &server.address(), Tls::Off);
    let mut peer = server.let_in().await;
    let flood = tokio::spawn(async move { while peer.stream.write_all(&vec![b'x'; 65_536]).await.is_ok() {} });
    let (error, _) = office.failed("asterisk").await;
    assert!(error.contains("a line without end"), "{error}");
    flood.await.expect("it was cut off");
}

#[tokio::test]
async fn garbage_is_survived() {
    let (office, server) = (Office::open().await, Server::listen().await);
    office.follow("asterisk", &server.address(), Tls::Off);
    let mut peer = server.let_in().await;
    peer.snapshot("").await;
    let garbage: Vec<u8> = (0..200_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[1]).collect();
    peer.send(garbage).await;
    peer.send("\r\n\r\nEvent: Newchannel\r\nChannel: SIP/trunk-01\r\nChannelState: 4\r\nUniqueid: 5.1\r\n\r\n").await;
    office.call(CallState::Calling).await;
}

#[tokio::test]
async fn silence_after_the_login_is_noticed() {
    let (office, server) = (Office::open().await, Server::listen().await);
    office.follow("asterisk", &server.address(), Tls::Off);
    let _silent = server.let_in().await;
    let (error, _) = office.failed("asterisk").await;
    assert!(error.contains("does not answer"), "{error}");
}

#[tokio::test]
async fn a_flood_on_one_feed_leaves_another_its_turn() {
    let (office, bad, good) = (Office::open().await, Server::listen().await, Server::listen().await);
    office.follow("bad", &bad.address(), Tls::Off);
    let mut flooding = bad.let_in().await;
    let events =
        "Event: VarSet\r\nChannel: PJSIP/x-1\r\nVariable: A\r\nValue: B\r\nUniqueid: 1.1\r\n\r\n".repeat(1_000);
    let flood = tokio::spawn(async move { while flooding.stream.write_all(events.as_bytes()).await.is_ok() {} });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let began = Instant::now();
    office.follow("good", &good.address(), Tls::Off);
    let mut peer = good.let_in().await;
    peer.snapshot("").await;
    office.up("good").await;
    peer.send("Event: Newchannel\r\nChannel: SIP/trunk-01\r\nChannelState: 4\r\nUniqueid: 5.1\r\n\r\n").await;
    office.call(CallState::Calling).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let told = office.feed("bad").expect("it is there").events_per_second;
    assert!(told <= 40_000, "it is read no faster than that: {told}");
    flood.abort();
}

#[test]
fn channels_past_the_limit_are_left_out_and_counted() {
    let mut decoder = Decoder::new(PBX);
    let mut outputs = Vec::new();
    for number in 0..25_000 {
        let (name, id) = (format!("PJSIP/x-{number:x}"), format!("1.{number}"));
        let fields = [("Event", "Newchannel"), ("Channel", &*name), ("ChannelState", "0"), ("Uniqueid", &*id)];
        decoder.message(&fields.into(), NOW, &mut outputs);
        outputs.clear();
    }
    assert_eq!(decoder.dropped().channels, 5_000);
}

#[test]
fn numbers_at_the_end_of_their_range_are_survived() {
    let (mut codec, mut decoder, mut outputs) = (Codec::default(), Decoder::new(PBX), Vec::new());
    let texts = [
        "Event: Newchannel\r\nChannel: PJSIP/trunk-01\r\nChannelState: 4\r\nUniqueid: 1.1\r\n\r\n",
        "Event: QueueEntry\r\nQueue: sales\r\nPosition: 4294967295\r\nUniqueid: 1.1\r\nChannel: PJSIP/trunk-01\r\n\
         Wait: 18446744073709551615\r\n\r\nEvent: QueueStatusComplete\r\n\r\n",
        "Event: QueueCallerJoin\r\nQueue: sales\r\nPosition: 1\r\nUniqueid: 1.2\r\n\r\n",
        "Event: QueueCallerLeave\r\nQueue: sales\r\nUniqueid: 1.1\r\n\r\n",
    ];
    for (seconds, text) in (0..).zip(texts) {
        codec.push(text.as_bytes());
        while let Some(frame) = codec.next_frame() {
            if let Frame::Message(message) = frame {
                decoder.message(&message, NOW.after(seconds * 1_000), &mut outputs);
            }
        }
    }
    assert!(outputs.iter().any(|output| format!("{output:?}").contains("Unqueued")), "{outputs:#?}");
}

proptest! {
    #[test]
    fn nothing_that_arrives_makes_codec_or_decoder_stumble(pieces in prop::collection::vec(piece(), 0..60)) {
        let bytes = pieces.concat();
        let (mut codec, mut decoder) = (Codec::default(), Decoder::new(PBX));
        let mut outputs = Vec::new();
        for portion in bytes.chunks(61) {
            codec.push(portion);
            while let Some(frame) = codec.next_frame() {
                if let Frame::Message(message) = frame {
                    decoder.message(&message, NOW, &mut outputs);
                }
            }
        }
        decoder.connected(&mut outputs);
        decoder.all_ended(&mut outputs);
    }
}

/// Pieces that fit together often enough to get deep.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let key = prop::sample::select(vec![
        "Event",
        "Response",
        "ActionID",
        "Channel",
        "Uniqueid",
        "Linkedid",
        "DestChannel",
        "DestUniqueid",
        "ChannelState",
        "Queue",
        "Interface",
        "Position",
        "Cause",
        "AOR",
        "URI",
        "ContactStatus",
        "ObjectName",
        "TransfereeChannel",
        "TransfereeUniqueid",
        "SecondTransfererChannel",
        "SecondTransfererUniqueid",
        "Newname",
        "DialStatus",
        "Value",
    ]);
    let value = prop::sample::select(vec![
        "Newchannel",
        "Newstate",
        "DialBegin",
        "DialEnd",
        "Hangup",
        "Rename",
        "AttendedTransfer",
        "BlindTransfer",
        "Pickup",
        "QueueCallerJoin",
        "QueueCallerLeave",
        "AgentCalled",
        "QueueMemberAdded",
        "QueueEntry",
        "QueueStatusComplete",
        "CoreShowChannel",
        "CoreShowChannelsComplete",
        "ContactStatus",
        "ContactList",
        "ContactListComplete",
        "PJSIP/101-1",
        "PJSIP/trunk-2",
        "Local/1@x-1;1",
        "Local/1@x-1;2",
        "1.1",
        "1.2",
        "1.3",
        "4",
        "5",
        "6",
        "0",
        "4294967295",
        "sales",
        "ANSWER",
        "hookswitch-snapshot-end",
        "hookswitch-presentation-1.1",
        "Success",
        "sip:101@192.0.2.1",
        "",
    ]);
    prop_oneof![
        4 => (key, value).prop_map(|(key, value)| format!("{key}: {value}\r\n").into_bytes()),
        2 => Just(b"\r\n".to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}
