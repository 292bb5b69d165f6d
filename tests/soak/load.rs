//! Phones that register and admins that write, each as fast as they are answered; a flood that waits for nobody; and a look
//! at whether SIP is still served.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::ledger::{Ledger, is_removal};
use crate::support::daemon::Daemon;
use crate::support::phone::{Phone, status};

/// A running load.
pub struct Load {
    over: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Load {
    /// Starts `phones` phones and `admins` admins; what they name begins with `tag`.
    pub fn start(daemon: &Daemon, ledger: &Arc<Ledger>, tag: &str, phones: u32, admins: u32) -> Self {
        let mut load = Self { over: Arc::default(), tasks: JoinSet::new() };
        for phone in 0..phones {
            let (ledger, over) = (ledger.clone(), load.over.clone());
            load.tasks.spawn(registers(daemon.registrar, format!("{tag}p{phone}"), ledger, over));
        }
        for number in 0..admins {
            let admin = Admin {
                users: format!("http://{}/v1/users", daemon.http),
                token: daemon.token(),
                client: Client::new(),
                ledger: ledger.clone(),
                over: load.over.clone(),
            };
            load.tasks.spawn(admin.writes(format!("{tag}a{number}")));
        }
        load
    }

    /// Adds REGISTERs of `phones` other phones, `per_second` of them, whatever is answered.
    pub fn flood(&mut self, daemon: &Daemon, phones: u32, per_second: u32) {
        let (registrar, over) = (daemon.registrar, self.over.clone());
        self.tasks.spawn(async move {
            let phone = Phone::near(registrar).await;
            let mut tick = tokio::time::interval(Duration::from_millis(10));
            let mut sent = 0;
            while !over.load(Ordering::Relaxed) {
                tick.tick().await;
                for _ in 0..per_second / 100 {
                    let user = format!("flood{}", sent % phones);
                    // A full socket means that there is enough.
                    let message = phone.register(&user, 1 + sent / phones, 3600);
                    let _ = phone.socket.try_send_to(message.as_bytes(), registrar);
                    sent += 1;
                }
                let mut answer = [0; 2048];
                while phone.socket.try_recv_from(&mut answer).is_ok() {}
            }
        });
    }

    /// Adds questions whose answers wait for no commit: each must be answered, and by 200.
    pub fn probe(&mut self, daemon: &Daemon, ledger: &Arc<Ledger>) {
        let (peers, ledger, over) = ([daemon.registrar, daemon.replica], ledger.clone(), self.over.clone());
        self.tasks.spawn(async move {
            let phone = Phone::near(peers[0]).await;
            for cseq in 1.. {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                for (peer, message) in peers
                    .iter()
                    .zip([phone.request("OPTIONS", "probe", cseq, ""), phone.register("relayed", cseq, 600)])
                {
                    let Some((answer, took)) = exchange(&phone, *peer, &message, cseq, &over).await else { continue };
                    assert_eq!(answer, 200, "{message}");
                    ledger.sip.lock().unwrap().push(took);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
    }

    /// Ends it.
    pub async fn stop(mut self) {
        self.over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("the load ran to its end");
        }
    }
}

/// Registers some addresses-of-record in turn, again and again; every fourth time the contact is removed.
async fn registers(registrar: SocketAddr, name: String, ledger: Arc<Ledger>, over: Arc<AtomicBool>) {
    let phone = Phone::near(registrar).await;
    for turn in 0..AORS * VERSIONS_MAX {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let user = format!("{name}n{}", turn % AORS);
        let version = ledger.next_of_phone(&user);
        let expires_s = if is_removal(version) { 0 } else { 3600 };
        let contact = format!("Contact: <sip:{user}@{}>;q=0.{version:03}\r\nExpires: {expires_s}\r\n", phone.local);
        let message = phone.request("REGISTER", &user, version, &contact);
        let Some((answer, took)) = exchange(&phone, registrar, &message, version, &over).await else {
            if !over.load(Ordering::Relaxed) {
                ledger.silent.fetch_add(1, Ordering::Relaxed);
            }
            continue;
        };
        ledger.sip.lock().unwrap().push(took);
        match answer {
            200 => ledger.registered(&user, version),
            503 => {
                ledger.refused.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(AFTER_503).await;
            }
            other => panic!("{other} to\n{message}"),
        }
    }
}

/// Sends `message`, again when nothing comes (RFC 3261 §17.1.2.2), and says how it was answered and after how long. None
/// when it was not, or the load is over.
async fn exchange(
    phone: &Phone,
    peer: SocketAddr,
    message: &str,
    cseq: u32,
    over: &AtomicBool,
) -> Option<(u16, Duration)> {
    let began = Instant::now();
    let (mut sent, mut again) = (false, RETRANSMIT);
    let its_cseq = format!("CSeq: {cseq} ");
    while began.elapsed() < PATIENCE {
        if !sent {
            phone.tell(peer, message).await;
            sent = true;
        }
        if let Some(answer) = phone.hear_for(Duration::from_millis(50)).await {
            // A late answer to an earlier request is none to this one.
            if answer.contains(&its_cseq) && answer.contains(message.lines().nth(1)?.split_once("branch=")?.1) {
                let code = status(&answer).split(' ').nth(1)?.parse().ok()?;
                return Some((code, began.elapsed()));
            }
        } else if over.load(Ordering::Relaxed) {
            return None;
        } else if began.elapsed() >= again {
            again *= 3;
            sent = false;
        }
    }
    None
}

struct Admin {
    users: String,
    token: String,
    client: Client,
    ledger: Arc<Ledger>,
    over: Arc<AtomicBool>,
}

impl Admin {
    /// Makes user after user, renames each twice and deletes every second one.
    async fn writes(self, name: String) {
        for number in 0.. {
            let name = format!("{name}u{number}");
            let body = |version| json!({ "name": format!("{name} v{version}") });
            let version = self.ledger.next_of_user(&name);
            let create = self.client.post(&self.users).json(&body(version));
            let Some(made) = self.write(&name, version, create).await else { return };
            let Some(user) = made["id"].as_str() else { continue };
            let user = format!("{}/{user}", self.users);
            for _ in 0..if number % 2 == 0 { 2 } else { 3 } {
                let version = self.ledger.next_of_user(&name);
                let request = if is_removal(version) {
                    self.client.request(Method::DELETE, &user)
                } else {
                    let patch = self.client.patch(&user).header("content-type", "application/merge-patch+json");
                    patch.body(body(version).to_string())
                };
                if self.write(&name, version, request).await.is_none() {
                    return;
                }
            }
        }
    }

    /// The answer's body (null for a 503); none when the load is over or the daemon is.
    async fn write(&self, name: &str, version: u32, request: RequestBuilder) -> Option<Value> {
        if self.over.load(Ordering::Relaxed) {
            return None;
        }
        let began = Instant::now();
        let answer = request.bearer_auth(&self.token).timeout(PATIENCE).send().await;
        let (status, body) = match answer {
            Ok(answer) => (answer.status().as_u16(), answer.bytes().await),
            Err(error) if error.is_timeout() => {
                self.ledger.silent.fetch_add(1, Ordering::Relaxed);
                return Some(Value::Null);
            }
            Err(_) => return None,
        };
        // An answer that breaks off is none.
        let body = body.ok()?;
        self.ledger.http.lock().unwrap().push(began.elapsed());
        match status {
            200 | 201 | 204 => self.ledger.written(name, version),
            503 => {
                self.ledger.refused.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(AFTER_503).await;
                return Some(Value::Null);
            }
            other => panic!("{other}: {}", String::from_utf8_lossy(&body)),
        }
        Some(serde_json::from_slice(&body).unwrap_or_default())
    }
}

/// Of one phone.
const AORS: u32 = 6;
/// A version is three digits of `q`.
const VERSIONS_MAX: u32 = 999;
/// A phone that hears 503 is in less of a hurry than the others.
const AFTER_503: Duration = Duration::from_millis(20);
/// T1.
const RETRANSMIT: Duration = Duration::from_millis(500);
/// Who has heard nothing for so long was not answered.
const PATIENCE: Duration = Duration::from_secs(5);
