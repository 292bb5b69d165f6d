//! What passwords cost: one daemon, one listener that asks for none and one that does, and as many phones on each. A phone
//! answers one challenge and then uses its nonce again, so that a refresh is one message.

use futures_util::{StreamExt as _, stream};
use serde_json::json;

use crate::figures::{is_quick, micros};
use crate::measure::{Processes, Registrar};
use crate::report::{Row, table};
use crate::support::api::{Api, items, text};
use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::ports::Ports;
use crate::support::postgres::Server;
use crate::wallet::{PASSWORD, Wallet};
use crate::{rounds, settings};

/// Both listeners in turn, [`rounds`] times.
pub async fn run() -> String {
    let (users, requests) = if is_quick() { (500, 5_000) } else { (10_000, 100_000) };
    let folder = Folder::new("bench-digest");
    let server = Server::durable();
    let ports = Ports::take();
    let asking = ports.address(0);
    let listener = format!("[listeners.asking]\nmode = \"registrar\"\nauth = \"digest\"\nbind = \"udp:{asking}\"\n");
    let daemon = Daemon::start_with(&folder, &format!("{listener}{}", settings(Some(&server.database())))).await;
    eprintln!("{users} phones are given a password");
    give_passwords(&daemon.api(), users).await;
    let processes: Processes = vec![("hookswitch", daemon.id()), ("postgres", server.id())];
    let mut without = Registrar::new("without digest", daemon.registrar, processes.clone());
    let mut with = Registrar {
        prefix: SECRET,
        wallet: Some(Wallet::new(SECRET, users)),
        ..Registrar::new("with digest (MD5, qop=auth, reused nonce)", asking, processes)
    };
    let first = without.run(users, users).outcome;
    assert_eq!((first.accepted, first.challenged), (users, 0), "nobody is asked: {} refused", first.refused);
    let first = with.run(users, users).outcome;
    assert_eq!((first.accepted, first.challenged), (users, users), "everybody is: {} refused", first.refused);
    for round in 1..=rounds() {
        for registrar in [&mut without, &mut with] {
            let found = registrar.run(users, requests);
            eprintln!("round {round}: {}: {:.0}/s", registrar.name, found.outcome.rate());
            assert_eq!(found.outcome.challenged, 0, "one message a refresh");
            registrar.rounds.push(found);
        }
    }
    let rows = [Row::of(&without), Row::of(&with)];
    let ratio = micros(rows[1].cost()) / micros(rows[0].cost());
    format!("{}\nWith digest a REGISTER costs {ratio:.2} times as much.\n", table("refreshes over UDP", &rows))
}

async fn give_passwords(api: &Api, users: usize) {
    let pbxs = api.get("/v1/pbxs").await;
    let pbx = &text(&items(&pbxs)[0]["id"]);
    let each = stream::iter(0..users).map(async |user| {
        let device = api.post("/v1/devices", json!({ "pbx": pbx, "user": format!("{SECRET}{user}") })).await;
        let path = format!("/v1/devices/{}/secret", text(&device["id"]));
        let (status, answer) = api.send(reqwest::Method::PUT, &path, Some(json!({ "password": PASSWORD }))).await;
        assert!(status.is_success(), "{path}: {status} {answer:#}");
    });
    each.buffer_unordered(128).collect::<()>().await;
}

/// What names of phones with a password begin with.
const SECRET: &str = "s";
