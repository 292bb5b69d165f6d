//! One scenario file an answer (design: "SIP listeners"), over UDP, TCP and TLS. A scenario fails when the status, or a
//! header it checks, is another.

use std::net::SocketAddr;

use serde_json::json;

use crate::office::{Office, TRANSPORTS};
use crate::support::api::{Api, items, text};
use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::postgres::Server;
use crate::support::tunnel::Tunnel;

/// A daemon for one scenario over UDP and IPv4.
async fn scenario(file: &str) {
    let folder = Folder::new(file);
    let daemon = Daemon::start(&folder).await;
    crate::office::answers(&folder, daemon.registrar, "udp", file, "101").await;
}

/// The only PBX there is after a first start.
async fn pbx(api: &Api) -> String {
    format!("/v1/pbxs/{}", text(&items(&api.get("/v1/pbxs").await)[0]["id"]))
}

macro_rules! scenarios {
    ($($test:ident: $file:literal),* $(,)?) => {
        $(#[tokio::test]
        async fn $test() {
            scenario($file).await;
        })*

        /// Every scenario that needs no setting up.
        const PLAIN: &[&str] = &[$($file),*];
    };
}

scenarios! {
    a_registration_is_granted_and_listed: "register",
    a_phone_that_names_no_time_gets_the_default: "register-default",
    a_refresh_renews_the_contact_and_adds_none: "register-refresh",
    a_retransmission_is_answered_again: "register-retransmitted",
    expires_0_removes_the_contact: "register-remove",
    a_star_removes_all_contacts: "register-star",
    a_query_lists_the_contacts: "register-query",
    several_contacts_are_taken_at_once: "register-several",
    a_bad_contact_gets_400_that_names_it: "register-bad-contact",
    a_bad_to_gets_400_that_names_it: "register-bad-to",
    a_bad_expires_gets_400_that_names_it: "register-bad-expires",
    a_star_with_a_time_gets_400: "register-star-for-a-while",
    an_unknown_required_extension_gets_420_with_unsupported: "register-extension",
    a_third_party_without_permission_gets_403: "register-third-party",
    too_short_a_time_gets_423_with_min_expires: "register-brief",
    an_older_cseq_gets_500: "register-out-of-order",
    options_gets_200_with_allow: "options",
    a_known_method_gets_405_with_allow: "subscribe",
    an_unknown_method_gets_501: "unknown-method",
    too_long_a_request_uri_gets_414: "options-long-uri",
    an_unknown_scheme_gets_416: "options-other-scheme",
    another_version_gets_505: "options-other-version",
    a_cancel_of_nothing_gets_481: "cancel",
    a_cancel_of_what_has_its_answer_gets_200: "cancel-of-an-answered-invite",
    an_invite_from_a_stranger_gets_403: "invite-from-a-stranger",
}

/// All plain scenarios, each for an extension of its own.
async fn all(office: &Office, target: SocketAddr, transport: &str) {
    for (index, file) in PLAIN.iter().enumerate() {
        crate::office::answers(&office.folder, target, transport, file, &(200 + index).to_string()).await;
    }
}

#[tokio::test]
async fn every_answer_is_the_same_over_tcp() {
    let office = Office::open("registrar").await;
    all(&office, office.daemon.registrar, "tcp").await;
}

#[tokio::test]
async fn every_answer_is_the_same_over_tls() {
    let office = Office::open("registrar").await;
    all(&office, office.tunnel.entrance, "tls").await;
    let api = office.daemon.api();
    let device = api.find_device("200").await.expect("the first scenario has registered it");
    let history = api.get(&format!("/v1/devices/{}/history", text(&device["id"]))).await;
    assert!(history.to_string().contains("transport=tls"), "{history:#}");
}

#[tokio::test]
async fn every_answer_is_the_same_over_ipv6() {
    let office = Office::open("registrar").await;
    all(&office, office.daemon.registrar6, "udp").await;
}

#[tokio::test]
async fn every_answer_is_the_same_over_tcp_and_ipv6() {
    let office = Office::open("registrar").await;
    all(&office, office.daemon.registrar6, "tcp").await;
}

#[tokio::test]
async fn a_domain_that_is_nobodys_gets_404() {
    let office = Office::open("register-elsewhere").await;
    let api = office.daemon.api();
    api.patch(&pbx(&api).await, json!({ "domain": "office.example", "any_domain": false })).await;
    for transport in TRANSPORTS {
        office.answers(transport, "register-elsewhere", "101").await;
        office.answers(transport, "register-request-elsewhere", "101").await;
        office.answers(transport, "register", "101").await;
    }
}

