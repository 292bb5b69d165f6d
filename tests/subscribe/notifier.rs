//! A notifier that says exactly what a test wants.

use std::time::Duration;

use serde_json::Value;

use crate::support::api::{Api, items};
use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::phone::Phone;
use crate::support::wait::until;

/// The value of a header.
fn header<'m>(message: &'m str, name: &str) -> &'m str {
    let value = message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    value.unwrap_or_else(|| panic!("no {name} in\n{message}"))
}

fn response(request: &str, status: &str, headers: &str) -> String {
    format!(
        "SIP/2.0 {status}\r\nVia: {}\r\nFrom: {}\r\nTo: {};tag=pbx\r\nCall-ID: {}\r\nCSeq: {}\r\n{headers}Content-Length: 0\r\n\r\n",
        header(request, "Via"),
        header(request, "From"),
        header(request, "To").split(";tag").next().unwrap(),
        header(request, "Call-ID"),
        header(request, "CSeq"),
    )
}

fn notify(request: &str, cseq: u32, state: &str, body: &str) -> String {
    let to = header(request, "To").split(";tag").next().unwrap();
    let contact = header(request, "Contact").trim_matches(['<', '>']);
    format!(
        "NOTIFY {contact} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKnotify{cseq};rport\r\nMax-Forwards: 70\r\n\
         From: {to};tag=pbx\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {cseq} NOTIFY\r\nEvent: dialog\r\n\
         Subscription-State: {state}\r\nContact: <sip:pbx@127.0.0.1>\r\nContent-Type: application/dialog-info+xml\r\n\
         Content-Length: {}\r\n\r\n{body}",
        header(request, "From"),
        header(request, "Call-ID"),
        body.len(),
    )
}

fn rings(id: &str) -> String {
    format!(
        "<dialog-info version=\"0\" state=\"full\" entity=\"sip:101@pbx.example\"><dialog id=\"{id}\" direction=\"recipient\">\
         <state>early</state><remote><identity>sip:+14155550100@pbx.example</identity></remote></dialog></dialog-info>"
    )
}

async fn subscribed(pbx: &Phone) -> (std::net::SocketAddr, String) {
    let mut buffer = vec![0; 65_535];
    let wait = tokio::time::timeout(Duration::from_secs(10), pbx.socket.recv_from(&mut buffer)).await;
    let (length, from) = wait.expect("a SUBSCRIBE comes").unwrap();
    (from, String::from_utf8(buffer[..length].to_vec()).unwrap())
}

async fn the_call(api: &Api, state: &str) -> Value {
    until(&format!("a call is {state}"), async || {
        let calls = api.get("/v1/calls").await;
        items(&calls).iter().find(|call| call["state"] == state).cloned()
    })
    .await
}

async fn scene(folder: &Folder) -> (Phone, Daemon) {
    let pbx = Phone::near("127.0.0.1:0".parse().unwrap()).await;
    let settings = format!(
        "[feeds.subscription]\naddress = \"{}\"\ndomain = \"pbx.example\"\ndialogs = [\"101\"]\nsnapshot_s = 5\n",
        pbx.local
    );
    let daemon = Daemon::start_with(folder, &settings).await;
    (pbx, daemon)
}

#[tokio::test]
async fn it_refreshes_recovers_and_unsubscribes_when_it_stops() {
    let folder = Folder::new("notifier");
    let (pbx, mut daemon) = scene(&folder).await;
    let api = daemon.api();
    let (peer, first) = subscribed(&pbx).await;
    assert!(first.starts_with("SUBSCRIBE sip:101@pbx.example SIP/2.0"), "{first}");
    pbx.tell(peer, &response(&first, "200 OK", "Expires: 600\r\n")).await;
    let answer = pbx.ask(peer, &notify(&first, 1, "active;expires=600", &rings("a"))).await;
    assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
    the_call(&api, "ringing").await;
    let (_, refresh) = subscribed(&pbx).await;
    assert_eq!(header(&refresh, "Call-ID"), header(&first, "Call-ID"), "after snapshot_s, not only when it expires");
    pbx.tell(peer, &response(&refresh, "481 Gone", "")).await;
    let (_, second) = subscribed(&pbx).await;
    assert_ne!(header(&second, "Call-ID"), header(&first, "Call-ID"));
    let late = pbx.ask(peer, &notify(&first, 2, "active", "")).await;
    assert!(late.starts_with("SIP/2.0 481 "), "{late}");
    pbx.tell(peer, &response(&second, "200 OK", "Expires: 600\r\n")).await;
    pbx.ask(peer, &notify(&second, 1, "active;expires=600", &rings("a"))).await;
    assert_eq!(the_call(&api, "ringing").await["legs"].as_array().map(Vec::len), Some(1), "the same dialog as before");
    pbx.ask(peer, &notify(&second, 2, "active;expires=600", "")).await;
    the_call(&api, "ended").await;
    daemon.stop();
    let (_, last) = subscribed(&pbx).await;
    assert_eq!((header(&last, "Expires"), header(&last, "Call-ID")), ("0", header(&second, "Call-ID")));
}

#[tokio::test]
async fn after_a_restart_of_ours_a_call_that_still_rings_is_the_same_call() {
    let folder = Folder::new("notifier-restart");
    let (pbx, mut daemon) = scene(&folder).await;
    let (peer, first) = subscribed(&pbx).await;
    pbx.tell(peer, &response(&first, "200 OK", "Expires: 600\r\n")).await;
    pbx.ask(peer, &notify(&first, 1, "active;expires=600", &rings("101"))).await;
    let before = the_call(&daemon.api(), "ringing").await;
    daemon.restart().await;
    let again = loop {
        let (peer, request) = subscribed(&pbx).await;
        if header(&request, "Expires") != "0" {
            break (peer, request);
        }
    };
    pbx.tell(again.0, &response(&again.1, "200 OK", "Expires: 600\r\n")).await;
    pbx.ask(again.0, &notify(&again.1, 1, "active;expires=600", &rings("101"))).await;
    pbx.ask(again.0, &notify(&again.1, 2, "active;expires=600", &rings("101").replace("early", "confirmed"))).await;
    assert_eq!(the_call(&daemon.api(), "answered").await["id"], before["id"]);
}

#[tokio::test]
async fn garbage_and_hostile_bodies_are_counted_and_change_nothing() {
    let folder = Folder::new("notifier-hostile");
    let (pbx, daemon) = scene(&folder).await;
    let (peer, first) = subscribed(&pbx).await;
    pbx.tell(peer, &response(&first, "200 OK", "Expires: 600\r\n")).await;
    let bomb = "<!DOCTYPE d [<!ENTITY a \"aaaaaaaaaa\">]><dialog-info>&a;</dialog-info>";
    let deep = "<dialog-info>".repeat(2_000);
    for (cseq, body) in [(1, "nonsense"), (2, bomb), (3, deep.as_str())] {
        let answer = pbx.ask(peer, &notify(&first, cseq, "active;expires=600", body)).await;
        assert!(answer.starts_with("SIP/2.0 200 "), "it was delivered: {answer}");
    }
    pbx.ask(peer, &notify(&first, 4, "active;expires=600", &rings("a"))).await;
    the_call(&daemon.api(), "ringing").await;
    for reason in ["xml_malformed", "xml_document_type", "xml_too_large"] {
        assert!(daemon.metric("hookswitch_dropped_total", &format!("reason=\"{reason}\"")).await > 0.0, "{reason}");
    }
}
