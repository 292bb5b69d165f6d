//! What an account lets its phones do when they register: times, contacts, third parties, routes.

use serde_json::{Value, json};

use crate::support::api::{items, text};
use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::phone::{Phone, status};

/// A daemon whose account has these registration settings.
async fn account(folder: &Folder, registration: Value) -> Daemon {
    let daemon = Daemon::start(folder).await;
    set(&daemon, registration).await;
    daemon
}

/// Has the account's phones register by these settings.
pub async fn set(daemon: &Daemon, registration: Value) {
    let api = daemon.api();
    let id = text(&items(&api.get("/v1/accounts").await)[0]["id"]);
    api.patch(&format!("/v1/accounts/{id}"), json!({ "settings": { "registration": registration } })).await;
}

/// Registers a contact of `user` and gives the answer.
async fn register(daemon: &Daemon, phone: &Phone, cseq: u32, contact: &str) -> String {
    let headers = format!("Contact: {contact}\r\n");
    phone.ask(daemon.registrar, &phone.request("REGISTER", "101", cseq, &headers)).await
}

fn headers<'a>(answer: &'a str, name: &str) -> Vec<&'a str> {
    answer.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
}

#[tokio::test]
async fn an_account_sets_the_times_it_grants() {
    let folder = Folder::new("registration");
    let times = json!({ "expires_min_s": 300, "expires_default_s": 400, "expires_max_s": 500 });
    let daemon = account(&folder, times).await;
    let phone = Phone::near(daemon.registrar).await;
    let brief = register(&daemon, &phone, 1, "<sip:101@192.0.2.1>;expires=299").await;
    assert_eq!(status(&brief), "SIP/2.0 423 Interval Too Brief");
    assert_eq!(headers(&brief, "Min-Expires"), ["300"]);
    let default = register(&daemon, &phone, 2, "<sip:101@192.0.2.1>").await;
    assert_eq!(headers(&default, "Contact"), ["<sip:101@192.0.2.1>;expires=400"]);
    let long = register(&daemon, &phone, 3, "<sip:101@192.0.2.1>;expires=9999").await;
    assert_eq!(headers(&long, "Contact"), ["<sip:101@192.0.2.1>;expires=500"]);
    set(&daemon, json!({ "expires_deviation_percent": 50 })).await;
    let mut granted = Vec::new();
    for cseq in 4..24 {
        let answer = register(&daemon, &phone, cseq, "<sip:101@192.0.2.1>;expires=500").await;
        granted.push(headers(&answer, "Contact")[0].rsplit('=').next().unwrap().parse::<u32>().unwrap());
    }
    assert!(granted.iter().all(|seconds| (300..=500).contains(seconds)), "{granted:?}");
    assert!(granted.iter().any(|seconds| *seconds != granted[0]), "they are spread: {granted:?}");
}

#[tokio::test]
async fn a_contact_too_many_is_refused_or_the_oldest_goes_as_the_account_says() {
    let folder = Folder::new("registration");
    let daemon = account(&folder, json!({ "contacts_max": 2, "overflow": "refuse" })).await;
    let phone = Phone::near(daemon.registrar).await;
    for (cseq, contact) in [(1, "<sip:101@192.0.2.1>"), (2, "<sip:101@192.0.2.2>")] {
        assert_eq!(status(&register(&daemon, &phone, cseq, contact).await), "SIP/2.0 200 OK");
    }
    let refused = register(&daemon, &phone, 3, "<sip:101@192.0.2.3>").await;
    assert!(status(&refused).starts_with("SIP/2.0 503 "), "{refused}");
    assert!(headers(&refused, "Retry-After")[0].parse::<u32>().unwrap() > 0);
    set(&daemon, json!({ "overflow": "drop_oldest" })).await;
    let taken = register(&daemon, &phone, 4, "<sip:101@192.0.2.3>").await;
    let contacts = headers(&taken, "Contact");
    assert_eq!(contacts.len(), 2, "{taken}");
    assert!(contacts[0].contains("192.0.2.2") && contacts[1].contains("192.0.2.3"), "{taken}");
}

