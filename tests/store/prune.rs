//! Old history goes in steps: whoever waits for a commit waits for a bounded number of rows, however much there is to forget.

use hookswitch::clock::Clock;
use hookswitch::registry::Registry;
use hookswitch::store::{PRUNE_ROWS_MAX, Retention};

use crate::database::{Database, Side, on_both_engines};
use crate::samples::{self, START};

on_both_engines! {
    phones_register_while_old_calls_are_forgotten_and_none_waits_for_more_than_a_few_steps,
}

async fn phones_register_while_old_calls_are_forgotten_and_none_waits_for_more_than_a_few_steps(database: Database) {
    let clock = Clock::manual(START);
    let store = database.store().await;
    let registry = Registry::open(store.clone(), clock.clone(), hookswitch::registry::Limits::default()).await.unwrap();
    let defaults = registry.ensure_defaults().unwrap();
    let (_, seq) = samples::register(&registry, &defaults, "101");
    registry.committed(seq).await.unwrap();
    let mut side = database.side().await;
    side.run(OLD_CALLS).await;
    side.run(if matches!(side, Side::Sqlite(_)) { NOTED_BY_SQLITE } else { NOTED_BY_POSTGRES }).await;

    let pruning = tokio::spawn(async move { store.prune(Retention::default(), START).await.unwrap() });
    let (mut longest, mut registered) = (0, 0);
    while !pruning.is_finished() {
        let before =
            side.number("SELECT COALESCE(MAX(n), 0) FROM noted WHERE n > CAST($1 AS BIGINT)", "0").await.unwrap();
        let (_, seq) = samples::register(&registry, &defaults, "101");
        registry.committed(seq).await.unwrap();
        longest = longest.max(side.number(WAITED, &before.to_string()).await.unwrap());
        registered += 1;
    }
    assert_eq!(pruning.await.unwrap(), CALLS);
    let gone = side.number("SELECT COUNT(*) FROM noted WHERE what = $1", "gone").await.unwrap();
    assert_eq!(gone, 3 * i64::try_from(CALLS).unwrap(), "a call, its user, its device");
    let bound = i64::try_from(PRUNE_ROWS_MAX).unwrap();
    assert!(registered > 50, "only {registered} commits in the time of {} steps", gone / bound);
    match side {
        // There one writes at a time: the step that is under way, one that began before the journal asked for its turn, and
        // one for a machine that is late.
        Side::Sqlite(_) => assert!(longest <= 3 * bound, "a phone waited while {longest} rows were deleted"),
        Side::Postgres(mut side) => {
            let largest: i64 = sqlx::query_scalar(LARGEST).fetch_one(&mut side).await.unwrap();
            assert!((1..=bound).contains(&largest), "{largest} rows in one transaction");
        }
    }
}

/// A user and a device each.
const CALLS: u64 = 50_000;

/// Half a year old; as many as [`CALLS`].
const OLD_CALLS: &str = "
    INSERT INTO calls (id, account, began_at, ended_at, direction, outcome, body)
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)
        SELECT '00000000-0000-4000-8000-' || CAST(100000000000 + i AS TEXT), 'account', 1775000000000 + i, 1775000000000 + i,
               'inbound', 'missed', '{}' FROM n;
    INSERT INTO call_users (user_id, began_at, call_id) SELECT 'user', began_at, id FROM calls;
    INSERT INTO call_devices (device, began_at, call_id) SELECT 'device', began_at, id FROM calls;";

/// Has the database note each row that is deleted and each commit of bindings, in the order in which they were made.
const NOTED_BY_SQLITE: &str = "
    CREATE TABLE noted (n INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT);
    CREATE TRIGGER gone AFTER DELETE ON calls BEGIN INSERT INTO noted (what) VALUES ('gone'); END;
    CREATE TRIGGER gone_user AFTER DELETE ON call_users BEGIN INSERT INTO noted (what) VALUES ('gone'); END;
    CREATE TRIGGER gone_device AFTER DELETE ON call_devices BEGIN INSERT INTO noted (what) VALUES ('gone'); END;
    CREATE TRIGGER bound AFTER INSERT ON bindings_log BEGIN INSERT INTO noted (what) VALUES ('bound'); END;";

/// The same, and in which transaction.
const NOTED_BY_POSTGRES: &str = "
    CREATE TABLE noted (n BIGSERIAL PRIMARY KEY, what TEXT, transaction BIGINT);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO noted (what, transaction) VALUES (TG_ARGV[0], txid_current()); RETURN NULL; END $$;
    CREATE TRIGGER gone AFTER DELETE ON calls FOR EACH ROW EXECUTE FUNCTION note('gone');
    CREATE TRIGGER gone AFTER DELETE ON call_users FOR EACH ROW EXECUTE FUNCTION note('gone');
    CREATE TRIGGER gone AFTER DELETE ON call_devices FOR EACH ROW EXECUTE FUNCTION note('gone');
    CREATE TRIGGER bound AFTER INSERT ON bindings_log FOR EACH ROW EXECUTE FUNCTION note('bound');";

/// Rows that were deleted from a moment on until the next commit of bindings.
const WAITED: &str = "SELECT COUNT(*) FROM noted WHERE what = 'gone' AND n > CAST($1 AS BIGINT)
    AND n < (SELECT MIN(n) FROM noted WHERE what = 'bound' AND n > CAST($1 AS BIGINT))";

const LARGEST: &str =
    "SELECT MAX(rows) FROM (SELECT COUNT(*) AS rows FROM noted WHERE what = 'gone' GROUP BY transaction) AS t";
