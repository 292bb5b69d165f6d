//! Registrar mode over UDP.

use std::time::Duration;

use serde_json::json;
use sqlx::Connection as _;

use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::phone::{Phone, status};

#[tokio::test]
async fn a_phone_registers_on_both_families_and_its_device_appears() {
    let folder = Folder::new("sip");
    let daemon = Daemon::start(&folder).await;
    for (v6, user) in [(false, "101"), (true, "102")] {
        let registrar = if v6 { daemon.registrar6 } else { daemon.registrar };
        let phone = Phone::near(registrar).await;
        let answer = phone.ask(registrar, &phone.register(user, 1, 600)).await;
        assert_eq!(status(&answer), "SIP/2.0 200 OK", "{answer}");
        assert!(answer.contains(&format!("Contact: <sip:{user}@{}>;expires=600\r\n", phone.local)), "{answer}");
        assert!(answer.contains("\r\nDate: "), "{answer}");
        let device = daemon.api().find_device(user).await.expect("the device appears by itself");
        assert_eq!(device["state"], "connected");
        assert_eq!(device["address"], phone.local.to_string());
    }
}

#[tokio::test]
async fn a_retransmission_and_a_query_are_answered_from_what_there_is() {
    let folder = Folder::new("sip");
    let daemon = Daemon::start(&folder).await;
    let registrar = daemon.registrar;
    let phone = Phone::near(registrar).await;
    let register = phone.register("101", 1, 600);
    let first = phone.ask(registrar, &register).await;
    let again = phone.ask(registrar, &register).await;
    let without_date =
        |text: &str| text.lines().filter(|line| !line.starts_with("Date")).collect::<Vec<_>>().join("\n");
    assert_eq!(without_date(&first), without_date(&again), "the To tag and the contacts are the same");
    let query = phone.ask(registrar, &phone.request("REGISTER", "101", 2, "")).await;
    assert!(query.contains("<sip:101@"), "{query}");
    let removed = phone.ask(registrar, &phone.request("REGISTER", "101", 3, "Contact: *\r\nExpires: 0\r\n")).await;
    assert!(status(&removed).contains("200") && !removed.contains("Contact"), "{removed}");
    assert_eq!(daemon.api().find_device("101").await.unwrap()["state"], "disconnected");
}

#[tokio::test]
async fn the_answer_goes_where_rfc_3581_says() {
    let folder = Folder::new("sip");
    let daemon = Daemon::start(&folder).await;
    let registrar = daemon.registrar;
    let (phone, sent_by) = (Phone::near(registrar).await, Phone::near(registrar).await);
    let natted = phone.request("OPTIONS", "101", 1, "").replace(&phone.local.to_string(), "10.0.0.5:5060");
    let answer = phone.ask(registrar, &natted).await;
    let expected = format!("10.0.0.5:5060;branch=z9hG4bKOPTIONS1011;received=127.0.0.1;rport={}", phone.local.port());
    assert!(answer.contains(&expected), "{answer}");
    // Without rport the answer goes to the port the Via names.
    let old = phone.request("OPTIONS", "101", 2, "").replace(";rport", "");
    phone.tell(registrar, &old.replace(&phone.local.to_string(), &sent_by.local.to_string())).await;
    assert!(sent_by.hear().await.is_some_and(|answer| status(&answer).contains("200")));
}

