//! Devices, queues and members, the way in, and the way back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::office::{Office, Order};
use crate::recorded::{answers, frames};
use crate::server::{EventSocket, Manners};
use crate::support::api::{items, text};
use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::tls::Certificate;
use crate::support::wait::until;

const QUICK: &str = "secret = \"ClueCon\"\npoll_s = 2\nsnapshot_s = 5";

/// The members of sales, until they are these.
async fn members(office: &Office, expected: &str) {
    until(expected, async || (office.members("sales@default").await == expected).then_some(())).await;
}

#[tokio::test]
async fn the_first_look_shows_phones_queues_and_members() {
    let office = Office::open("first-look", false).await;
    let device = office.admin.device("201", "connected").await;
    assert_eq!((&device["address"], &device["bindings"]), (&json!("127.0.0.1:5181"), &json!(1)), "{device:#}");
    members(&office, "201 free, 202 logged_out").await;
    let names: Vec<String> =
        items(&office.admin.get("/v1/queues").await).iter().map(|queue| text(&queue["name"])).collect();
    assert_eq!(names.len(), 3, "{names:?}");
}

#[tokio::test]
async fn a_phone_that_unregisters_or_expires_is_gone() {
    for name in ["unregister", "register-expiry"] {
        let office = Office::open_as(name, false, Manners::default(), "secret = \"ClueCon\"\nsnapshot_s = 5").await;
        // What the list says from now on is what is left when the phone is gone.
        let without = answers("direct-answered")["api sofia status profile internal reg"][0].clone();
        let without = without.replace("202", "209").replace("201", "202");
        office.pbx.answer("api sofia status profile internal reg", &without);
        let events: Vec<_> =
            frames("json", name).into_iter().filter(|(_, f)| crate::recorded::stamp(f).is_some()).collect();
        office.pbx.send(&events[0].0).await;
        office.admin.device("201", "connected").await;
        office.pbx.send(&events[1].0).await;
        office.admin.device("201", "disconnected").await;
    }
}

#[tokio::test]
async fn agents_change_their_status_by_event_and_their_tiers_by_the_next_look() {
    let office = Office::open_as("members", false, Manners::default(), QUICK).await;
    members(&office, "201 free, 202 logged_out").await;
    let status = frames("json", "agent-status");
    let changes: Vec<_> =
        status.iter().filter(|(bytes, _)| bytes.windows(19).any(|w| w == b"agent-status-change")).collect();
    office.pbx.send(&changes[0].0).await;
    let list = answers("agent-tiers")["api callcenter_config agent list"][0].clone();
    office.pbx.answer("api callcenter_config agent list", &list.replacen("|Available|", "|On Break|", 1));
    members(&office, "201 free paused, 202 logged_out").await;
    let tiers = answers("agent-tiers")["api callcenter_config tier list"].clone();
    let without = tiers[0]
        .lines()
        .filter(|line| !line.starts_with("sales@default|202"))
        .fold(String::new(), |all, line| all + line + "\n");
    office.pbx.answer("api callcenter_config tier list", &without);
    members(&office, "201 free paused").await;
}

#[tokio::test]
async fn a_caller_who_waits_shows_in_the_queue_until_somebody_answers() {
    let office = Office::open("waiting", false).await;
    let recording = frames("json", "queue-call");
    let upto = |name: &str| {
        recording.iter().position(|(bytes, _)| bytes.windows(name.len()).any(|w| w == name.as_bytes())).unwrap()
    };
    let (begins, ends) = (upto("\"member-queue-start\""), upto("\"bridge-agent-start\""));
    for (bytes, frame) in &recording[..=begins] {
        if crate::recorded::stamp(frame).is_some() {
            office.pbx.send(bytes).await;
        }
    }
    let waiting = async || {
        let calls = office.admin.get("/v1/calls").await;
        items(&calls).iter().filter(|call| !call["waiting"].is_null()).count()
    };
    until("somebody waits", async || (waiting().await == 1).then_some(())).await;
    for (bytes, _) in &recording[begins + 1..=ends] {
        office.pbx.send(bytes).await;
    }
    until("nobody waits", async || (waiting().await == 0).then_some(())).await;
}

