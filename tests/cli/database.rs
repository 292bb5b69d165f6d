//! Care of the database: a newer one is refused, one is copied to another, backed up while it is used, and restored.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};

use crate::support::api::{Api, items, text};
use crate::support::daemon::{Daemon, hookswitch};
use crate::support::folder::Folder;
use crate::support::phone::Phone;
use crate::support::postgres::Server;
use crate::support::process::Process;
use crate::support::wait::until;
use crate::{Running, beside};

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_and_left_as_it_is() {
    let server = Server::start_new();
    let on_postgres = format!("[database]\nurl = \"{}\"\n", server.database());
    for more in [String::new(), on_postgres] {
        let folder = Folder::new("cli-newer");
        let mut daemon = Daemon::start_with(&folder, &more).await;
        let user = text(&daemon.api().post("/v1/users", json!({ "name": "ann" })).await["id"]);
        daemon.stop();
        let known = said(&beside(&daemon, &["migrate"]).output().unwrap());
        let known: u32 = known.trim().rsplit(' ').next().unwrap().parse().expect("it ends in the schema's number");
        let newer = known + 1;
        // As the next version's migration leaves it.
        let done = format!(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             SELECT {newer}, 'of tomorrow', success, checksum, 0 FROM _sqlx_migrations WHERE version = {known}"
        );
        let undone = format!("DELETE FROM _sqlx_migrations WHERE version = {newer}");
        let file = daemon.data.join("hookswitch.db");
        let run = async |sql: &str| {
            if more.is_empty() { on_file(&file, sql).await } else { drop(server.psql("t0", sql)) }
        };
        run(&done).await;
        for command in [&[][..], &["serve"], &["migrate"], &["token", "create"]] {
            let refused = beside(&daemon, command).output().unwrap();
            let why = complaint(&refused);
            assert!(why.contains(&format!("its tables have schema {newer}")), "{why}");
            assert!(why.contains(&format!("knows schema {known} at most; nothing was changed")), "{why}");
            assert!(why.contains("start the newer version again, or go back to the backup"), "{why}");
        }
        run(&undone).await;
        daemon.start_again().await;
        assert_eq!(daemon.api().get(&format!("/v1/users/{user}")).await["name"], "ann");
    }
}

#[tokio::test]
async fn everything_is_copied_to_postgres_and_back_and_a_daemon_goes_on_there() {
    let folder = Folder::new("cli-copy");
    let mut daemon = Daemon::start(&folder).await;
    let before = live(&daemon).await;
    let (token, server) = (daemon.token(), Server::start_new());
    let (embedded, postgres) = (format!("sqlite:{}", daemon.data.join("hookswitch.db").display()), server.database());
    let refused = complaint(&copy(&embedded, &postgres).output().unwrap());
    assert!(refused.contains("a hookswitch uses the source; stop it first"), "{refused}");
    daemon.stop();
    let key = std::fs::read(daemon.data.join("secret.key")).unwrap();

    let there = said(&copy(&embedded, &postgres).output().unwrap());
    assert!(there.contains("the same secret.key (secret_key_file) is needed"), "{there}");
    assert_eq!(rows_of(&there, "users"), server.psql("t0", "SELECT COUNT(*) FROM users"));
    assert_eq!(rows_of(&there, "sealed_secrets"), "1");
    for (from, to) in [(&embedded, &postgres), (&postgres, &embedded)] {
        let refused = complaint(&copy(from, to).output().unwrap());
        assert!(refused.contains("the target is not empty, there are rows in: accounts, "), "{refused}");
    }
    let back = format!("sqlite:{}", folder.join("back.db").display());
    assert_eq!(sums(&said(&copy(&postgres, &back).output().unwrap())), sums(&there), "nothing is lost on the way back");

    let other = Folder::new("cli-copy");
    other.write("data/secret.key", key);
    let moved = Daemon::start_with(&other, &format!("[database]\nurl = \"{postgres}\"\n")).await;
    assert_eq!(what_is_shown(&Api::new(moved.http, &token)).await, before);
    let refused = complaint(&copy(&postgres, &format!("sqlite:{}", folder.join("x.db").display())).output().unwrap());
    assert!(refused.contains("a hookswitch uses the source; stop it first"), "{refused}");
}

