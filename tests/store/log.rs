//! The log of bindings: it does not grow with the number of refreshes, and what counts in it is never lost.

use std::time::Duration;

use hookswitch::clock::Clock;
use hookswitch::model::{BindingSource, DeviceId};
use hookswitch::registry::{Defaults, Registry, Seq};

use crate::database::{Database, on_both_engines};
use crate::samples::{self, START};

on_both_engines! {
    however_often_phones_refresh_the_log_stays_short_and_nothing_that_counts_is_lost,
    bindings_of_a_version_that_kept_a_row_a_device_are_taken_over,
}

async fn however_often_phones_refresh_the_log_stays_short_and_nothing_that_counts_is_lost(database: Database) {
    let clock = Clock::manual(START);
    let registry = database.registry(&clock).await;
    let defaults = registry.ensure_defaults().unwrap();
    // Written in the first rows of all, and never again by itself.
    let (quiet, _) = samples::register(&registry, &defaults, "quiet");
    let (deleted, _) = samples::register(&registry, &defaults, "deleted");
    let (left, _) = samples::register(&registry, &defaults, "left");
    registry.delete_device(deleted, None).unwrap();
    let unbound = samples::set_bindings(&registry, &defaults, "left", BindingSource::Registrar, Vec::new());
    stored(&registry, unbound.seq.unwrap()).await;
    let mut phones = Vec::new();
    for round in 1..=ROUNDS {
        phones = (0..PHONES).map(|phone| refresh(&registry, &defaults, phone, round)).collect();
        stored(&registry, phones.last().unwrap().1).await;
    }
    let mut side = database.side().await;
    let lines = side.number(LINES, "\n").await.unwrap();
    assert!(lines < 25_000, "{lines} lines after {} refreshes", PHONES * ROUNDS);
    drop(registry);

    let registry = database.registry(&clock).await;
    assert_eq!(registry.bindings(quiet).len(), 1);
    assert_eq!((registry.device(deleted), registry.bindings(left).len()), (None, 0));
    for (device, _) in &phones {
        let bindings = registry.bindings(*device);
        assert_eq!(bindings.iter().map(|binding| binding.cseq).collect::<Vec<_>>(), [ROUNDS]);
    }
    let (_, next) = refresh(&registry, &defaults, 0, ROUNDS + 1);
    assert!(phones.iter().all(|(_, seq)| *seq < next), "no number is given twice");
    stored(&registry, next).await;
}

async fn bindings_of_a_version_that_kept_a_row_a_device_are_taken_over(database: Database) {
    let clock = Clock::manual(START);
    let registry = database.registry(&clock).await;
    let defaults = registry.ensure_defaults().unwrap();
    let (device, _) = samples::register(&registry, &defaults, "101");
    let (other, seq) = samples::register(&registry, &defaults, "102");
    stored(&registry, seq).await;
    drop(registry);
    // The lock goes with the registry's tasks, and these end a moment later.
    drop(database.store().await);
    database.side().await.run(&back(device, seq.0 + 100)).await;

    let registry = database.registry(&clock).await;
    let bindings = registry.bindings(device);
    assert_eq!(bindings.len(), 1);
    assert_eq!((&*bindings[0].contact, bindings[0].expires_at), ("sip:old@192.0.2.9", clock.now().tick + 60_000));
    assert!(registry.bindings(other).is_empty());
    let (_, seq_after) = samples::register(&registry, &defaults, "101");
    assert!(seq_after.0 > seq.0 + 100);
    stored(&registry, seq_after).await;
}

fn refresh(registry: &Registry, defaults: &Defaults, phone: u32, round: u32) -> (DeviceId, Seq) {
    let user = format!("{phone}");
    let mut binding = samples::binding(registry, &user, BindingSource::Registrar, 3_600_000);
    binding.cseq = round;
    let done = samples::set_bindings(registry, defaults, &user, BindingSource::Registrar, vec![binding]);
    (done.device, done.seq.expect("a change to wait for"))
}

async fn stored(registry: &Registry, seq: Seq) {
    registry.committed_patiently(seq).await.expect("the database is there");
    assert!(registry.drain(Duration::from_secs(30)).await.is_ok());
}

/// The tables as they were before the log, with one device in them.
fn back(device: DeviceId, seq: u64) -> String {
    let ends = START.0 + 60_000;
    let contacts = format!(
        r#"[{{"contact":"sip:old@192.0.2.9","expires_at":{ends},"transport":"tcp","source":"registrar","cseq":7,"call_id":"c","received":"192.0.2.9:5060","user_agent":"Old/1","refreshed_at":{}}}]"#,
        START.0
    );
    format!(
        "DROP TABLE bindings_log;
         CREATE TABLE bindings (device TEXT NOT NULL PRIMARY KEY, contacts TEXT NOT NULL, seq BIGINT NOT NULL);
         INSERT INTO bindings (device, contacts, seq) VALUES ('{device}', '{contacts}', {seq});
         DELETE FROM _sqlx_migrations WHERE version = 6;"
    )
}

/// Enough of them that the log has to be tidied a few times.
const PHONES: u32 = 1_000;
const ROUNDS: u32 = 45;

/// `$1` is the end of a line.
const LINES: &str = "SELECT CAST(SUM(LENGTH(body) - LENGTH(REPLACE(body, $1, '')) + 1) AS BIGINT) FROM bindings_log";
