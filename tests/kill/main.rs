//! Promise 1: a 200 OK to REGISTER, and a 2xx to an API write, mean that the change is on disk, whenever the power goes.

#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use support::api::items;
use support::daemon::Daemon;
use support::folder::Folder;
use support::phone::{Phone, status};
use support::postgres::Server;

/// What was acknowledged. A thing with a change in flight when the power went may be as before or as after it.
#[derive(Default)]
struct Ledger {
    /// Device state by extension; none = unknown, a change was in flight.
    phones: BTreeMap<String, Option<&'static str>>,
    /// Users by id: name, or none when unknown.
    users: BTreeMap<String, Option<String>>,
    acknowledged: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_rounds_of_kill_9_lose_nothing_that_was_acknowledged_on_sqlite() {
    lose_nothing("kill-sqlite", CONFIGURATION).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_rounds_of_kill_9_lose_nothing_that_was_acknowledged_on_postgres() {
    let server = Server::shared();
    let url = server.database();
    lose_nothing("kill-postgres", &format!("{CONFIGURATION}\n[database]\nurl = \"{url}\"")).await;
}

async fn lose_nothing(name: &str, configuration: &str) {
    let folder = Folder::new(name);
    let mut daemon = Daemon::start_with(&folder, configuration).await;
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    for round in 0..ROUNDS {
        let over = Arc::new(AtomicBool::new(false));
        let mut load = JoinSet::new();
        for worker in 0..4 {
            load.spawn(register(daemon.registrar, round, worker, ledger.clone(), over.clone()));
            load.spawn(edit(
                format!("http://{}", daemon.http),
                daemon.token(),
                round,
                worker,
                ledger.clone(),
                over.clone(),
            ));
        }
        // Another moment of the commit's cycle in every round.
        tokio::time::sleep(Duration::from_millis(150 + 13 * round)).await;
        daemon.kill();
        over.store(true, Ordering::Relaxed);
        while let Some(ended) = load.join_next().await {
            ended.unwrap();
        }
        daemon.start_again().await;
        check(&daemon, &ledger).await;
    }
    let ledger = ledger.lock().unwrap();
    assert!(
        ledger.acknowledged > 500,
        "only {} changes were acknowledged: too little to prove anything",
        ledger.acknowledged
    );
}

/// Registers phone after phone, and removes every third one again.
async fn register(
    registrar: std::net::SocketAddr,
    round: u64,
    worker: u32,
    ledger: Arc<Mutex<Ledger>>,
    over: Arc<AtomicBool>,
) {
    let phone = Phone::near(registrar).await;
    for number in 0.. {
        let user = format!("r{round}w{worker}n{number}");
        let steps: &[(u32, &str)] =
            if number % 3 == 0 { &[(600, "connected"), (0, "disconnected")] } else { &[(600, "connected")] };
        for (cseq, (expires_s, state)) in (1..).zip(steps) {
            ledger.lock().unwrap().phones.insert(user.clone(), None);
            phone.tell(registrar, &phone.register(&user, cseq, *expires_s)).await;
            let answer = loop {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                if let Some(answer) = phone.hear_for(Duration::from_millis(100)).await {
                    break answer;
                }
            };
            assert_eq!(status(&answer), "SIP/2.0 200 OK");
            let mut ledger = ledger.lock().unwrap();
            ledger.phones.insert(user.clone(), Some(state));
            ledger.acknowledged += 1;
        }
    }
}

/// Makes user after user, and renames every second one.
async fn edit(http: String, token: String, round: u64, worker: u32, ledger: Arc<Mutex<Ledger>>, over: Arc<AtomicBool>) {
    let client = reqwest::Client::new();
    for number in 0.. {
        let name = format!("user {round}-{worker}-{number}");
        let made =
            client.post(format!("{http}/v1/users")).bearer_auth(&token).json(&json!({ "name": name })).send().await;
        let Some((201, user)) = answer(made).await else { break };
        let id = user["id"].as_str().unwrap().to_owned();
        ledger.lock().unwrap().users.insert(id.clone(), Some(name.clone()));
        ledger.lock().unwrap().acknowledged += 1;
        if number % 2 == 0 {
            continue;
        }
        ledger.lock().unwrap().users.insert(id.clone(), None);
        let name = format!("{name}, renamed");
        let request = client.patch(format!("{http}/v1/users/{id}")).bearer_auth(&token);
        let request =
            request.header("content-type", "application/merge-patch+json").body(json!({ "name": name }).to_string());
        let Some((200, _)) = answer(request.send().await).await else { break };
        let mut ledger = ledger.lock().unwrap();
        ledger.users.insert(id, Some(name));
        ledger.acknowledged += 1;
    }
    while !over.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A whole answer; none when the connection broke before its end.
async fn answer(sent: Result<reqwest::Response, reqwest::Error>) -> Option<(u16, Value)> {
    let response = sent.ok()?;
    let status = response.status().as_u16();
    Some((status, response.json().await.ok()?))
}

/// Holds the daemon's answers against the ledger.
async fn check(daemon: &Daemon, ledger: &Mutex<Ledger>) {
    let devices = all(daemon, "/v1/devices").await;
    let devices: BTreeMap<&str, &str> = devices
        .iter()
        .map(|device| (device["extension"].as_str().unwrap(), device["state"].as_str().unwrap()))
        .collect();
    let users = all(daemon, "/v1/users").await;
    let users: BTreeMap<&str, &str> =
        users.iter().map(|user| (user["id"].as_str().unwrap(), user["name"].as_str().unwrap())).collect();
    let mut ledger = ledger.lock().unwrap();
    for (extension, state) in &mut ledger.phones {
        let found = devices.get(extension.as_str()).copied();
        match state {
            Some(state) => assert_eq!(found, Some(*state), "{extension}"),
            // From here on it is known again.
            None => *state = found.map(|found| if found == "connected" { "connected" } else { "disconnected" }),
        }
    }
    for (id, name) in &mut ledger.users {
        let found = users.get(id.as_str()).copied();
        match name {
            Some(name) => assert_eq!(found, Some(name.as_str()), "{id}"),
            None => *name = found.map(str::to_owned),
        }
    }
    ledger.phones.retain(|_, state| state.is_some());
}

async fn all(daemon: &Daemon, path: &str) -> Vec<Value> {
    let (mut all, mut next) = (Vec::new(), String::new());
    loop {
        let page = daemon.api().get(&format!("{path}?limit=500{next}")).await;
        all.extend_from_slice(items(&page));
        match page["next"].as_str() {
            Some(cursor) => next = format!("&after={cursor}"),
            None => return all,
        }
    }
}

const ROUNDS: u64 = 20;
const CONFIGURATION: &str = "[limits]\ndevices_per_second_max = 100000";
