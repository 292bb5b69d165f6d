//! What was promised, and whether it was kept.
//!
//! Every change of a thing is a version, counted from 1: of a phone the `q` of its contact, of a user the end of the name.
//! What is found later must be the last version that was acknowledged, or one that was sent after it: an answer that never
//! came, and a 503, say that nothing is known.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use reqwest::Method;
use tokio::task::JoinSet;

use crate::support::api::items;
use crate::support::daemon::Daemon;
use crate::support::phone::{Phone, status};

/// All that was sent and acknowledged.
#[derive(Debug, Default)]
pub struct Ledger {
    phones: Mutex<BTreeMap<String, Versions>>,
    users: Mutex<BTreeMap<String, Versions>>,
    /// How long each answer to SIP took, whatever it said.
    pub sip: Mutex<Vec<Duration>>,
    /// The same for the API.
    pub http: Mutex<Vec<Duration>>,
    /// 200 to REGISTER, 2xx to a write.
    pub acknowledged: AtomicU64,
    /// 503 to either.
    pub refused: AtomicU64,
    /// No answer at all although the daemon ran.
    pub silent: AtomicU64,
    started: Mutex<Option<Instant>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Versions {
    acknowledged: u32,
    sent: u32,
}

impl Ledger {
    /// The next version of this phone, which is about to be sent.
    pub fn next_of_phone(&self, user: &str) -> u32 {
        next(&self.phones, user)
    }

    /// The same of a user of the API.
    pub fn next_of_user(&self, name: &str) -> u32 {
        next(&self.users, name)
    }

    pub fn registered(&self, user: &str, version: u32) {
        acknowledge(&self.phones, user, version);
        self.acknowledged.fetch_add(1, Relaxed);
    }

    pub fn written(&self, name: &str, version: u32) {
        acknowledge(&self.users, name, version);
        self.acknowledged.fetch_add(1, Relaxed);
    }

    /// So far: acknowledged, refused, silent.
    pub fn counts(&self) -> (u64, u64, u64) {
        (self.acknowledged.load(Relaxed), self.refused.load(Relaxed), self.silent.load(Relaxed))
    }

    /// One line about it all.
    pub fn summary(&self) -> String {
        let began = *self.started.lock().unwrap().get_or_insert_with(Instant::now);
        let (acknowledged, refused, silent) = self.counts();
        let (slowest, most) = crate::quantiles(&mut self.sip.lock().unwrap());
        let (slowest_http, _) = crate::quantiles(&mut self.http.lock().unwrap());
        format!(
            "{:>3} s, {acknowledged} acknowledged, {refused} refused, {silent} silent; SIP p99 {} ms, slowest {} ms; API slowest {} ms",
            began.elapsed().as_secs(),
            most.as_millis(),
            slowest.as_millis(),
            slowest_http.as_millis()
        )
    }

    /// Promise 4: everybody was answered, and SIP within a second. In `make test` other tests want the processor at the same
    /// time, so there one in a hundred may have to wait for it.
    pub fn assert_answers_in_time(&self) {
        assert_eq!(self.counts().2, 0, "requests without an answer");
        let (slowest, most) = crate::quantiles(&mut self.sip.lock().unwrap());
        let (took, bound) = crate::either((most, Duration::from_millis(1500)), (slowest, Duration::from_secs(1)));
        assert!(took <= bound, "SIP was answered after {took:?}");
    }

    /// Holds what the daemon says against all of this. Afterwards what was found counts as acknowledged: it was read, and a
    /// read waits for its commit.
    pub async fn check(&self, daemon: &Daemon) {
        let names: Vec<String> = self.phones.lock().unwrap().keys().cloned().collect();
        let mut found = BTreeMap::new();
        let mut asking = JoinSet::new();
        for names in names.chunks(names.len().div_ceil(ASKERS).max(1)) {
            let (names, registrar) = (names.to_vec(), daemon.registrar);
            asking.spawn(async move {
                let phone = Phone::near(registrar).await;
                let mut found = Vec::new();
                for name in names {
                    found.push((name.clone(), bound(&phone, registrar, &name).await));
                }
                found
            });
        }
        while let Some(some) = asking.join_next().await {
            found.extend(some.unwrap());
        }
        settle(&self.phones, "phone", |name| found.get(name).copied().flatten());
        let users = users(daemon).await;
        settle(&self.users, "user", |name| users.get(name).copied());
    }
}

/// A removal: the phone's contact goes, the user is deleted.
pub fn is_removal(version: u32) -> bool {
    version.is_multiple_of(4)
}

fn next(versions: &Mutex<BTreeMap<String, Versions>>, name: &str) -> u32 {
    let mut versions = versions.lock().unwrap();
    let of = versions.entry(name.to_owned()).or_default();
    of.sent += 1;
    of.sent
}

fn acknowledge(versions: &Mutex<BTreeMap<String, Versions>>, name: &str, version: u32) {
    let mut versions = versions.lock().unwrap();
    let of = versions.get_mut(name).expect("it was sent");
    of.acknowledged = of.acknowledged.max(version);
}

fn settle(versions: &Mutex<BTreeMap<String, Versions>>, what: &str, found: impl Fn(&str) -> Option<u32>) {
    for (name, of) in versions.lock().unwrap().iter_mut() {
        let mut possible = of.acknowledged..=of.sent;
        let fits = match found(name) {
            Some(version) => possible.contains(&version).then_some(version),
            // Not there: it was never known to be, or a removal may have been the last.
            None => possible.find(|version| *version == 0 || is_removal(*version)),
        };
        let fits = fits.unwrap_or_else(|| panic!("{what} {name}: found {:?}, known {of:?}", found(name)));
        of.acknowledged = fits;
    }
}

/// The version of a phone that is bound, as the registrar answers a REGISTER without contacts.
async fn bound(phone: &Phone, registrar: std::net::SocketAddr, user: &str) -> Option<u32> {
    let query = phone.request("REGISTER", user, 1_000_000, "");
    let its_call_id = format!("Call-ID: {user}@");
    let mut heard = String::new();
    for _ in 0..5 {
        phone.tell(registrar, &query).await;
        while let Some(answer) = phone.hear_for(Duration::from_secs(2)).await {
            // A late answer about another one is none about this one.
            if answer.contains(&its_call_id) {
                heard = answer;
                break;
            }
        }
        if status(&heard).ends_with("200 OK") {
            break;
        }
    }
    assert_eq!(status(&heard), "SIP/2.0 200 OK", "{user}");
    let contacts: Vec<&str> = heard.lines().filter(|line| line.starts_with("Contact:")).collect();
    assert!(contacts.len() <= 1, "{user} is bound more than once: {contacts:?}");
    let (_, q) = contacts.first()?.split_once(";q=0.").expect("a q that tells its version");
    Some(q.chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("three digits"))
}

/// The users by name, with the version that stands behind it.
async fn users(daemon: &Daemon) -> BTreeMap<String, u32> {
    let (api, mut found, mut next) = (daemon.api(), BTreeMap::new(), String::new());
    loop {
        let (status, page) = api.send(Method::GET, &format!("/v1/users?limit=500{next}"), None).await;
        assert!(status.is_success(), "{status} {page}");
        for user in items(&page) {
            let Some((name, version)) = user["name"].as_str().unwrap().rsplit_once(" v") else { continue };
            let twice = found.insert(name.to_owned(), version.parse().unwrap());
            assert_eq!(twice, None, "{name} is there twice");
        }
        match page["next"].as_str() {
            Some(cursor) => next = format!("&after={cursor}"),
            None => return found,
        }
    }
}

const ASKERS: usize = 16;