#[tokio::test]
async fn a_pbx_that_asks_where_a_phone_is_gets_302_then_480_then_404() {
    let office = Office::open("invite").await;
    let api = office.daemon.api();
    // The PBX claims our address, so that it may ask.
    api.patch(&pbx(&api).await, json!({ "networks": ["127.0.0.0/8", "::1/128"] })).await;
    for transport in TRANSPORTS {
        // A phone that is reached without its connection: over UDP whatever the PBX speaks.
        office.answers("udp", "register", "101").await;
        office.answers(transport, "invite-moved", "101").await;
        office.answers(transport, "invite-in-dialog", "101").await;
        office.answers("udp", "register-star", "101").await;
        office.answers(transport, "invite-away", "101").await;
        office.answers(transport, "invite-unknown", "999").await;
    }
}

#[tokio::test]
async fn a_database_that_does_not_confirm_gets_503_with_retry_after_and_the_next_try_200() {
    let server = Server::start_new();
    let database = format!("[database]\nurl = \"{}\"\n", server.database());
    let office = Office::open_with("register-unavailable", &database).await;
    server.freeze();
    for (transport, phone) in TRANSPORTS.iter().zip(["101", "102", "103"]) {
        office.answers(transport, "register-unavailable", phone).await;
        office.answers(transport, "options", phone).await;
    }
    server.thaw();
    for (transport, phone) in TRANSPORTS.iter().zip(["101", "102", "103"]) {
        office.answers(transport, "register", phone).await;
    }
}

#[tokio::test]
async fn a_password_is_asked_for_and_the_right_one_gets_200() {
    let office = Office::open("register-digest").await;
    office.provide("101", "s3cret").await;
    office.provide("102", "another").await;
    for transport in TRANSPORTS {
        office.answers(transport, "register-digest-wrong", "101").await;
        office.answers(transport, "register-digest-stale", "101").await;
        office.answers(transport, "register-digest-malformed", "101").await;
        office.answers(transport, "register-digest", "101").await;
        office.answers(transport, "register-not-own", "102").await;
    }
    office.daemon.api().device("101", "connected").await;
    office.daemon.api().device("102", "disconnected").await;
}

#[tokio::test]
async fn who_tries_too_often_gets_503_with_retry_after() {
    let office = Office::open("register-attempts").await;
    for (transport, phone) in TRANSPORTS.iter().zip(["101", "102", "103"]) {
        office.provide(phone, "s3cret").await;
        office.answers(transport, "register-attempts", phone).await;
    }
}

#[tokio::test]
async fn a_contact_too_many_gets_503_with_retry_after() {
    let office = Office::open("register-contact-too-many").await;
    let api = office.daemon.api();
    let account = text(&items(&api.get("/v1/accounts").await)[0]["id"]);
    let registration = json!({ "contacts_max": 1, "overflow": "refuse" });
    api.patch(&format!("/v1/accounts/{account}"), json!({ "settings": { "registration": registration } })).await;
    for (transport, phone) in TRANSPORTS.iter().zip(["101", "102", "103"]) {
        office.answers(transport, "register-contact-too-many", phone).await;
    }
}

#[tokio::test]
async fn a_phone_too_many_gets_503_with_retry_after() {
    let office = Office::open_with("register-unavailable", "[limits]\ndevices_max = 1\n").await;
    office.answers("udp", "register", "101").await;
    for (transport, phone) in TRANSPORTS.iter().zip(["102", "103", "104"]) {
        office.answers(transport, "register-unavailable", phone).await;
    }
}

#[tokio::test]
async fn a_pbx_that_relays_gets_the_answers_of_a_replica() {
    let office = Office::open("replica").await;
    let daemon = &office.daemon;
    let tunnel = Tunnel::open(&office.folder, daemon.listening("relay", "tls"), &office.certificate).await;
    let targets = [daemon.replica, daemon.replica, tunnel.entrance];
    for ((transport, target), phone) in TRANSPORTS.iter().zip(targets).zip(["101", "102", "103"]) {
        for file in RELAYED {
            crate::office::answers(&office.folder, target, transport, file, phone).await;
        }
        daemon.api().device(phone, "connected").await;
    }
}

#[tokio::test]
async fn what_sipp_registered_shows_in_the_api() {
    let office = Office::open("register-api").await;
    let api = office.daemon.api();
    office.answers("udp", "register", "101").await;
    let device = api.device("101", "connected").await;
    assert_eq!(device["bindings"], 1);
    office.answers("tcp", "register-star", "101").await;
    api.device("101", "disconnected").await;
}

/// What a replica is asked, and nothing it might answer is missing.
const RELAYED: [&str; 11] = [
    "register-relayed",
    "options",
    "notify",
    "publish",
    "publish-unknown",
    "publish-bad-body",
    "invite-away",
    "cancel",
    "bye",
    "subscribe",
    "unknown-method",
];