#[tokio::test]
async fn every_method_gets_the_answer_its_mode_has_for_it() {
    let folder = Folder::new("sip");
    let daemon = Daemon::start(&folder).await;
    let registrar = daemon.registrar;
    let phone = Phone::near(registrar).await;
    for (method, expected) in [
        ("OPTIONS", "SIP/2.0 200 OK"),
        ("INVITE", "SIP/2.0 403 Only A Configured PBX May Ask"),
        ("BYE", "SIP/2.0 405 Method Not Allowed"),
        ("MESSAGE", "SIP/2.0 405 Method Not Allowed"),
        ("SUBSCRIBE", "SIP/2.0 405 Method Not Allowed"),
        ("PUBLISH", "SIP/2.0 405 Method Not Allowed"),
        ("JUGGLE", "SIP/2.0 501 Not Implemented"),
    ] {
        let answer = phone.ask(registrar, &phone.request(method, "101", 1, "")).await;
        assert_eq!(status(&answer), expected);
        if expected.contains("405") {
            assert!(answer.contains("Allow: REGISTER, OPTIONS, INVITE, ACK, CANCEL\r\n"), "{answer}");
        }
    }
    let stray = phone.ask(registrar, &phone.request("CANCEL", "101", 9, "")).await;
    assert_eq!(status(&stray), "SIP/2.0 481 Call/Transaction Does Not Exist");
    phone.tell(registrar, &phone.request("ACK", "101", 1, "")).await;
    assert_eq!(phone.hear_for(Duration::from_millis(300)).await, None, "an ACK is never answered");
}

#[tokio::test]
async fn malformed_requests_get_400_with_a_reason_that_names_the_header() {
    let folder = Folder::new("sip");
    let daemon = Daemon::start(&folder).await;
    let registrar = daemon.registrar;
    let phone = Phone::near(registrar).await;
    let good = phone.register("101", 1, 600);
    for (from, to, expected) in [
        ("Call-ID: 101@phone.example\r\n", "", "400 Missing Call-ID"),
        ("CSeq: 1 REGISTER", "CSeq: one REGISTER", "400 Bad CSeq Header"),
        ("To: <sip:101@pbx.example>", "To: <sip:101@", "400 Bad To Header"),
        ("Contact: <sip:", "Contact: <", "400 Bad Contact Header"),
        ("Content-Length: 0", "Content-Length: 9", "400 Bad Content-Length Header"),
        ("Max-Forwards: 70", "Max-Forwards: many", "400 Bad Max-Forwards Header"),
        ("example SIP/2.0", "example SIP/3.0", "505 Version Not Supported"),
    ] {
        assert!(good.contains(from), "{from}");
        let answer = phone.ask(registrar, &good.replacen(from, to, 1)).await;
        assert_eq!(status(&answer), format!("SIP/2.0 {expected}"));
    }
    let brief = phone.ask(registrar, &phone.register("101", 1, 30)).await;
    assert!(status(&brief).contains("423") && brief.contains("Min-Expires: 60"), "{brief}");
    assert!(daemon.api().find_device("101").await.is_none(), "nothing of it was taken");
    assert!(daemon.metric("hookswitch_registrar_refusals_total", "reason=\"too_brief\"").await >= 1.0);
}

#[tokio::test]
async fn a_flood_of_garbage_leaves_the_socket_alive() {
    let folder = Folder::new("sip");
    let daemon = Daemon::start(&folder).await;
    let mut random: u64 = 0x9e37_79b9_7f4a_7c15;
    for peer in [daemon.registrar, daemon.replica, daemon.mirror] {
        let phone = Phone::near(peer).await;
        let good = phone.register("101", 1, 600);
        for round in 0..3000_usize {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let mut bytes = good.clone().into_bytes();
            let at = usize::try_from(random >> 33).unwrap() % bytes.len();
            match round % 4 {
                0 => bytes[at] = random.to_le_bytes()[5],
                1 => bytes.truncate(at),
                2 => bytes = random.to_le_bytes().repeat(1 + at),
                _ => bytes.clear(),
            }
            phone.socket.send_to(&bytes, peer).await.unwrap();
            // Whoever sent it and is gone makes ICMP errors, which must not close anything either.
            if round % 100 == 0 {
                Phone::near(peer).await.tell(peer, &good).await;
            }
        }
    }
    let registrar = daemon.registrar;
    let phone = Phone::near(registrar).await;
    for cseq in 1.. {
        phone.tell(registrar, &phone.register("199", cseq, 600)).await;
        if phone.hear().await.is_some_and(|answer| status(&answer).contains("200")) {
            break;
        }
        assert!(cseq < 5, "the registrar no longer answers");
    }
    assert!(daemon.metric("hookswitch_dropped_total", "where=\"sip\",reason=\"not_sip\"").await > 100.0);
}