#[tokio::test]
async fn a_copy_that_is_cut_off_leaves_nothing_and_is_begun_again() {
    let folder = Folder::new("cli-copy-cut");
    let mut daemon = Daemon::start(&folder).await;
    daemon.stop();
    let file = daemon.data.join("hookswitch.db");
    on_file(
        &file,
        "INSERT INTO trail (seq, call_id, position, at, reason, sessions, event)
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
         SELECT 1000 + i, 'call', i, i, 'dnd', 0, 'INVITE' FROM n",
    )
    .await;
    let (server, embedded) = (Server::start_new(), format!("sqlite:{}", file.display()));
    let postgres = server.database();
    let mut migrate = hookswitch(&daemon.config);
    said(&migrate.arg("migrate").env("HOOKSWITCH_DATABASE__URL", &postgres).output().unwrap());
    // Somebody's row that is not committed yet: the copy has to wait when it comes to the same one.
    let mut holder = sqlx::PgConnection::connect(&postgres).await.unwrap();
    let row =
        "INSERT INTO trail (seq, call_id, position, at, reason, sessions, event) VALUES (4000, '', 0, 0, '', 0, '')";
    sqlx::raw_sql("BEGIN").execute(&mut holder).await.unwrap();
    sqlx::raw_sql(row).execute(&mut holder).await.unwrap();
    let mut copying = Process::start("copy", &mut copy(&embedded, &postgres), &folder.join("copy.log"));
    until("the copy waits", async || {
        let waiting =
            "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT INTO trail%'";
        (server.psql("t0", waiting) == "1").then_some(())
    })
    .await;
    copying.kill();
    drop(holder);
    until("what it wrote is gone", async || {
        let left =
            "SELECT (SELECT COUNT(*) FROM users) + (SELECT COUNT(*) FROM trail) + (SELECT COUNT(*) FROM accounts)";
        let locks = "SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory'";
        (server.psql("t0", locks) == "0" && server.psql("t0", left) == "0").then_some(())
    })
    .await;
    let again = said(&copy(&embedded, &postgres).output().unwrap());
    assert_eq!(rows_of(&again, "trail"), "3000");
    assert_eq!(server.psql("t0", "SELECT COUNT(*) FROM trail"), "3000");
}

#[tokio::test]
async fn a_copy_of_which_one_cell_arrives_otherwise_is_not_kept() {
    let folder = Folder::new("cli-copy-cell");
    let mut daemon = Daemon::start(&folder).await;
    daemon.api().post("/v1/users", json!({ "name": "ann" })).await;
    daemon.stop();
    let (server, file) = (Server::start_new(), daemon.data.join("hookswitch.db"));
    let postgres = server.database();
    let mut migrate = hookswitch(&daemon.config);
    said(&migrate.arg("migrate").env("HOOKSWITCH_DATABASE__URL", &postgres).output().unwrap());
    server.psql(
        "t0",
        "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN IF NEW.name = 'ann' THEN NEW.dnd = TRUE; END IF; RETURN NEW; END $$;
         CREATE TRIGGER spoil BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION spoil()",
    );
    let refused = complaint(&copy(&format!("sqlite:{}", file.display()), &postgres).output().unwrap());
    assert!(
        refused.contains("users: 2 rows were written and 2 read back, with another checksum; nothing"),
        "{refused}"
    );
    assert_eq!(server.psql("t0", "SELECT COUNT(*) FROM accounts"), "0");
}

#[test]
fn a_source_that_is_no_database_of_ours_is_refused_and_not_made() {
    let folder = Folder::new("cli-copy-none");
    let (from, to) = (folder.join("typo.db"), folder.join("to.db"));
    let url = |path: &Path| format!("sqlite:{}", path.display());
    let refused = complaint(&copy(&url(&from), &url(&to)).output().unwrap());
    assert!(refused.contains("typo.db, is not there"), "{refused}");
    assert!(!from.exists() && !to.exists());
    std::fs::write(&from, "").unwrap();
    let refused = complaint(&copy(&url(&from), &url(&to)).output().unwrap());
    assert!(refused.contains("holds no tables of hookswitch"), "{refused}");
    let refused = complaint(&copy(&url(&to), &url(&to)).output().unwrap());
    assert!(refused.contains("the same database"), "{refused}");
}

