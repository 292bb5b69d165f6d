//! One scenario file an answer (design: "SIP listeners", registrar). A scenario fails when the status, or a header it
//! checks, is another.

use std::net::SocketAddr;

use serde_json::json;

use crate::support::api::{Api, items, text};
use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::postgres::Server;
use crate::support::sipp::Scenario;

/// Runs `file` for `extension` against `target`.
async fn answers(folder: &Folder, target: SocketAddr, transport: &str, file: &str, extension: &str) {
    Scenario { target: Some(target), transport, service: extension, ..Scenario::new(file) }.run(folder).await;
}

/// A daemon for one scenario over UDP and IPv4.
async fn scenario(file: &str) {
    let folder = Folder::new(file);
    let daemon = Daemon::start(&folder).await;
    answers(&folder, daemon.registrar, "udp", file, "101").await;
}

/// The only PBX there is after a first start.
async fn pbx(api: &Api) -> String {
    format!("/v1/pbxs/{}", text(&items(&api.get("/v1/pbxs").await)[0]["id"]))
}

/// The PBX claims our address, so that it may ask where phones are.
async fn we_are_the_pbx(api: &Api) {
    api.patch(&pbx(api).await, json!({ "networks": ["127.0.0.0/8", "::1/128"] })).await;
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
    options_gets_200_with_allow: "options",
    a_known_method_gets_405_with_allow: "subscribe",
    an_unknown_method_gets_501: "unknown-method",
    a_cancel_of_nothing_gets_481: "cancel",
    an_invite_from_a_stranger_gets_403: "invite-from-a-stranger",
}

/// All plain scenarios, each for an extension of its own.
async fn all(transport: &str, registrar: impl FnOnce(&Daemon) -> SocketAddr) {
    let folder = Folder::new("registrar");
    let daemon = Daemon::start(&folder).await;
    let target = registrar(&daemon);
    for (index, file) in PLAIN.iter().enumerate() {
        answers(&folder, target, transport, file, &(200 + index).to_string()).await;
    }
}

#[tokio::test]
async fn every_answer_is_the_same_over_tcp() {
    all("tcp", |daemon| daemon.registrar).await;
}

#[tokio::test]
async fn every_answer_is_the_same_over_ipv6() {
    all("udp", |daemon| daemon.registrar6).await;
}

#[tokio::test]
async fn every_answer_is_the_same_over_tcp_and_ipv6() {
    all("tcp", |daemon| daemon.registrar6).await;
}

#[tokio::test]
async fn a_domain_that_is_nobodys_gets_404() {
    let folder = Folder::new("register-elsewhere");
    let daemon = Daemon::start(&folder).await;
    let api = daemon.api();
    api.patch(&pbx(&api).await, json!({ "domain": "office.example", "any_domain": false })).await;
    answers(&folder, daemon.registrar, "udp", "register-elsewhere", "101").await;
    answers(&folder, daemon.registrar, "udp", "register", "101").await;
}

#[tokio::test]
async fn a_pbx_that_asks_where_a_phone_is_gets_302_then_480_then_404() {
    let folder = Folder::new("invite");
    let daemon = Daemon::start(&folder).await;
    we_are_the_pbx(&daemon.api()).await;
    answers(&folder, daemon.registrar, "udp", "register", "101").await;
    answers(&folder, daemon.registrar, "udp", "invite-moved", "101").await;
    answers(&folder, daemon.registrar, "udp", "register-star", "101").await;
    answers(&folder, daemon.registrar, "udp", "invite-away", "101").await;
    answers(&folder, daemon.registrar, "udp", "invite-unknown", "999").await;
}

#[tokio::test]
async fn a_database_that_does_not_confirm_gets_503_with_retry_after_and_the_next_try_200() {
    let (folder, server) = (Folder::new("register-not-stored"), Server::start_new());
    let database = format!("[database]\nurl = \"{}\"\n", server.database());
    let daemon = Daemon::start_with(&folder, &database).await;
    server.freeze();
    answers(&folder, daemon.registrar, "udp", "register-not-stored", "101").await;
    answers(&folder, daemon.registrar, "udp", "options", "101").await;
    server.thaw();
    answers(&folder, daemon.registrar, "udp", "register", "101").await;
}

#[tokio::test]
async fn a_password_is_asked_for_and_the_right_one_gets_200() {
    let folder = Folder::new("register-digest");
    let daemon = Daemon::start(&folder).await;
    let api = daemon.api();
    let pbx = items(&api.get("/v1/pbxs").await)[0]["id"].clone();
    let device = api.post("/v1/devices", json!({ "pbx": pbx, "user": "101" })).await;
    let path = format!("/v1/devices/{}/secret", text(&device["id"]));
    let (status, _) = api.send(reqwest::Method::PUT, &path, Some(json!({ "password": "s3cret" }))).await;
    assert_eq!(status, 204);
    for transport in ["udp", "tcp"] {
        answers(&folder, daemon.registrar, transport, "register-digest-wrong", "101").await;
        answers(&folder, daemon.registrar, transport, "register-digest", "101").await;
    }
    api.device("101", "connected").await;
}

#[tokio::test]
async fn what_sipp_registered_shows_in_the_api() {
    let folder = Folder::new("register-api");
    let daemon = Daemon::start(&folder).await;
    let api = daemon.api();
    answers(&folder, daemon.registrar, "udp", "register", "101").await;
    let device = api.device("101", "connected").await;
    assert_eq!(device["bindings"], 1);
    answers(&folder, daemon.registrar, "tcp", "register-star", "101").await;
    api.device("101", "disconnected").await;
}
