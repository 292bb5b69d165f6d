//! Phones that registered here are asked now and then whether they live (OPTIONS, RFC 3261 §11); who falls silent is
//! unregistered.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use crate::support::api::{Api, items, text};
use crate::support::baresip;
use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::phone::{Phone, request, status};
use crate::support::ports::Ports;
use crate::support::wait::until;

/// Asked every second, gone after two misses of two seconds.
const OFTEN: &str = "[registrar]\nkeepalive_s = 1\nkeepalive_misses = 2\nkeepalive_timeout_s = 2\n";
/// The same, and a slow machine makes nobody miss so often.
const PATIENT: &str = "[registrar]\nkeepalive_s = 1\nkeepalive_misses = 50\nkeepalive_timeout_s = 2\n";

/// The value of the first header of a name.
fn header<'a>(message: &'a str, name: &str) -> &'a str {
    let found = message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    found.unwrap_or_else(|| panic!("no {name} in\n{message}"))
}

fn branch(message: &str) -> &str {
    header(message, "Via").split_once("branch=").unwrap().1
}

/// What a phone answers to an OPTIONS.
pub fn answer(options: &str, status: &str) -> String {
    let copied = ["Via", "From", "Call-ID", "CSeq"].map(|name| format!("{name}: {}\r\n", header(options, name)));
    let to = header(options, "To");
    format!("SIP/2.0 {status}\r\n{}To: {to};tag=phone\r\nContent-Length: 0\r\n\r\n", copied.concat())
}

/// The next OPTIONS, and where it came from.
async fn question(socket: &UdpSocket) -> (String, SocketAddr) {
    let mut buffer = vec![0; 65_535];
    loop {
        let read = tokio::time::timeout(Duration::from_secs(20), socket.recv_from(&mut buffer)).await;
        let (length, from) = read.expect("the phone is asked").unwrap();
        let message = String::from_utf8(buffer[..length].to_vec()).unwrap();
        if message.starts_with("OPTIONS ") {
            return (message, from);
        }
    }
}

/// Answers every OPTIONS with `status`, for ever.
async fn answering(phone: &Phone, status: &str) -> std::convert::Infallible {
    loop {
        let (options, from) = question(&phone.socket).await;
        phone.tell(from, &answer(&options, status)).await;
    }
}

/// What comes of `awaited` while something else goes on for ever.
async fn during<T>(other: impl Future<Output = std::convert::Infallible>, awaited: impl Future<Output = T>) -> T {
    tokio::select! {
        never = other => match never {},
        found = awaited => found,
    }
}

/// Registers `phone` at `registrar`.
async fn register(phone: &Phone, registrar: SocketAddr, user: &str, cseq: u32) {
    phone.tell(registrar, &phone.register(user, cseq, 600)).await;
    loop {
        let message = phone.hear().await.expect("an answer");
        if message.starts_with("SIP/2.0 ") {
            assert_eq!(status(&message), "SIP/2.0 200 OK", "{message}");
            return;
        }
    }
}

async fn health(api: &Api, device: &Value) -> Value {
    api.get(&format!("/v1/devices/{}/health", text(&device["id"]))).await
}

async fn until_reachable(api: &Api, device: &Value, reachable: bool) -> Value {
    until("its health says whether it answers", async || {
        let health = health(api, device).await;
        (health["reachable"] == reachable).then_some(health)
    })
    .await
}

/// A metric that counts things, as it is printed.
async fn count(daemon: &Daemon, name: &str, labels: &str) -> String {
    // A sum of nothing is minus zero.
    (daemon.metric(name, labels).await + 0.0).to_string()
}

async fn removed(daemon: &Daemon) -> String {
    count(daemon, "hookswitch_bindings_removed_total", "reason=\"keepalive\"").await
}

#[tokio::test]
async fn a_real_phone_answers_over_udp_and_tcp_stays_and_its_round_trip_is_in_its_health() {
    let folder = Folder::new("keepalive");
    let daemon = Daemon::start_with(&folder, PATIENT).await;
    let admin = daemon.api();
    let mut phones = Vec::new();
    for (extension, transport) in [("101", "udp"), ("102", "tcp")] {
        let proxy = daemon.registrar;
        let account = baresip::Account { extension, domain: "pbx.example", proxy, transport, expires_s: 600 };
        phones.push(baresip::Phone::start(&folder, account).await);
        let device = admin.device(extension, "connected").await;
        let health = until_reachable(&admin, &device, true).await;
        assert!(health["round_trip_us"].as_u64().unwrap() > 0, "{health:#}");
        assert_eq!(health["contacts"][0]["round_trip_us"], health["round_trip_us"], "{health:#}");
        assert_eq!(health["troubles"], json!([]), "{health:#}");
    }
    until("they are asked again and again", async || {
        let answered = daemon.metric("hookswitch_keepalive_questions_total", "outcome=\"answered\"").await;
        (answered >= 6.0).then_some(())
    })
    .await;
    assert_eq!(removed(&daemon).await, "0");
    assert!(daemon.metric("hookswitch_keepalive_seconds_count", "").await >= 6.0);
    assert_eq!(count(&daemon, "hookswitch_keepalive_contacts", "").await, "2");
    for phone in &phones {
        assert_eq!(admin.find_device(&phone.extension).await.unwrap()["state"], "connected");
    }
}

