//! What is kept of phones' passwords: sealed in the database, under a key that is somewhere else.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use hookswitch::sip::digest::ha1;
use sqlx::Connection as _;

use crate::digest::{provide, sign_in};
use crate::support::api::text;
use crate::support::daemon::{Daemon, hookswitch};
use crate::support::folder::Folder;
use crate::support::phone::{Phone, status};
use crate::support::postgres::Server;
use crate::support::wait::until;

/// Everything that tells what the password of 101 is in the default realm: itself and its hashes, raw and in hexadecimal.
fn telling(password: &str) -> Vec<Vec<u8>> {
    let hashes = ha1("101", "hookswitch", password);
    let raw = [hashes.md5.to_vec(), hashes.sha256.to_vec(), hashes.sha512_256.to_vec()];
    let hex = raw.iter().map(|hash| hex(hash).into_bytes());
    hex.chain(raw.iter().cloned()).chain([password.as_bytes().to_vec()]).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

/// Files below `folder` that hold any of `wanted`.
fn holding(folder: &Path, wanted: &[Vec<u8>]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(holding(&path, wanted));
        } else if let Ok(bytes) = fs::read(&path) {
            // A server's files come and go.
            let has = |one: &Vec<u8>| memchr::memmem::find(&bytes, one).is_some();
            found.extend(wanted.iter().any(has).then_some(path));
        }
    }
    found
}

/// Whether 101 gets in with this password.
async fn gets_in(daemon: &Daemon, password: &str, cseq: u32) -> bool {
    let phone = Phone::near(daemon.registrar).await;
    let (challenged, answer) = sign_in(&phone, daemon.registrar, "101", password, cseq).await;
    assert!(status(&challenged).contains("401"), "it is asked for its password: {answer}");
    status(&answer).contains("200")
}

