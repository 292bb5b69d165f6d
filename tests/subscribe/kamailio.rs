//! A Kamailio with presence modules that sends nothing by itself: all there is, is subscribed to, with a password.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::desk::Person;
use crate::office::DOMAIN;
use crate::support::api::{Api, items};
use crate::support::baresip::{Account, Phone};
use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::kamailio::Kamailio;
use crate::support::ports::Ports;
use crate::support::sipp::{Scenario, Sipp};
use crate::support::tls::Certificate;
use crate::support::wait::until;

/// The office, in the order in which it has to end.
struct Scene {
    p101: Phone,
    p102: Phone,
    kamailio: Kamailio,
    daemon: Daemon,
    admin: Api,
    ann: Person,
    bob: Person,
}

/// Waits until everything subscribed to has told its state.
async fn is_up(daemon: &Daemon) {
    until("the feed is up", async || {
        let up = daemon.metric("hookswitch_feed_up", "feed=\"office\"").await;
        (up > 0.0).then_some(())
    })
    .await;
}

async fn silent_kamailio(folder: &Folder, more: &[&str]) -> Kamailio {
    let nobody = "sip:127.0.0.1:9";
    Kamailio::start_with(folder, nobody, nobody, &[&["WITH_PRESENCE", "WITHOUT_SIP_TRACE"], more].concat()).await
}

/// The same with this certificate, at its address for TLS.
async fn secure_kamailio(folder: &Folder, certificate: &Certificate) -> Kamailio {
    let (chain, key) =
        (format!("TLS_CERTIFICATE=\"{}\"", certificate.chain), format!("TLS_KEY=\"{}\"", certificate.key));
    silent_kamailio(folder, &["WITH_TLS", &chain, &key]).await
}

fn settings(address: SocketAddr, more: &str) -> String {
    format!(
        "[feeds.office]\nkind = \"subscription\"\naddress = \"{address}\"\ndomain = \"{DOMAIN}\"\nuser = \"109\"\n{more}"
    )
}

const EXTENSIONS: &str = "secret = \"pw109\"\ndialogs = [\"101\", \"102\"]\nregistrations = [\"101\", \"102\"]\n";

impl Scene {
    async fn open(folder: &Folder, more: &str) -> Self {
        let kamailio = silent_kamailio(folder, &[]).await;
        let settings = settings(kamailio.address, &format!("{EXTENSIONS}{more}"));
        let daemon = Daemon::start_with(folder, &settings).await;
        Self::open_beside(folder, kamailio, daemon).await
    }

    async fn open_beside(folder: &Folder, kamailio: Kamailio, daemon: Daemon) -> Self {
        let admin = daemon.api();
        is_up(&daemon).await;
        let account =
            |extension| Account { extension, domain: DOMAIN, proxy: kamailio.address, transport: "udp", expires_s: 4 };
        let (p101, p102) = tokio::join!(Phone::start(folder, account("101")), Phone::start(folder, account("102")));
        let ann = Person::sits_down(&admin, "Ann", "101").await;
        let bob = Person::sits_down(&admin, "Bob", "102").await;
        Self { p101, p102, kamailio, daemon, admin, ann, bob }
    }

    fn call_from_outside(&self, folder: &Folder, file: &str) -> Sipp {
        let (target, source) = (Some(self.kamailio.address), Some(self.kamailio.trunk));
        let pause = Duration::from_secs(1);
        Scenario { target, source, service: "+14155550101", pause, ..Scenario::new(file) }.start(folder)
    }

    async fn ann_is_called(&mut self, folder: &Folder) {
        let call = self.call_from_outside(folder, "trunk-calls");
        self.p101.rings().await;
        let offer = self.ann.sees("offered").await;
        assert_eq!((&offer["caller"]["number"], &offer["direction"]), (&"+14155550100".into(), &"inbound".into()));
        assert_eq!(offer["device"], self.ann.device.as_str());
        self.p101.answer().await;
        self.ann.sees("answered").await;
        self.p101.hang_up().await;
        self.ann.sees("ended").await;
        call.passes().await;
    }

    async fn ended_call(&self) -> Value {
        until("the call has ended", async || {
            let calls = self.admin.get("/v1/calls").await;
            let call = items(&calls).first()?.clone();
            (call["state"] == "ended").then_some(call)
        })
        .await
    }
}