#[tokio::test]
async fn a_phone_that_falls_silent_is_asked_again_then_removed_for_good_and_a_register_brings_it_back() {
    let folder = Folder::new("keepalive");
    let mut daemon = Daemon::start_with(&folder, OFTEN).await;
    let admin = daemon.api();
    let events = admin.events("/v1/events").await;
    let phone = Phone::near(daemon.registrar).await;
    register(&phone, daemon.registrar, "101", 1).await;
    let device = admin.device("101", "connected").await;
    let (options, from) = question(&phone.socket).await;
    assert_eq!(from, daemon.registrar, "from the socket it registered at, so that a NAT lets it in");
    assert_eq!(options.lines().next().unwrap(), format!("OPTIONS sip:101@{} SIP/2.0", phone.local));
    assert!(header(&options, "Via").starts_with(&format!("SIP/2.0/UDP {};rport;", daemon.registrar)), "{options}");
    assert_eq!((header(&options, "CSeq"), header(&options, "Max-Forwards")), ("1 OPTIONS", "70"));
    let mut asked = vec![branch(&options).to_owned()];
    until("the same question comes again", async || {
        let (options, _) = question(&phone.socket).await;
        let is_again = asked.iter().any(|branch| branch == self::branch(&options));
        asked.push(branch(&options).to_owned());
        is_again.then_some(())
    })
    .await;
    events.wait("it is told as unreachable", |event| event.kind == "device.unreachable").await;
    events.wait("it is told as gone", |event| event.kind == "device.down").await;
    admin.device("101", "disconnected").await;
    let history = admin.get(&format!("/v1/devices/{}/history", text(&device["id"]))).await;
    assert_eq!((&items(&history)[0]["kind"], &items(&history)[0]["cause"]), (&json!("down"), &json!("keepalive")));
    assert_eq!(removed(&daemon).await, "1");
    assert_eq!(health(&admin, &device).await["reachable"], Value::Null, "what was found out went with it");
    daemon.kill();
    daemon.start_again().await;
    assert_eq!(daemon.api().find_device("101").await.unwrap()["state"], "disconnected");
    register(&phone, daemon.registrar, "101", 2).await;
    // Whatever it answers, it lives.
    during(answering(&phone, "486 Busy Here"), until_reachable(&daemon.api(), &device, true)).await;
    assert_eq!(daemon.api().find_device("101").await.unwrap()["state"], "connected");
}

#[tokio::test]
async fn a_phone_behind_tcp_is_asked_over_its_connection_and_removed_while_it_is_open() {
    let folder = Folder::new("keepalive");
    let daemon = Daemon::start_with(&folder, OFTEN).await;
    let admin = daemon.api();
    let mut stream = TcpStream::connect(daemon.registrar).await.unwrap();
    let local = stream.local_addr().unwrap();
    let contact = format!("Contact: <sip:101@{local};transport=tcp>\r\nExpires: 600\r\n");
    let register = request("TCP", local, "REGISTER", "101", 1, "z9hG4bKr1", &contact);
    stream.write_all(register.as_bytes()).await.unwrap();
    let device = admin.device("101", "connected").await;
    let mut heard = String::new();
    let mut buffer = [0; 4096];
    while !heard.contains("OPTIONS sip:101@") || !heard.ends_with("\r\n\r\n") {
        let length = stream.read(&mut buffer).await.unwrap();
        assert!(length > 0, "the connection stays open");
        heard.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
    }
    let options = &heard[heard.find("OPTIONS sip:").unwrap()..];
    assert!(header(options, "Via").starts_with(&format!("SIP/2.0/TCP {}", daemon.registrar)), "{options}");
    stream.write_all(answer(options, "200 OK").as_bytes()).await.unwrap();
    let health = until_reachable(&admin, &device, true).await;
    assert!(health["round_trip_us"].as_u64().unwrap() > 0, "{health:#}");
    admin.device("101", "disconnected").await;
    assert_eq!(removed(&daemon).await, "1");
    assert_eq!(
        count(&daemon, "hookswitch_sip_connections", "listener=\"registrar\"").await,
        "1",
        "it was open all the time"
    );
}

#[tokio::test]
async fn an_answer_from_another_address_or_with_a_made_up_branch_does_not_count() {
    let folder = Folder::new("keepalive");
    let daemon = Daemon::start_with(&folder, OFTEN).await;
    let admin = daemon.api();
    let phone = Phone::near(daemon.registrar).await;
    let other = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    register(&phone, daemon.registrar, "101", 1).await;
    admin.device("101", "connected").await;
    let forging = async {
        loop {
            let (options, _) = question(&phone.socket).await;
            let forged = answer(&options, "200 OK");
            other.send_to(forged.as_bytes(), daemon.registrar).await.unwrap();
            let made_up = forged.replace(branch(&options), &format!("z9hG4bKalive{:032x}", 7));
            phone.tell(daemon.registrar, &made_up).await;
        }
    };
    during(forging, admin.device("101", "disconnected")).await;
    assert_eq!(removed(&daemon).await, "1");
    assert!(daemon.metric("hookswitch_dropped_total", "where=\"keepalive\",reason=\"stranger\"").await >= 1.0);
    assert_eq!(count(&daemon, "hookswitch_keepalive_questions_total", "outcome=\"answered\"").await, "0");
}