#[tokio::test]
async fn others_are_registered_by_permission_only() {
    let folder = Folder::new("registration");
    let daemon = Daemon::start(&folder).await;
    let phone = Phone::near(daemon.registrar).await;
    let third = |cseq| {
        let request = phone.request("REGISTER", "101", cseq, "Contact: <sip:101@192.0.2.1>\r\n");
        request.replace("From: <sip:101@", "From: <sip:desk%2Dmanager@")
    };
    let refused = phone.ask(daemon.registrar, &third(1)).await;
    assert_eq!(status(&refused), "SIP/2.0 403 May Not Register Others");
    assert_eq!(daemon.api().find_device("101").await, None, "nothing was bound");
    set(&daemon, json!({ "third_parties": ["desk-manager"] })).await;
    assert_eq!(status(&phone.ask(daemon.registrar, &third(2)).await), "SIP/2.0 200 OK");
    // The same address written another way is no third party.
    let own = phone.request("REGISTER", "101", 3, "Contact: <sip:101@192.0.2.1>\r\n");
    let own = own.replace("From: <sip:101@pbx.example>", "From: <sips:%3101@PBX.example:5061;transport=tls>");
    assert_eq!(status(&phone.ask(daemon.registrar, &own).await), "SIP/2.0 200 OK");
}

#[tokio::test]
async fn a_request_uri_of_nobodys_domain_gets_404() {
    let folder = Folder::new("registration");
    let daemon = Daemon::start(&folder).await;
    let api = daemon.api();
    let id = text(&items(&api.get("/v1/pbxs").await)[0]["id"]);
    api.patch(&format!("/v1/pbxs/{id}"), json!({ "domain": "pbx.example", "any_domain": false })).await;
    let phone = Phone::near(daemon.registrar).await;
    let good = phone.request("REGISTER", "101", 1, "Contact: <sip:101@192.0.2.1>\r\n");
    assert_eq!(status(&phone.ask(daemon.registrar, &good).await), "SIP/2.0 200 OK");
    let stray = phone.request("REGISTER", "101", 2, "Contact: <sip:101@192.0.2.1>\r\n");
    let stray = stray.replacen("REGISTER sip:101@pbx.example", "REGISTER sip:elsewhere.example", 1);
    assert_eq!(status(&phone.ask(daemon.registrar, &stray).await), "SIP/2.0 404 Not Found");
}

#[tokio::test]
async fn the_accounts_route_and_the_phones_path_are_in_the_200() {
    let folder = Folder::new("registration");
    let daemon = account(&folder, json!({ "service_route": ["sip:edge.example;lr", "sip:core.example;lr"] })).await;
    let phone = Phone::near(daemon.registrar).await;
    let contact = "Contact: <sip:101@192.0.2.1>\r\nPath: <sip:edge.example;lr>\r\nSupported: path\r\n";
    let answer = phone.ask(daemon.registrar, &phone.request("REGISTER", "101", 1, contact)).await;
    assert_eq!(headers(&answer, "Service-Route"), ["<sip:edge.example;lr>", "<sip:core.example;lr>"]);
    assert_eq!(headers(&answer, "Path"), ["<sip:edge.example;lr>"]);
    assert_eq!(headers(&answer, "Date").len(), 1);
}

#[tokio::test]
async fn a_phone_that_comes_back_from_elsewhere_is_the_same_phone() {
    let folder = Folder::new("registration");
    let daemon = Daemon::start(&folder).await;
    let phone = Phone::near(daemon.registrar).await;
    let instance = ";+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000A95A0E128>\"";
    register(&daemon, &phone, 1, &format!("<sip:101@192.0.2.1:5060>{instance}")).await;
    let moved = phone.request("REGISTER", "101", 1, &format!("Contact: <sip:101@198.51.100.9:6000>{instance}\r\n"));
    let moved = moved.replace("Call-ID: 101@", "Call-ID: after-a-restart@").replace("z9hG4bK", "z9hG4bKagain");
    let answer = phone.ask(daemon.registrar, &moved).await;
    let contacts = headers(&answer, "Contact");
    assert!(contacts.len() == 1 && contacts[0].starts_with("<sip:101@198.51.100.9:6000>"), "{answer}");
    let second = register(&daemon, &phone, 2, &format!("<sip:101@192.0.2.1:5060>{instance};reg-id=2")).await;
    assert_eq!(headers(&second, "Contact").len(), 2, "another reg-id is another way to the phone: {second}");
}