/// What a daemon says that ends at once.
fn refusal(daemon: &Daemon) -> String {
    let output = hookswitch(&daemon.config).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

/// Sets a key of the configuration's top level.
fn configure(daemon: &Daemon, line: &str) {
    let kept = fs::read_to_string(&daemon.config).unwrap();
    let kept: Vec<&str> = kept.lines().filter(|line| !line.starts_with("secret_key_file")).collect();
    fs::write(&daemon.config, format!("{line}\n{}\n", kept.join("\n"))).unwrap();
}

/// A file with a key of this byte in hexadecimal, for its owner only.
fn key_file(folder: &Folder, name: &str, byte: &str) -> String {
    let path = folder.write(name, byte.repeat(32));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

/// The database's file as another program sees it.
async fn side(daemon: &Daemon) -> sqlx::SqliteConnection {
    let url = format!("sqlite:{}", daemon.data.join("hookswitch.db").display());
    sqlx::SqliteConnection::connect(&url).await.unwrap()
}

#[tokio::test]
async fn a_password_is_in_no_file_and_outlives_a_restart() {
    let folder = Folder::new("secrets");
    let mut daemon = Daemon::start(&folder).await;
    provide(&daemon, "101", "pa55-of-the-one").await;
    let wanted = telling("pa55-of-the-one");
    let key = daemon.data.join("secret.key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(holding(folder.path(), &wanted), [] as [PathBuf; 0]);
    // Killed, so that what is in SQLite's log stays there.
    daemon.kill();
    assert_eq!(holding(folder.path(), &wanted), [] as [PathBuf; 0]);
    daemon.start_again().await;
    assert!(gets_in(&daemon, "pa55-of-the-one", 1).await);
    assert!(!gets_in(&daemon, "another", 11).await);
    daemon.stop();
    assert_eq!(holding(folder.path(), &wanted), [] as [PathBuf; 0], "nor in the log");
    // The search finds what is there: the key itself, which alone is of no use.
    let key = fs::read_to_string(key).unwrap().trim().as_bytes().to_vec();
    assert_eq!(holding(folder.path(), &[key]), [daemon.data.join("secret.key")]);
}

#[tokio::test]
async fn on_postgres_it_is_in_no_file_of_the_server_either() {
    let folder = Folder::new("secrets");
    let server = Server::start_new();
    let more = format!("[database]\nurl = \"{}\"\n", server.database());
    let mut daemon = Daemon::start_with(&folder, &more).await;
    provide(&daemon, "101", "pa55-of-the-one").await;
    daemon.restart().await;
    assert!(gets_in(&daemon, "pa55-of-the-one", 1).await);
    server.psql("t0", "CHECKPOINT");
    assert_eq!(holding(server.folder(), &telling("pa55-of-the-one")), [] as [PathBuf; 0]);
    assert_ne!(holding(server.folder(), &[b"sealed_secrets".to_vec()]), [] as [PathBuf; 0], "it can be searched");
    // Another host takes over without the key, and then with it.
    daemon.stop();
    let key = fs::read(daemon.data.join("secret.key")).unwrap();
    fs::remove_dir_all(&daemon.data).unwrap();
    let said = refusal(&daemon);
    assert!(said.contains("(1) are sealed with key") && said.contains("there is no file"), "{said}");
    fs::write(daemon.data.join("secret.key"), key).unwrap();
    daemon.launch_again();
    // The token is the other host's as well.
    daemon.serves().await;
    assert!(gets_in(&daemon, "pa55-of-the-one", 11).await);
}

#[tokio::test]
async fn without_its_key_it_does_not_start_and_says_what_to_do() {
    let folder = Folder::new("secrets");
    let mut daemon = Daemon::start(&folder).await;
    let other = key_file(&folder, "other.key", "ab");
    // As long as there is nothing to open, any key will do.
    daemon.stop();
    configure(&daemon, &format!("secret_key_file = \"{other}\""));
    daemon.start_again().await;
    configure(&daemon, "");
    daemon.restart().await;
    provide(&daemon, "101", "s3cret").await;
    daemon.stop();
    let (key, aside) = (daemon.data.join("secret.key"), folder.join("aside.key"));
    fs::rename(&key, &aside).unwrap();
    let missing = refusal(&daemon);
    let line = "hookswitch: secret_key_file: phones' passwords in the database (1) are sealed with key ";
    assert!(missing.starts_with(line) && missing.trim_end().lines().count() == 1, "{missing}");
    assert!(
        missing.contains(&format!(", and there is no file {}; bring back the file that", key.display())),
        "{missing}"
    );
    assert!(missing.contains("secret_key_file = [\"NEW\", \"OLD\"]; docs/digest.md says"), "{missing}");
    assert!(!key.exists(), "it makes no other one");
    let offline = hookswitch(&daemon.config).args(["token", "create"]).output().unwrap();
    assert!(!offline.status.success(), "nor do the commands that write to the database themselves");
    configure(&daemon, &format!("secret_key_file = \"{other}\""));
    let wrong = refusal(&daemon);
    assert!(wrong.starts_with(line) && wrong.contains(&format!("{other} holds key ")), "{wrong}");
    assert!(!wrong.contains("abab"), "{wrong}");
    configure(&daemon, &format!("secret_key_file = \"{}\"", aside.display()));
    daemon.start_again().await;
    assert!(gets_in(&daemon, "s3cret", 1).await);
}

#[tokio::test]
async fn a_new_key_takes_over_from_an_old_one() {
    let folder = Folder::new("secrets");
    let [old, new] = [("old.key", "ab"), ("new.key", "cd")].map(|(name, byte)| key_file(&folder, name, byte));
    let mut daemon = Daemon::start(&folder).await;
    daemon.stop();
    for (cseq, files) in (1..).step_by(10).zip([vec![&old], vec![&new, &old], vec![&new]]) {
        configure(&daemon, &format!("secret_key_file = {files:?}"));
        daemon.start_again().await;
        if cseq == 1 {
            provide(&daemon, "101", "s3cret").await;
        }
        assert!(gets_in(&daemon, "s3cret", cseq).await, "{files:?}");
        daemon.stop();
    }
    assert!(!daemon.output().contains("others can read"), "{}", daemon.output());
    configure(&daemon, &format!("secret_key_file = {old:?}"));
    assert!(refusal(&daemon).contains("bring back the file"), "the old one opens nothing any more");
}

#[tokio::test]
async fn a_key_that_others_may_read_is_warned_of() {
    let folder = Folder::new("secrets");
    let mut daemon = Daemon::start(&folder).await;
    let key = daemon.data.join("secret.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    daemon.restart().await;
    let warned = until("it warns", async || {
        daemon.output().lines().find(|line| line.contains("others can read or change the key")).map(str::to_owned)
    })
    .await;
    assert!(warned.contains(&key.display().to_string()), "{warned}");
}

#[tokio::test]
async fn what_an_older_version_kept_in_plain_is_sealed_at_the_start_and_gone() {
    let folder = Folder::new("secrets");
    let mut daemon = Daemon::start(&folder).await;
    for user in ["101", "102"] {
        provide(&daemon, user, "").await;
    }
    let device = text(&daemon.api().device("101", "disconnected").await["id"]);
    daemon.stop();
    let mut database = side(&daemon).await;
    let hashes = ha1("101", "hookswitch", "pa55-of-the-one");
    let orphan = uuid::Uuid::now_v7().to_string();
    for device in [&device, &orphan] {
        sqlx::query("INSERT INTO secrets VALUES ($1, 'hookswitch', $2, $3, $4, 1700000000000, 1)")
            .bind(device)
            .bind(hex(&hashes.md5))
            .bind(hex(&hashes.sha256))
            .bind(hex(&hashes.sha512_256))
            .execute(&mut database)
            .await
            .unwrap();
    }
    database.close().await.unwrap();
    let wanted = telling("pa55-of-the-one");
    assert_eq!(holding(&daemon.data, &wanted), [daemon.data.join("hookswitch.db")], "so it was");
    daemon.start_again().await;
    assert_eq!(holding(&daemon.data, &wanted), [] as [PathBuf; 0], "nor in SQLite's log");
    assert!(gets_in(&daemon, "pa55-of-the-one", 1).await);
    assert_eq!(daemon.api().get(&format!("/v1/devices/{device}")).await["secret_set_at"], 1_700_000_000_000_i64);
    daemon.restart().await;
    assert!(gets_in(&daemon, "pa55-of-the-one", 11).await);
    daemon.stop();
    let mut database = side(&daemon).await;
    for (table, expected) in [("SELECT COUNT(*) FROM secrets", 0), ("SELECT COUNT(*) FROM sealed_secrets", 1)] {
        let rows: i64 = sqlx::query_scalar(table).fetch_one(&mut database).await.unwrap();
        assert_eq!(rows, expected, "{table}");
    }
}

#[tokio::test]
async fn on_postgres_what_was_in_plain_is_gone_from_its_tables_too() {
    let folder = Folder::new("secrets");
    let server = Server::start_new();
    let mut daemon = Daemon::start_with(&folder, &format!("[database]\nurl = \"{}\"\n", server.database())).await;
    provide(&daemon, "101", "").await;
    let device = text(&daemon.api().device("101", "disconnected").await["id"]);
    daemon.stop();
    let hashes = ha1("101", "hookswitch", "pa55-of-the-one");
    let (md5, sha256, sha512_256) = (hex(&hashes.md5), hex(&hashes.sha256), hex(&hashes.sha512_256));
    let values = format!("'{device}', 'hookswitch', '{md5}', '{sha256}', '{sha512_256}', 1700000000000, 1");
    server.psql("t0", &format!("INSERT INTO secrets VALUES ({values})"));
    server.psql("t0", "CHECKPOINT");
    let (tables, wanted) = (server.folder().join("data/base"), telling("pa55-of-the-one"));
    assert_ne!(holding(&tables, &wanted), [] as [PathBuf; 0], "so it was");
    daemon.start_again().await;
    assert!(gets_in(&daemon, "pa55-of-the-one", 1).await);
    // What a table was before it was emptied goes with the next of these.
    server.psql("t0", "CHECKPOINT");
    assert_eq!(holding(&tables, &wanted), [] as [PathBuf; 0]);
    assert_eq!(server.psql("t0", "SELECT COUNT(*) FROM secrets"), "0");
    daemon.restart().await;
    assert!(gets_in(&daemon, "pa55-of-the-one", 11).await);
}

#[tokio::test]
async fn a_sealed_password_is_of_no_use_to_another_phone() {
    let folder = Folder::new("secrets");
    let mut daemon = Daemon::start(&folder).await;
    provide(&daemon, "101", "s3cret").await;
    provide(&daemon, "102", "mine").await;
    daemon.stop();
    let mut database = side(&daemon).await;
    let sealed = "SELECT sha256 FROM sealed_secrets WHERE device = other.device";
    let copy = format!(
        "UPDATE sealed_secrets SET md5 = other.md5, sha256 = ({sealed}) FROM sealed_secrets AS other \
                        WHERE other.device <> sealed_secrets.device"
    );
    sqlx::query(sqlx::AssertSqlSafe(copy)).execute(&mut database).await.unwrap();
    database.close().await.unwrap();
    let said = refusal(&daemon);
    assert!(said.contains("corrupt row: table sealed_secrets, column md5, row "), "{said}");
    assert!(said.contains("it was changed, or belongs to another row"), "{said}");
}