#[tokio::test]
async fn after_a_restart_it_goes_on_asking_over_the_socket_that_a_nat_lets_in() {
    let folder = Folder::new("keepalive");
    // A second socket that the phones may have come to: after a restart nobody knows which it was.
    let ports = Ports::take();
    let any = ports.port(0);
    let more = format!(
        "[listeners.any]\nmode = \"registrar\"\nbind = [\"udp:0.0.0.0:{any}\"]\nnetworks = [\"127.0.0.0/8\"]\n{PATIENT}"
    );
    let mut daemon = Daemon::start_with(&folder, &more).await;
    let (phone, phone6) = (Phone::near(daemon.registrar).await, Phone::near(daemon.registrar6).await);
    register(&phone, daemon.registrar, "101", 1).await;
    register(&phone6, daemon.registrar6, "102", 1).await;
    daemon.kill();
    daemon.start_again().await;
    let admin = daemon.api();
    let mut asking = BTreeSet::new();
    // A NAT that only lets in who was spoken to: the phone hears nothing of the other socket.
    until("it is asked from both and answers the one it knows", async || {
        let (options, from) = question(&phone.socket).await;
        asking.insert(from.port());
        assert!(header(&options, "Via").starts_with(&format!("SIP/2.0/UDP {from};")), "{options}");
        if from == daemon.registrar {
            phone.tell(from, &answer(&options, "200 OK")).await;
        }
        let device = admin.find_device("101").await?;
        (health(&admin, &device).await["reachable"] == true).then_some(())
    })
    .await;
    assert_eq!(asking, BTreeSet::from([any, daemon.registrar.port()]));
    assert_eq!(question(&phone6.socket).await.1, daemon.registrar6);
    let device = admin.device("102", "connected").await;
    during(answering(&phone6, "200 OK"), until_reachable(&admin, &device, true)).await;
}

#[tokio::test]
async fn an_account_switches_it_on_and_off_and_phones_of_a_pbx_are_never_asked() {
    let folder = Folder::new("keepalive");
    let daemon = Daemon::start(&folder).await;
    let admin = daemon.api();
    let (phone, relayed) = (Phone::near(daemon.registrar).await, Phone::near(daemon.replica).await);
    register(&phone, daemon.registrar, "101", 1).await;
    register(&relayed, daemon.replica, "102", 1).await;
    admin.device("102", "connected").await;
    let account = text(&items(&admin.get("/v1/accounts").await)[0]["id"]);
    let set = async |seconds: Value| {
        let settings = json!({ "settings": { "registration": { "keepalive_s": seconds, "keepalive_misses": 0 } } });
        admin.patch(&format!("/v1/accounts/{account}"), settings).await;
    };
    assert_eq!(phone.hear_for(Duration::from_millis(1500)).await, None, "it is off by default");
    set(json!(1)).await;
    let mut asked = BTreeSet::new();
    while asked.len() < 3 {
        let (options, _) = question(&phone.socket).await;
        asked.insert(branch(&options).to_owned());
        phone.tell(daemon.registrar, &answer(&options, "200 OK")).await;
    }
    set(json!(0)).await;
    until("nobody is asked any more", async || {
        (count(&daemon, "hookswitch_keepalive_contacts", "").await == "0").then_some(())
    })
    .await;
    assert_eq!(admin.find_device("101").await.unwrap()["state"], "connected", "without a number of misses it stays");
    assert_eq!(relayed.hear_for(Duration::from_millis(10)).await, None, "its PBX has to ask it");
}

#[tokio::test]
async fn behind_a_proxy_the_path_becomes_the_route_and_its_408_is_a_miss() {
    let folder = Folder::new("keepalive");
    let daemon = Daemon::start_with(&folder, OFTEN).await;
    let admin = daemon.api();
    let proxy = Phone::near(daemon.registrar).await;
    let path = format!("<sip:{};lr>", proxy.local);
    let headers = format!("Path: {path}\r\nSupported: path\r\nContact: <sip:101@10.0.0.7:5062>\r\nExpires: 600\r\n");
    proxy.tell(daemon.registrar, &proxy.request("REGISTER", "101", 1, &headers)).await;
    let device = admin.device("101", "connected").await;
    let (options, _) = question(&proxy.socket).await;
    assert_eq!(options.lines().next().unwrap(), "OPTIONS sip:101@10.0.0.7:5062 SIP/2.0");
    assert_eq!(header(&options, "Route"), path);
    during(answering(&proxy, "200 OK"), until_reachable(&admin, &device, true)).await;
    during(answering(&proxy, "408 Request Timeout"), admin.device("101", "disconnected")).await;
    assert_eq!(removed(&daemon).await, "1");
}
