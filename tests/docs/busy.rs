//! A daemon at work: whatever it counts in an ordinary day, and some of what it counts on a bad one.

use std::net::SocketAddr;

use hookswitch::sip::digest::{Challenge, Credentials};
use hookswitch::sip::scan;
use reqwest::Method;
use serde_json::json;
use tokio::net::TcpStream;

use crate::support::api::{Api, text};
use crate::support::daemon::{Daemon, hookswitch};
use crate::support::events::Events;
use crate::support::folder::Folder;
use crate::support::hep;
use crate::support::phone::{Phone, status};
use crate::support::tls::Certificate;
use crate::support::wait::until;

/// A daemon with phones, a person, calls, a scanner, a guesser, and a PBX that is out of reach.
pub struct Busy {
    pub daemon: Daemon,
    /// What must not be found in any label: extensions, numbers, names, ids, addresses.
    pub private: Vec<String>,
    api: Api,
    phone: Phone,
    hep: SocketAddr,
    rounds: u32,
    _screen: Events,
    _connections: Vec<TcpStream>,
}

impl Busy {
    /// Starts it and does everything once.
    pub async fn start(folder: &Folder) -> Self {
        let certificate = Certificate::make_as(folder, "shown");
        let settings = certificate.settings();
        let daemon = Daemon::start_with(
            folder,
            &format!(
                "[listeners.hep]\nbind = [\"udp:127.0.0.1:0\"]\n\
                 [listeners.phones]\nmode = \"registrar\"\nbind = [\"tls:127.0.0.1:0\"]\n{settings}\
                 [feeds.office]\nkind = \"asterisk\"\naddress = \"127.0.0.1:1\"\nuser = \"u\"\nsecret = \"s\"\n\
                 [limits]\nconnections_per_source_max = 2\n"
            ),
        )
        .await;
        // A second certificate in the place of the first.
        Certificate::make_as(folder, "shown");
        daemon.reload();
        let mut connections = Vec::new();
        for _ in 0..3 {
            connections.push(TcpStream::connect(daemon.registrar).await.expect("the third is closed only then"));
        }
        let phone = Phone::near(daemon.registrar).await;
        for user in PHONES {
            let answer = phone.ask(daemon.registrar, &phone.register(user, 1, 600)).await;
            assert_eq!(status(&answer), "SIP/2.0 200 OK");
        }
        let api = daemon.api();
        let (wilma, screen) = api.agent("Wilhelmina").await;
        let screen = screen.events("/v1/me/popups/stream").await;
        let (rings, guarded) = (api.device(RINGS, "connected").await, api.device(GUARDED, "connected").await);
        api.link(&wilma, &rings).await;
        let secret = format!("/v1/devices/{}/secret", text(&guarded["id"]));
        let (answer, _) = api.send(Method::PUT, &secret, Some(json!({ "password": "s3cret" }))).await;
        assert!(answer.is_success(), "{answer}");
        let mut private: Vec<String> = PHONES.iter().map(|&user| user.to_owned()).collect();
        private.extend([CALLER[1..].to_owned(), "Wilhelmina".into(), wilma, "127.0.0.1".into(), "@".into()]);
        private.extend([&rings, &guarded].map(|device| text(&device["id"])));
        let hep = daemon.listening("hep", "udp");
        let mut busy = Self { daemon, private, api, phone, hep, rounds: 1, _screen: screen, _connections: connections };
        busy.round().await;
        until("a popup was timed and closed", async || {
            let closed = busy.daemon.metric("hookswitch_offers_total", "ended").await;
            let timed = busy.daemon.metric("hookswitch_popup_seconds_count", "").await;
            (closed > 0.0 && timed > 0.0).then_some(())
        })
        .await;
        busy
    }

    /// Does everything once more.
    pub async fn round(&mut self) {
        self.rounds += 1;
        let (registrar, phone, number) = (self.daemon.registrar, &self.phone, self.rounds);
        for user in [RINGS, "7392"] {
            phone.tell(registrar, &phone.register(user, number, 600)).await;
        }
        phone.tell(registrar, &phone.register("7392", number, 1)).await;
        phone.tell(self.daemon.replica, &phone.register("7394", number, 600)).await;
        phone.tell(registrar, "GET / HTTP/1.0\r\n\r\n").await;
        for packet in hep::recorded("asterisk-register") {
            phone.socket.send_to(&packet, self.hep).await.expect("loopback takes it");
        }
        self.guess(number).await;
        self.api.get("/v1/devices").await;
        let (answer, _) = self.api.send(Method::GET, "/v1/made/up/7391", None).await;
        assert_eq!(answer, 404);
        self.ring().await;
    }

    /// A REGISTER with a wrong password.
    async fn guess(&self, number: u32) {
        let phone = Phone::near(self.daemon.registrar).await;
        let request = phone.register(GUARDED, 2 * number, 600);
        let challenged = phone.ask(self.daemon.registrar, &request).await;
        // After four guesses in a row it is 503.
        let Some(challenge) = Challenge::strongest(&scan(challenged.as_bytes()).expect("SIP")) else { return };
        let credentials = Credentials { user: GUARDED.to_owned(), password: "secret".to_owned() };
        let uri = request.split(' ').nth(1).expect("a Request-URI");
        let (name, value) = challenge.answer(&credentials, "REGISTER", uri, 1, "0a4f113b");
        let request = phone.register(GUARDED, 2 * number + 1, 600);
        let guess = request.replacen("Content-Length", &format!("{name}: {value}\r\nContent-Length"), 1);
        assert!(!status(&phone.ask(self.daemon.registrar, &guess).await).contains("200"));
    }

    /// A call to the person's phone, from the first ring to the hang-up.
    async fn ring(&self) {
        let mut ring = hookswitch(&self.daemon.config);
        ring.args(["ring", RINGS, "--from", CALLER, "--answer-after", "0", "--talk", "0"]);
        let done = tokio::task::spawn_blocking(move || ring.output()).await.expect("it does not panic");
        let done = done.expect("hookswitch starts");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

const RINGS: &str = "7391";
/// Has a password.
const GUARDED: &str = "7393";
const PHONES: [&str; 4] = [RINGS, "7392", GUARDED, "7394"];
const CALLER: &str = "+14155550177";