#[tokio::test]
async fn a_configured_pbx_is_redirected_to_the_phone() {
    let folder = Folder::new("sip");
    let daemon = Daemon::start(&folder).await;
    let registrar = daemon.registrar;
    let (phone, pbx) = (Phone::near(registrar).await, Phone::near(registrar).await);
    assert!(status(&phone.ask(registrar, &phone.register("101", 1, 600)).await).contains("200"));
    let page = daemon.api().get("/v1/pbxs").await;
    let path = format!("/v1/pbxs/{}", page["items"][0]["id"].as_str().unwrap());
    daemon.api().patch(&path, json!({"networks": ["127.0.0.1"]})).await;

    let moved = pbx.ask(registrar, &pbx.request("INVITE", "101", 1, "")).await;
    assert_eq!(status(&moved), "SIP/2.0 302 Moved Temporarily");
    assert!(moved.contains(&format!("Contact: <sip:101@{}>;expires=", phone.local)), "{moved}");
    let cancel = pbx.ask(registrar, &pbx.request("CANCEL", "101", 1, "")).await;
    assert_eq!(status(&cancel), "SIP/2.0 200 OK", "its INVITE is known, though it is over");
    let unknown = pbx.ask(registrar, &pbx.request("INVITE", "999", 1, "")).await;
    assert_eq!(status(&unknown), "SIP/2.0 404 Not Found");
    phone.ask(registrar, &phone.register("101", 2, 0)).await;
    let away = pbx.ask(registrar, &pbx.request("INVITE", "101", 2, "")).await;
    assert_eq!(status(&away), "SIP/2.0 480 Temporarily Unavailable");
}

#[tokio::test]
async fn peers_outside_the_networks_are_ignored_and_counted() {
    let closed = "[listeners.closed]\nmode = \"registrar\"\nbind = \"udp:127.0.0.1:0\"\nnetworks = [\"192.0.2.0/24\"]";
    let folder = Folder::new("sip");
    let daemon = Daemon::start_with(&folder, closed).await;
    let registrar = daemon.listening("closed", "udp");
    let phone = Phone::near(registrar).await;
    phone.tell(registrar, &phone.register("101", 1, 600)).await;
    assert_eq!(phone.hear_for(Duration::from_millis(300)).await, None);
    assert!(daemon.metric("hookswitch_dropped_total", "where=\"sip\",reason=\"network\"").await >= 1.0);
}

#[tokio::test]
async fn a_database_that_does_not_answer_freezes_nothing_and_loses_nothing() {
    let folder = Folder::new("sip");
    let daemon = Daemon::start(&folder).await;
    let registrar = daemon.registrar;
    let phone = Phone::near(registrar).await;
    assert!(status(&phone.ask(registrar, &phone.register("100", 1, 600)).await).contains("200"));
    // Another program that writes keeps everyone else from writing.
    let file = format!("sqlite:{}", daemon.data.join("hookswitch.db").display());
    let mut other = sqlx::SqliteConnection::connect(&file).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let register = phone.register("101", 1, 600);
    phone.tell(registrar, &register).await;
    let options = Phone::near(registrar).await;
    let alive = options.ask(registrar, &options.request("OPTIONS", "101", 1, "")).await;
    assert!(status(&alive).contains("200"), "what needs no commit is answered at once");
    let refused = phone.hear().await.expect("the wait is bounded");
    assert_eq!(status(&refused), "SIP/2.0 503 Not Known To Be Stored");
    assert!(refused.contains("Retry-After: "), "{refused}");
    phone.tell(registrar, &register).await;
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    let stored = phone.hear().await.expect("a retry joins the same wait");
    assert_eq!(status(&stored), "SIP/2.0 200 OK");
    assert!(daemon.api().find_device("101").await.is_some());
}