#[tokio::test]
async fn a_cut_connection_is_made_again_and_calls_that_are_gone_have_ended() {
    let office = Office::open("cut", false).await;
    let recording = frames("json", "direct-answered");
    for (bytes, frame) in recording.iter().take(6) {
        if crate::recorded::stamp(frame).is_some() {
            office.pbx.send(bytes).await;
        }
    }
    until("it rings", async || {
        let calls = office.admin.get("/v1/calls").await;
        items(&calls).first().filter(|call| call["state"] == "ringing").map(|_| ())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    office.pbx.cut().await;
    office.pbx.is_subscribed(2).await;
    let calls = office.calls(1).await;
    assert_eq!(calls[1], "legs: to_device 201 lost, trunk_in lost", "{calls:#?}");
    assert!(calls[2].contains("rescinded"), "no popup stays open: {calls:#?}");
}

#[tokio::test]
async fn a_call_found_at_the_start_is_followed_to_its_end() {
    let office = Office::open("found", false).await;
    let recorded = answers("direct-answered");
    office.pbx.answer("api show channels as json", recorded["api show channels as json"].last().unwrap());
    for (command, given) in recorded.iter().filter(|(command, _)| command.starts_with("api uuid_dump")) {
        office.pbx.answer(command, given.last().unwrap());
    }
    office.pbx.cut().await;
    office.pbx.is_subscribed(2).await;
    until("the call is known", async || {
        let calls = office.admin.get("/v1/calls").await;
        items(&calls).first().filter(|call| call["state"] == "answered").map(|_| ())
    })
    .await;
    for (bytes, _) in frames("json", "direct-answered").iter().rev().take(3).rev() {
        office.pbx.send(bytes).await;
    }
    let calls = office.calls(1).await;
    assert_eq!(calls[0], "inbound +14155550100 > 201: answered");
}

#[tokio::test]
async fn a_wrong_password_is_said_and_not_tried_again_soon() {
    let folder = Folder::new("esl-refused");
    let pbx = EventSocket::start(Manners::default()).await;
    let more = format!("[feeds.freeswitch]\naddress = \"{}\"\nsecret = \"opensesame\"\n", pbx.address);
    let daemon = Daemon::start_with(&folder, &more).await;
    until("it says so", async || daemon.output().contains("secret must be the password of").then_some(())).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(daemon.output().matches("a feed broke").count(), 1, "{}", daemon.output());
    assert!(!daemon.output().contains("opensesame"));
    assert_eq!(pbx.subscribed(), 0);
}

#[tokio::test]
async fn a_user_of_the_directory_logs_in() {
    let manners = Manners { login: "userauth hookswitch@127.0.0.1:s3cret", ..Manners::default() };
    let settings = "user = \"hookswitch@127.0.0.1\"\nsecret = \"s3cret\"";
    let office = Office::open_as("userauth", false, manners, settings).await;
    office.play("json", "direct-answered", Order::Recorded).await;
    assert_eq!(office.calls(1).await[0], "inbound +14155550100 > 201: answered");
}

#[tokio::test]
async fn a_member_taken_out_over_the_api_is_taken_out_on_the_pbx_first() {
    let office = Office::open_as("control", false, Manners::default(), QUICK).await;
    let pbx = office.admin.get("/v1/pbxs").await["items"][0].clone();
    office.admin.patch(&format!("/v1/pbxs/{}", text(&pbx["id"])), json!({ "control": true })).await;
    let queue = office.queue("sales@default").await;
    let device = office.admin.find_device("202").await.unwrap();
    let path = format!("/v1/queues/{}/members/{}", text(&queue["id"]), text(&device["id"]));
    let tiers = answers("agent-tiers")["api callcenter_config tier list"][1].clone();
    let without = tiers
        .lines()
        .filter(|line| !line.starts_with("sales@default|202"))
        .fold(String::new(), |all, line| all + line + "\n");
    let command = "api callcenter_config tier del sales@default 202@default";
    office.pbx.answer(command, "-ERR not today\n");
    // The feed takes commands from the moment it has seen that it may.
    until("the PBX refuses", async || {
        let (_, problem) = office.admin.send(reqwest::Method::DELETE, &path, None).await;
        problem.to_string().contains("not today").then_some(())
    })
    .await;
    members(&office, "201 free, 202 logged_out").await;
    office.pbx.answer("api callcenter_config tier list", &without);
    office.pbx.answer(command, "+OK\n");
    let (status, problem) = office.admin.send(reqwest::Method::DELETE, &path, None).await;
    assert!(status.is_success(), "{problem:#}");
    members(&office, "201 free").await;
}

#[tokio::test]
async fn over_tls_it_is_the_same() {
    let folder = Folder::new("esl-tls");
    let certificate = Certificate::make(&folder);
    let pbx = EventSocket::start(Manners::default()).await;
    let front = tls_in_front_of(&certificate, pbx.address).await;
    let more =
        |tls: &str| format!("[feeds.freeswitch]\naddress = \"{front}\"\nsecret = \"ClueCon\"\ntls = \"{tls}\"\n");
    {
        let folder = Folder::new("esl-tls-untrusted");
        let daemon = Daemon::start_with(&folder, &more("on")).await;
        until("nobody vouches for the certificate", async || daemon.output().contains(": TLS: ").then_some(())).await;
        assert_eq!(pbx.subscribed(), 0);
    }
    let daemon = Daemon::start_with(&folder, &more("insecure")).await;
    pbx.is_subscribed(1).await;
    daemon.api().device("201", "connected").await;
}

/// Something that speaks TLS with this certificate and passes all on to `address`, as stunnel does.
async fn tls_in_front_of(certificate: &Certificate, address: SocketAddr) -> SocketAddr {
    let chain = CertificateDer::from_pem_file(&certificate.chain).unwrap();
    let key = PrivateKeyDer::from_pem_file(&certificate.key).unwrap();
    let config = ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .unwrap();
    let (acceptor, listener) = (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let front = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut inside) = acceptor.accept(stream).await else { return };
                let mut outside = TcpStream::connect(address).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut inside, &mut outside).await;
            });
        }
    });
    front
}
