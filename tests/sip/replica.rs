//! Replica mode: believed, answered, never in the way of a call.

use std::time::Duration;

use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::phone::{Phone, status};

#[tokio::test]
async fn a_relayed_registration_is_never_refused_for_policy() {
    let folder = Folder::new("sip");
    let daemon = Daemon::start(&folder).await;
    let replica = daemon.replica;
    let proxy = Phone::near(replica).await;
    // Too brief for a registrar, from behind the proxy's Via, which noted where the phone is.
    let relayed = proxy.register("101", 7, 20).replacen(
        "Via: ",
        &format!("Via: SIP/2.0/UDP {};rport;branch=z9hG4bKproxy\r\nVia: ", proxy.local),
        1,
    );
    let phone = format!("SIP/2.0/UDP {};rport;branch=z9hG4bKREGISTER1017", proxy.local);
    assert!(relayed.contains(&phone));
    let relayed = relayed.replace(&phone, "SIP/2.0/UDP 10.0.0.5;received=203.0.113.9;rport=4711;branch=z9hG4bKx");
    assert_eq!(status(&proxy.ask(replica, &relayed).await), "SIP/2.0 200 OK");
    let device = daemon.api().find_device("101").await.unwrap();
    assert_eq!(device["address"], "203.0.113.9:4711");
    // An older CSeq changes nothing, and is answered all the same.
    let stale = proxy.register("101", 3, 600);
    assert_eq!(status(&proxy.ask(replica, &stale).await), "SIP/2.0 200 OK");
    let odd = proxy.register("101", 8, 600).replace("Contact: <sip:", "Contact: <");
    assert_eq!(status(&proxy.ask(replica, &odd).await), "SIP/2.0 200 OK", "the PBX has told the phone yes already");
}

#[tokio::test]
async fn calls_are_watched_and_never_taken() {
    let folder = Folder::new("sip");
    let daemon = Daemon::start(&folder).await;
    let replica = daemon.replica;
    let pbx = Phone::near(replica).await;
    let refused = pbx.ask(replica, &pbx.request("INVITE", "101", 1, "")).await;
    assert_eq!(status(&refused), "SIP/2.0 480 Temporarily Unavailable", "no 1xx and no 2xx comes first");
    pbx.tell(replica, &pbx.request("ACK", "101", 1, "")).await;
    assert_eq!(pbx.hear_for(Duration::from_millis(300)).await, None);
    for (method, cseq, expected) in [
        ("CANCEL", 1, "SIP/2.0 200 OK"),
        ("CANCEL", 5, "SIP/2.0 481 Call/Transaction Does Not Exist"),
        ("BYE", 2, "SIP/2.0 481 Call/Transaction Does Not Exist"),
        ("OPTIONS", 3, "SIP/2.0 200 OK"),
        ("NOTIFY", 4, "SIP/2.0 200 OK"),
        ("JUGGLE", 6, "SIP/2.0 501 Not Implemented"),
    ] {
        let answer = pbx.ask(replica, &pbx.request(method, "101", cseq, "")).await;
        assert_eq!(status(&answer), expected, "{method}");
    }
    let published = pbx.ask(replica, &pbx.request("PUBLISH", "101", 7, "Event: dialog\r\nExpires: 120\r\n")).await;
    assert!(published.contains("SIP-ETag: ") && published.contains("Expires: 120"), "{published}");
}

#[tokio::test]
async fn malformed_requests_get_400_here_too() {
    let folder = Folder::new("sip");
    let daemon = Daemon::start(&folder).await;
    let replica = daemon.replica;
    let pbx = Phone::near(replica).await;
    let broken = pbx.request("NOTIFY", "101", 1, "").replace("From: <sip:101", "From: <");
    assert_eq!(status(&pbx.ask(replica, &broken).await), "SIP/2.0 400 Bad From Header");
}