#[tokio::test]
async fn a_backup_of_a_serving_daemon_holds_what_was_acknowledged_and_can_be_gone_back_to() {
    let folder = Folder::new("cli-backup");
    let mut daemon = Daemon::start(&folder).await;
    let before = live(&daemon).await;
    let (api, file) = (daemon.api(), folder.join("backup.db"));
    let name = file.display().to_string();
    let backup = || beside(&daemon, &["backup", &name]);
    std::fs::write(&file, "an older one").unwrap();
    // Writes go on meanwhile.
    let running = Running::start(backup());
    let mut meanwhile = Vec::new();
    let said_by_it = {
        let mut running = running;
        loop {
            let user = api.post("/v1/users", json!({ "name": format!("user {}", meanwhile.len()) })).await;
            meanwhile.push(text(&user["id"]));
            if let Some(status) = running.process.ended() {
                assert!(status.success(), "{}", running.rest());
                break running.rest();
            }
        }
    };
    assert!(said_by_it.contains("whole and checked") && said_by_it.contains("secret.key"), "{said_by_it}");
    let mode = std::os::unix::fs::MetadataExt::mode(&file.metadata().unwrap()) & 0o777;
    assert_eq!(mode, 0o600);
    assert!(!folder.join("backup.db.partial").exists());

    let restore = ["restore", &name];
    let refused = complaint(&beside(&daemon, &restore).output().unwrap());
    assert!(refused.contains("another hookswitch runs on the folder"), "{refused}");
    let last = api.post("/v1/users", json!({ "name": "too late" })).await;
    let etag = etag_of(&daemon, &text(&last["id"])).await;
    daemon.stop();
    let restored = said(&beside(&daemon, &restore).output().unwrap());
    assert!(!restored.contains("not at hand"), "{restored}");
    let aside = PathBuf::from(
        restored.lines().find_map(|line| line.split(" is in ").nth(1)).unwrap().split(';').next().unwrap(),
    );
    daemon.start_again().await;
    assert_eq!(what_is_shown(&api).await, before);
    let (status, _) = api.send(Method::GET, &format!("/v1/users/{}", text(&last["id"])), None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    // What was made while the backup was: a part of it, from the first on, is there, and all of it in what was put aside.
    let mut there = Vec::new();
    for id in &meanwhile {
        there.push(api.send(Method::GET, &format!("/v1/users/{id}"), None).await.0 == StatusCode::OK);
    }
    assert!(there.is_sorted_by(|earlier, later| earlier >= later), "{there:?}");
    let mut old = SqliteConnection::connect(&format!("sqlite:{}", aside.display())).await.unwrap();
    let late: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM users WHERE name = 'too late'").fetch_one(&mut old).await.unwrap();
    assert_eq!(late, 1, "what was there before is kept");
    // An entity tag that somebody has seen never comes back with another meaning.
    let next = api.post("/v1/users", json!({ "name": "after" })).await;
    let next = etag_of(&daemon, &text(&next["id"])).await;
    assert!(next > etag);
    daemon.stop();
    let again = said(&beside(&daemon, &restore).output().unwrap());
    assert!(again.contains("aside-2"), "{again}");
    daemon.start_again().await;
    let third = api.post("/v1/users", json!({ "name": "again" })).await;
    assert!(etag_of(&daemon, &text(&third["id"])).await > next);
}

#[tokio::test]
async fn what_is_no_whole_backup_of_this_version_is_not_restored() {
    let folder = Folder::new("cli-restore");
    let mut daemon = Daemon::start(&folder).await;
    let user = text(&daemon.api().post("/v1/users", json!({ "name": "ann" })).await["id"]);
    let good = folder.join("good.db");
    said(&beside(&daemon, &["backup", &good.display().to_string()]).output().unwrap());
    daemon.stop();
    let (newer, other, database) =
        (folder.join("newer.db"), folder.join("other.db"), daemon.data.join("hookswitch.db"));
    std::fs::copy(&good, &newer).unwrap();
    on_file(&newer, "UPDATE _sqlx_migrations SET version = 9999 WHERE version = 1").await;
    std::fs::write(&other, "").unwrap();
    on_file(&other, "CREATE TABLE users (id TEXT)").await;
    let whole = std::fs::read(&good).unwrap();
    let cut = folder.write("cut.db", &whole[..whole.len() / 2]);
    let text_file = folder.write("text.db", "a text of some length, which is no database at all".repeat(100));
    for (file, expected) in [
        (&newer, "its tables have schema 9999"),
        (&other, "holds no tables of hookswitch"),
        (&cut, "cut.db is damaged: "),
        (&text_file, "text.db is damaged: "),
        (&folder.join("none.db"), "there is no file "),
        (&database, "is the database itself"),
    ] {
        let refused = complaint(&beside(&daemon, &["restore", &file.display().to_string()]).output().unwrap());
        assert!(refused.contains(expected), "{refused}");
    }
    let refused = complaint(&beside(&daemon, &["backup", &database.display().to_string()]).output().unwrap());
    assert!(refused.contains("is the database itself"), "{refused}");
    let mut on_postgres = beside(&daemon, &["backup", "x"]);
    let refused =
        complaint(&on_postgres.env("HOOKSWITCH_DATABASE__URL", "postgres://x@127.0.0.1:1/x").output().unwrap());
    assert!(refused.contains("Postgres has pg_dump"), "{refused}");
    daemon.start_again().await;
    assert_eq!(daemon.api().get(&format!("/v1/users/{user}")).await["name"], "ann");
    let left: Vec<_> = std::fs::read_dir(&daemon.data).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("aside")), "{left:?}");
}

