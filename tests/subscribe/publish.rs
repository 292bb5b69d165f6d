//! What a PBX publishes of itself (RFC 3903) to a replica listener.

use serde_json::Value;

use crate::office::DOMAIN;
use crate::support::api::{Api, items};
use crate::support::baresip::{Account, Phone as Baresip};
use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::kamailio::Kamailio;
use crate::support::phone::{Phone, status};
use crate::support::sipp::Scenario;
use crate::support::wait::until;

fn publish(pbx: &Phone, cseq: u32, event: &str, headers: &str, body: &str) -> String {
    format!(
        "PUBLISH sip:101@office.example SIP/2.0\r\nVia: SIP/2.0/UDP {};rport;branch=z9hG4bKp{cseq}\r\nMax-Forwards: 70\r\n\
         From: <sip:101@office.example>;tag=p\r\nTo: <sip:101@office.example>\r\nCall-ID: p{cseq}@pbx.example\r\n\
         CSeq: {cseq} PUBLISH\r\nEvent: {event}\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        pbx.local,
        body.len()
    )
}

fn dialog(state: &str) -> String {
    format!(
        "<dialog-info version=\"0\" state=\"full\" entity=\"sip:101@office.example\">\
         <dialog id=\"d1\" call-id=\"c1\" direction=\"recipient\"><state>{state}</state>\
         <remote><identity>sip:+14155550100@carrier.example</identity></remote></dialog></dialog-info>"
    )
}

fn tag(answer: &str) -> String {
    answer.lines().find_map(|line| line.strip_prefix("SIP-ETag: ")).expect("a tag").to_owned()
}

async fn call(api: &Api, state: &str) -> Value {
    until(&format!("a call is {state}"), async || {
        let calls = api.get("/v1/calls").await;
        items(&calls).iter().find(|call| call["state"] == state).cloned()
    })
    .await
}

#[tokio::test]
async fn a_published_dialog_is_followed_by_its_tag_until_it_is_removed_or_expires() {
    let folder = Folder::new("publish");
    let daemon = Daemon::start(&folder).await;
    let (api, pbx) = (daemon.api(), Phone::near(daemon.replica).await);
    // Only a known device rings; the number of a queue has dialogs as well.
    let known = pbx.ask(daemon.replica, &pbx.register("101", 1, 600).replace("pbx.example", DOMAIN)).await;
    assert_eq!(status(&known), "SIP/2.0 200 OK");
    let kind = "Content-Type: application/dialog-info+xml\r\n";
    let first = publish(&pbx, 1, "dialog", &format!("Expires: 60\r\n{kind}"), &dialog("early"));
    let answer = pbx.ask(daemon.replica, &first).await;
    assert_eq!(status(&answer), "SIP/2.0 200 OK");
    assert!(answer.contains("Expires: 60\r\n"), "{answer}");
    let known = tag(&answer);
    assert_eq!(tag(&pbx.ask(daemon.replica, &first).await), known, "a retransmission is the same publication");
    let ringing = call(&api, "ringing").await;
    assert_eq!(ringing["caller"]["number"], "+14155550100");
    let with = |tag: &str| format!("SIP-If-Match: {tag}\r\nExpires: 60\r\n{kind}");
    let stranger = pbx.ask(daemon.replica, &publish(&pbx, 2, "dialog", &with("nobody"), &dialog("confirmed"))).await;
    assert_eq!(status(&stranger), "SIP/2.0 412 Conditional Request Failed");
    let bad = pbx.ask(daemon.replica, &publish(&pbx, 3, "dialog", kind, "<dialog-info>")).await;
    assert_eq!(status(&bad), "SIP/2.0 400 Bad Body");
    let changed = pbx.ask(daemon.replica, &publish(&pbx, 4, "dialog", &with(&known), &dialog("confirmed"))).await;
    assert_eq!(tag(&changed), known);
    assert_eq!(call(&api, "answered").await["id"], ringing["id"]);
    let presence = pbx.ask(daemon.replica, &publish(&pbx, 5, "presence", "", "<presence/>")).await;
    assert_eq!(status(&presence), "SIP/2.0 200 OK", "nothing of ours, and no reason to refuse it");
    let removed = format!("SIP-If-Match: {known}\r\nExpires: 0\r\n");
    pbx.ask(daemon.replica, &publish(&pbx, 6, "dialog", &removed, "")).await;
    call(&api, "ended").await;
    let again = pbx.ask(daemon.replica, &publish(&pbx, 7, "dialog", &removed, "")).await;
    assert_eq!(status(&again), "SIP/2.0 412 Conditional Request Failed");
    let brief = dialog("early").replace("c1", "c2").replace("d1", "d2");
    pbx.ask(daemon.replica, &publish(&pbx, 8, "dialog", &format!("Expires: 2\r\n{kind}"), &brief)).await;
    call(&api, "ringing").await;
    until("both calls are over", async || {
        let calls = api.get("/v1/calls").await;
        let ended = items(&calls).iter().filter(|call| call["state"] == "ended").count();
        (ended == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn published_registrations_are_contacts_of_their_device() {
    let folder = Folder::new("publish-reg");
    let daemon = Daemon::start(&folder).await;
    let (api, pbx) = (daemon.api(), Phone::near(daemon.replica).await);
    let reg = |state: &str| {
        format!(
            "<reginfo version=\"0\" state=\"full\"><registration aor=\"sip:101@office.example\" state=\"active\">\
             <contact state=\"{state}\" expires=\"600\" user_agent=\"desk 1\"><uri>sip:101@192.0.2.7:5062</uri></contact>\
             </registration></reginfo>"
        )
    };
    let kind = "Content-Type: application/reginfo+xml\r\n";
    let answer = pbx.ask(daemon.replica, &publish(&pbx, 1, "reg", kind, &reg("active"))).await;
    assert_eq!(status(&answer), "SIP/2.0 200 OK");
    let device = api.device("101", "connected").await;
    assert_eq!(device["user_agent"], "desk 1", "{device:#}");
    let headers = format!("SIP-If-Match: {}\r\n{kind}", tag(&answer));
    pbx.ask(daemon.replica, &publish(&pbx, 2, "reg", &headers, &reg("terminated"))).await;
    api.device("101", "disconnected").await;
}

#[tokio::test]
async fn a_real_kamailio_that_publishes_straight_to_us_needs_no_presence_server() {
    let folder = Folder::new("publish-kamailio");
    let daemon = Daemon::start(&folder).await;
    let (nobody, replica) = ("sip:127.0.0.1:9", format!("PUBLISH_URI=\"sip:{}\"", daemon.replica));
    let switches = ["WITH_PRESENCE", "WITHOUT_SIP_TRACE", replica.as_str()];
    let kamailio = Kamailio::start_with(&folder, nobody, nobody, &switches).await;
    let proxy = kamailio.address;
    let account = Account { extension: "101", domain: DOMAIN, proxy, transport: "udp", expires_s: 60 };
    let mut phone = Baresip::start(&folder, account).await;
    let api = daemon.api();
    api.device("101", "connected").await;
    let (target, source) = (Some(kamailio.address), Some(kamailio.trunk));
    let caller = Scenario { target, source, service: "101", ..Scenario::new("trunk-calls") }.start(&folder);
    phone.rings().await;
    let ringing = call(&api, "ringing").await;
    phone.answer().await;
    call(&api, "answered").await;
    phone.hang_up().await;
    caller.passes().await;
    let ended = call(&api, "ended").await;
    assert_eq!((&ended["id"], &ended["outcome"]), (&ringing["id"], &"answered".into()));
    assert_eq!(ended["callee"]["number"], "101");
}