async fn pops_once_where_it_rings(folder: &Folder, mut scene: Scene) {
    let device = scene.admin.get(&format!("/v1/devices/{}", scene.ann.device)).await;
    assert!(device["user_agent"].as_str().unwrap_or_default().starts_with("baresip"), "{device:#}");
    scene.ann_is_called(folder).await;
    assert_eq!(scene.ann.has_seen(), ["offered", "answered", "ended"]);
    assert_eq!(scene.bob.has_seen(), [""; 0]);
    let call = scene.ended_call().await;
    assert_eq!((&call["direction"], &call["outcome"]), (&"inbound".into(), &"answered".into()));
    assert_eq!(call["users"][0]["action"], "answered");
    scene.daemon.stop();
}

#[tokio::test]
async fn a_ringing_extension_known_only_by_subscription_pops_the_right_screen() {
    let folder = Folder::new("subscribe-udp");
    let scene = Scene::open(&folder, "").await;
    pops_once_where_it_rings(&folder, scene).await;
}

#[tokio::test]
async fn over_tcp_it_pops_as_well() {
    let folder = Folder::new("subscribe-tcp");
    let scene = Scene::open(&folder, "transport = \"tcp\"\n").await;
    pops_once_where_it_rings(&folder, scene).await;
}

#[tokio::test]
async fn over_tls_it_pops_as_well_once_the_system_trusts_the_certificate() {
    let folder = Folder::new("subscribe-tls");
    let certificate = Certificate::make(&folder);
    let kamailio = secure_kamailio(&folder, &certificate).await;
    let settings = settings(kamailio.tls, &format!("{EXTENSIONS}transport = \"tls\"\n"));
    let environment = vec![("SSL_CERT_FILE", certificate.chain.clone())];
    let daemon = Daemon::start_in(&folder, &settings, environment).await;
    let scene = Scene::open_beside(&folder, kamailio, daemon).await;
    pops_once_where_it_rings(&folder, scene).await;
}

#[tokio::test]
async fn a_certificate_nobody_signed_is_refused_unless_it_is_said_to_be_fine() {
    let (folder, other) = (Folder::new("subscribe-tls-insecure"), Folder::new("subscribe-tls-refused"));
    let certificate = Certificate::make(&folder);
    let kamailio = secure_kamailio(&folder, &certificate).await;
    let checks = Daemon::start_with(&other, &settings(kamailio.tls, &format!("{EXTENSIONS}tls = \"on\"\n"))).await;
    let takes_any = settings(kamailio.tls, &format!("{EXTENSIONS}tls = \"insecure\"\n"));
    let takes_any = Daemon::start_with(&folder, &takes_any).await;
    is_up(&takes_any).await;
    let why = until("the other one says why not", async || {
        let pbxs = checks.api().get("/v1/pbxs").await;
        let feeds = items(&pbxs)[0]["feeds"].as_array().cloned().unwrap_or_default();
        feeds.iter().find_map(|feed| feed["last_error"].as_str().map(str::to_owned))
    })
    .await;
    assert!(why.contains("certificate"), "{why}");
    assert!(checks.metric("hookswitch_feed_up", "feed=\"office\"").await < 1.0);
}

#[tokio::test]
async fn seen_by_subscription_and_by_copies_of_its_sip_at_once_a_call_is_still_one() {
    let folder = Folder::new("subscribe-and-mirror");
    let (nobody, ports) = ("sip:127.0.0.1:9", Ports::take());
    let copies = ports.address(0);
    let kamailio = Kamailio::start_with(&folder, nobody, &format!("sip:{copies}"), &["WITH_PRESENCE"]).await;
    let mirror = format!("[listeners.copies]\nmode = \"mirror\"\nbind = [\"udp:{copies}\"]\n");
    let settings = settings(kamailio.address, &format!("{EXTENSIONS}{mirror}"));
    let daemon = Daemon::start_with(&folder, &settings).await;
    let mut scene = Scene::open_beside(&folder, kamailio, daemon).await;
    scene.ann_is_called(&folder).await;
    // Where the subscription was quicker, the same popup is told again with what SIP adds: the number that was dialled.
    let mut seen = scene.ann.has_seen();
    seen.dedup();
    assert_eq!(seen, ["offered", "answered", "ended"]);
    let call = scene.ended_call().await;
    assert_eq!(items(&scene.admin.get("/v1/calls").await).len(), 1);
    let legs = call["legs"].as_array().expect("a call has legs");
    let of_ann = legs.iter().filter(|leg| leg["device"] == scene.ann.device.as_str());
    assert_eq!((of_ann.count(), legs.len()), (1, 2), "the phone's leg and the trunk's: {call:#}");
    let events = async |kind: &str| {
        let labels = format!("feed_kind=\"{kind}\"");
        scene.daemon.metric("hookswitch_events_total", &labels).await
    };
    assert!(events("mirror").await > 0.0 && events("subscription").await > 0.0, "both have told of it");
}