/// A phone with a password, its user, a registered one, and a call with its trail: what is shown of all that.
async fn live(daemon: &Daemon) -> Value {
    let api = daemon.api();
    let pbx = text(&items(&api.get("/v1/pbxs").await)[0]["id"]);
    let device = api.post("/v1/devices", json!({ "pbx": pbx, "user": "150" })).await;
    api.patch(&format!("/v1/devices/{}", text(&device["id"])), json!({ "label": "Zoë \"left\" \\ 日本" })).await;
    let secret = format!("/v1/devices/{}/secret", text(&device["id"]));
    let (status, answer) = api.send(Method::PUT, &secret, Some(json!({ "password": "correct horse" }))).await;
    assert!(status.is_success(), "{answer:#}");
    let (user, _) = api.agent("Ann").await;
    let phone = Phone::near(daemon.registrar).await;
    let answer = phone.ask(daemon.registrar, &phone.register("101", 1, 3_600)).await;
    assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
    let device = api.device("101", "connected").await;
    api.link(&user, &device).await;
    let ring =
        Running::start(beside(daemon, &["ring", "101", "--from", "+14155550100", "--answer-after", "0", "--missed"]));
    ring.expect("the caller gave up");
    until("the call is over", async || {
        let calls = api.get("/v1/calls").await;
        (items(&calls).first()?["state"] == "ended").then_some(())
    })
    .await;
    what_is_shown(&api).await
}

async fn what_is_shown(api: &Api) -> Value {
    let mut shown = Vec::new();
    let mut calls = Value::Null;
    for path in ["/v1/accounts", "/v1/sites", "/v1/users", "/v1/devices", "/v1/calls"] {
        let page = api.get(path).await;
        // Tests that write while something else goes on make users with a space in their names.
        let known = items(&page).iter().filter(|item| path != "/v1/users" || !text(&item["name"]).contains(' '));
        shown.push(known.cloned().collect());
        calls = page;
    }
    let call = text(&items(&calls)[0]["id"]);
    shown.push(api.get(&format!("/v1/calls/{call}/trail")).await);
    let device = api.find_device("101").await.unwrap();
    for of in ["bindings", "history", "links"] {
        let mut page = api.get(&format!("/v1/devices/{}/{of}", text(&device["id"]))).await["items"].take();
        for item in page.as_array_mut().into_iter().flatten() {
            // Between a clock that people read and one that only runs there is a millisecond more or less.
            item.as_object_mut().and_then(|item| item.remove("expires_at"));
        }
        shown.push(page);
    }
    json!(shown)
}

/// The number of a user's last change.
async fn etag_of(daemon: &Daemon, user: &str) -> u64 {
    let url = format!("http://{}/v1/users/{user}", daemon.http);
    let answer = reqwest::Client::new().get(url).bearer_auth(daemon.token()).send().await.unwrap();
    let etag = answer.headers()["etag"].to_str().unwrap();
    etag.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

fn copy(from: &str, to: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookswitch"));
    command.args(["copy", "--from", from, "--to", to]);
    command
}

/// What a command printed that did what it was told.
fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a command complained of that did not.
fn complaint(output: &Output) -> String {
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "it did: {}{why}", String::from_utf8_lossy(&output.stdout));
    why
}

/// The lines of the table that a copy prints.
fn sums(printed: &str) -> Vec<&str> {
    printed.lines().take_while(|line| !line.is_empty()).collect()
}

fn rows_of(printed: &str, table: &str) -> String {
    let line = printed.lines().find(|line| line.split_whitespace().next() == Some(table));
    line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or_default().to_owned()
}

async fn on_file(file: &Path, sql: &str) {
    let mut side = SqliteConnection::connect(&format!("sqlite:{}", file.display())).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut side).await.unwrap();
    side.close().await.unwrap();
}