#[tokio::test]
async fn a_caller_who_gives_up_takes_the_popup_along() {
    let folder = Folder::new("subscribe-given-up");
    let scene = Scene::open(&folder, "").await;
    let call = scene.call_from_outside(&folder, "trunk-gives-up");
    scene.p101.rings().await;
    scene.ann.sees("offered").await;
    call.passes().await;
    scene.ann.sees("rescinded").await;
    assert_eq!(scene.ann.has_seen(), ["offered", "rescinded(caller_hangup)"]);
    assert_eq!(scene.ended_call().await["outcome"], "missed");
}

#[tokio::test]
async fn a_call_between_colleagues_is_one_call_whose_two_ends_were_told_apart() {
    let folder = Folder::new("subscribe-internal");
    let mut scene = Scene::open(&folder, "").await;
    scene.p101.dial("102").await;
    scene.p102.rings().await;
    scene.p102.answer().await;
    scene.p101.hang_up().await;
    let call = scene.ended_call().await;
    assert_eq!((&call["direction"], &call["outcome"]), (&"internal".into(), &"answered".into()));
    assert_eq!(call["legs"].as_array().map(Vec::len), Some(2), "{call:#}");
    assert_eq!(items(&scene.admin.get("/v1/calls").await).len(), 1);
    assert_eq!((scene.ann.has_seen(), scene.bob.has_seen()), (vec![], vec![]));
}

#[tokio::test]
async fn a_phone_that_is_switched_off_is_gone_as_its_registration_says() {
    let folder = Folder::new("subscribe-phones");
    let mut scene = Scene::open(&folder, "").await;
    scene.p102.switch_off();
    scene.admin.device("102", "disconnected").await;
    scene.admin.device("101", "connected").await;
}

#[tokio::test]
async fn a_kamailio_that_was_restarted_is_subscribed_to_again_and_leaves_no_popup_open() {
    let folder = Folder::new("subscribe-restart");
    let mut scene = Scene::open(&folder, "snapshot_s = 5\n").await;
    let call = scene.call_from_outside(&folder, "trunk-calls");
    scene.p101.rings().await;
    scene.ann.sees("offered").await;
    scene.kamailio.stop();
    scene.ann.sees("rescinded").await;
    drop(call);
    scene.p101.hang_up().await;
    scene.kamailio.start_again().await;
    is_up(&scene.daemon).await;
    scene.ann.looks_again().await;
    assert!(scene.ann.snapshot().is_empty());
    // The phones register again by themselves.
    scene.admin.device("101", "connected").await;
    let again = until("the phone is registered there again", async || {
        let call = scene.call_from_outside(&folder, "trunk-calls");
        let rang = tokio::time::timeout(Duration::from_secs(4), scene.p101.rings()).await;
        rang.is_ok().then_some(call)
    })
    .await;
    scene.ann.sees("offered").await;
    scene.p101.answer().await;
    scene.ann.sees("answered").await;
    scene.p101.hang_up().await;
    scene.ann.sees("ended").await;
    again.passes().await;
}

#[tokio::test]
async fn a_wrong_password_is_said_and_not_tried_again_soon() {
    let folder = Folder::new("subscribe-password");
    let kamailio = silent_kamailio(&folder, &[]).await;
    let daemon =
        Daemon::start_with(&folder, &settings(kamailio.address, "secret = \"wrong\"\ndialogs = [\"101\"]\n")).await;
    let said = "does not take the user \"109\"";
    until("the log says what is wrong", async || daemon.output().replace('\\', "").contains(said).then_some(())).await;
    assert!(daemon.output().contains("401"), "what the PBX said");
    assert!(!daemon.output().contains("wrong"), "a password is in the log");
}
