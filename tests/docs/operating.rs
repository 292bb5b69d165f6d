//! The pages for whoever operates it: what they list is all there is, in the code's own words and numbers, and every link leads
//! somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use hookswitch::http::Settings;
use hookswitch::model::Reason;
use hookswitch::registry::Limits;
use hookswitch::registry::streams::StreamLimits;
use sqlx::{Connection as _, SqliteConnection};
use utoipa::PartialSchema as _;
use utoipa::openapi::{RefOr, Schema};

use crate::metrics::root;
use crate::page::{Page, Session};
use crate::support::daemon::{Daemon, hookswitch};
use crate::support::folder::Folder;
use crate::support::wait::until;

#[tokio::test]
async fn every_command_of_why_did_it_not_pop_works() {
    let folder = Folder::new("docs-no-popup");
    let daemon = Daemon::start(&folder).await;
    let mut session = Session::new(&folder, &daemon);
    session.follow(&Page::read("docs/no-popup.md")).await;
}

#[test]
fn each_reason_of_a_trail_is_explained_and_no_other() {
    let RefOr::T(Schema::Object(schema)) = Reason::schema() else { panic!("a reason is a word") };
    let reasons = schema.enum_values.expect("it is one of some words");
    let reasons: BTreeSet<String> = reasons.iter().map(|word| word.as_str().expect("a word").to_owned()).collect();
    let page = text("docs/no-popup.md");
    let explained: Vec<&str> = rows(section(&page, "## The reasons")).collect();
    let words: BTreeSet<String> = explained.iter().filter_map(|row| code(row).first().cloned()).collect();
    assert_eq!(words, reasons);
    assert_eq!(explained.len(), reasons.len(), "one of them is explained twice");
    for row in explained {
        assert!(cells(row)[1].len() > 15, "{row} does not say what it means");
    }
}

#[test]
fn each_limit_of_the_configuration_stands_on_the_page_of_limits_with_its_default() {
    // That page is what the code says: `cargo run -- --print-defaults=markdown`, held to it by a test of the configuration.
    let configuration = text("docs/configuration.md");
    let keys =
        rows(section(&configuration, "## `[limits]`")).map(|row| (code(row)[0].clone(), cells(row)[2].to_owned()));
    let page = text("docs/limits.md");
    let shown = rows(section(&page, "## Those with a key")).map(|row| (code(row)[0].clone(), cells(row)[1].to_owned()));
    let (keys, shown): (Vec<_>, Vec<_>) = (keys.collect(), shown.collect());
    assert!(keys.len() > 15);
    assert_eq!(shown, keys, "in the same order");
    for row in rows(section(&page, "## Those with a key")) {
        assert!(
            cells(row)[2..4].iter().all(|cell| !cell.is_empty()),
            "{row} does not say what happens and what counts it"
        );
    }
    let retention = section(&configuration, "## `[retention]`");
    for page in ["docs/limits.md", "docs/privacy.md"].map(text) {
        for row in rows(retention) {
            let (key, default) = (&code(row)[0], cells(row)[2]);
            let said = [format!("`retention.{key}`\n({default})"), format!("`retention.{key}` ({default})")];
            let as_row = format!("| `retention.{key}` | {default} |");
            assert!(said.iter().any(|said| page.contains(said)) || page.contains(&as_row), "{key} is {default}");
        }
    }
}

#[test]
fn the_fixed_limits_on_the_page_are_those_of_the_code() {
    let page = text("docs/limits.md");
    let page = section(&page, "## The fixed ones");
    let (limits, streams, settings) = (Limits::default(), StreamLimits::default(), Settings::default());
    let mut expected = vec![
        ("accounts", limits.accounts_max),
        ("sites, PBXs, queues of an account, each", limits.phone_systems_max),
        ("users of an account", limits.users_max),
        ("tokens of an account", limits.tokens_max),
        ("links of a user, of a device", limits.links_max),
        ("live calls in all", limits.live_calls_max),
        ("calls, reasons and comings and goings that wait for the database", limits.history_max),
        ("bytes of a body", settings.body_bytes_max),
        ("event streams in all", streams.total_max.try_into().unwrap()),
        ("event streams of a user", streams.user_max.try_into().unwrap()),
        ("admins' event streams of an account", streams.account_max.try_into().unwrap()),
        ("events a user's stream may be behind", streams.user_ring),
        ("events an account's stream may be behind", streams.account_ring),
    ];
    expected.extend(PRIVATE.map(|(what, file, name)| (what, constant(file, name))));
    for (what, limit) in expected {
        let row = rows(page).find(|row| cells(row)[0] == what);
        let row = row.unwrap_or_else(|| panic!("{what} is not on the page"));
        assert_eq!(cells(row)[1].split([' ', ';']).next(), Some(limit.to_string().as_str()), "{row}");
    }
}

#[test]
fn every_word_that_counts_a_drop_at_a_limit_is_on_the_page_of_limits() {
    let (metrics, limits) = (text("docs/metrics.md"), text("docs/limits.md"));
    let mut found = 0;
    for row in rows(section(&metrics, "## What is dropped")) {
        for word in code(cells(row)[1]).iter().filter(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        {
            assert!(
                limits.contains(&format!("`{word}`")),
                "{word} counts at a limit that is not on docs/limits.md: {row}"
            );
            found += 1;
        }
    }
    assert!(found > 50, "the table is written in another way now: {found}");
}

#[test]
fn each_table_of_the_database_is_on_the_page_of_privacy() {
    let (mut tables, mut files) = (BTreeSet::new(), 0);
    let mut migrations: Vec<_> =
        fs::read_dir(root().join("migrations")).unwrap().map(|entry| entry.unwrap().path()).collect();
    migrations.sort();
    for file in migrations {
        for line in fs::read_to_string(file).unwrap().lines() {
            let name = |rest: &str| rest.trim_end_matches([';', '(', ' ']).to_owned();
            if let Some(rest) = line.strip_prefix("CREATE TABLE ") {
                tables.insert(name(rest));
            } else if let Some(rest) = line.strip_prefix("DROP TABLE ") {
                tables.remove(&name(rest));
            }
        }
        files += 1;
    }
    assert!(files > 5 && tables.len() > 10, "{tables:?}");
    let page = text("docs/privacy.md");
    let named: BTreeSet<String> =
        rows(section(&page, "## What is stored")).flat_map(|row| code(cells(row)[0])).collect();
    assert_eq!(named, tables);
}

#[tokio::test]
async fn the_statements_that_erase_a_number_leave_nothing_of_it() {
    let folder = Folder::new("docs-privacy");
    let mut daemon = Daemon::start(&folder).await;
    let api = daemon.api();
    for (extension, caller) in [("101", "+14155550100"), ("101", "+14155550101")] {
        let mut ring = hookswitch(&daemon.config);
        ring.args(["ring", extension, "--from", caller, "--answer-after", "0", "--talk", "0"]);
        assert!(ring.output().unwrap().status.success());
    }
    until("both calls are over", async || {
        let calls = api.get("/v1/calls").await;
        let calls = calls["items"].as_array()?;
        (calls.len() == 2 && calls.iter().all(|call| call["state"] == "ended")).then_some(())
    })
    .await;
    daemon.stop();
    let file = daemon.data.join("hookswitch.db");
    let mut database = SqliteConnection::connect(&format!("sqlite:{}", file.display())).await.unwrap();
    let page = Page::read("docs/privacy.md");
    for statement in page.blocks("sql").flat_map(str::lines) {
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .execute(&mut database)
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    let left: (i64, i64) = sqlx::query_as(
        "SELECT (SELECT COUNT(*) FROM calls), (SELECT COUNT(*) FROM trail WHERE call_id NOT IN (SELECT id FROM calls))",
    )
    .fetch_one(&mut database)
    .await
    .unwrap();
    assert_eq!(left, (1, 0), "the other one's call stays");
    database.close().await.unwrap();
}

#[test]
fn the_alerts_that_wake_somebody_are_the_critical_ones() {
    let rules = text("monitoring/hookswitch.rules.yml");
    let alerts = rules.split("- alert: ").skip(1).filter(|alert| alert.contains("severity: critical"));
    let critical: BTreeSet<&str> = alerts.filter_map(|alert| alert.lines().next()).collect();
    let page = text("docs/production.md");
    let (_, list) = page.split_once("Wake somebody for").unwrap();
    let (list, _) = list.split_once("\n\n").unwrap();
    let named: Vec<String> = code(list);
    let named: BTreeSet<&str> =
        named.iter().map(String::as_str).filter(|word| word.starts_with("Hookswitch")).collect();
    assert_eq!(named, critical);
}

#[test]
fn every_page_can_be_reached_from_the_readme_and_every_link_leads_somewhere() {
    let mut reached = BTreeSet::new();
    let mut to_read = vec!["README.md".to_owned()];
    while let Some(page) = to_read.pop() {
        if !reached.insert(page.clone()) {
            continue;
        }
        for link in links(&text(&page)) {
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if path.is_empty() { page.clone() } else { beside(&page, path) };
            assert!(root().join(&target).exists(), "{page} links to {link}, which is not there");
            if Path::new(&target).extension().is_some_and(|of| of == "md") {
                let headings: Vec<String> = headings(&text(&target));
                assert!(anchor.is_empty() || headings.iter().any(|heading| heading == anchor), "{page}: no {link}");
                to_read.push(target);
            }
        }
    }
    for page in fs::read_dir(root().join("docs")).unwrap() {
        let page = format!("docs/{}", page.unwrap().file_name().display());
        assert!(reached.contains(&page), "nothing leads to {page}");
    }
}

fn text(page: &str) -> String {
    fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"))
}

/// What stands under a heading, up to the next one of its rank.
fn section<'p>(page: &'p str, heading: &str) -> &'p str {
    let (_, rest) = page.split_once(&format!("\n{heading}")).unwrap_or_else(|| panic!("no {heading}"));
    rest.split_once("\n## ").map_or(rest, |(section, _)| section)
}

/// The rows of tables, without their heads.
fn rows(text: &str) -> impl Iterator<Item = &str> {
    let lines: Vec<&str> = text.lines().collect();
    let is_head = |at: usize| lines.get(at + 1).is_some_and(|next| next.starts_with("| ---"));
    let kept: Vec<&str> = lines
        .iter()
        .enumerate()
        .filter(|(at, line)| line.starts_with("| ") && !line.starts_with("| ---") && !is_head(*at))
        .map(|(_, line)| *line)
        .collect();
    kept.into_iter()
}

fn cells(row: &str) -> Vec<&str> {
    row.trim_matches('|').split('|').map(str::trim).collect()
}

/// What stands between backticks.
fn code(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// A constant that nobody outside its file can see.
fn constant(file: &str, name: &str) -> usize {
    let source = text(&format!("src/{file}"));
    let (_, value) = source.split_once(&format!("const {name}: ")).unwrap_or_else(|| panic!("{file} has no {name}"));
    let (_, value) = value.split_once(" = ").unwrap();
    let (value, _) = value.split_once(';').unwrap();
    let number =
        |text: &str| text.trim().replace('_', "").parse::<usize>().unwrap_or_else(|_| panic!("{name}: {text}"));
    value.split('*').map(number).product()
}

/// Where the links of a page lead that stay in the repository.
fn links(page: &str) -> Vec<String> {
    let targets = page.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned());
    targets.filter(|target| !target.contains("://")).collect()
}

fn beside(page: &str, path: &str) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}

/// The names that headings are linked to by.
fn headings(page: &str) -> Vec<String> {
    let lines = page.lines().filter_map(|line| line.strip_prefix('#'));
    let name = |heading: &str| {
        let letters = heading.trim_start_matches('#').trim().to_lowercase();
        letters.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c)).collect::<String>().replace(' ', "-")
    };
    lines.map(name).collect()
}

/// The row on the page, and the constant it tells of.
const PRIVATE: [(&str, &str, &str); 42] = [
    ("accounts above one another", "registry/mod.rs", "ACCOUNT_DEPTH_MAX"),
    ("members of a queue", "registry/membership.rs", "MEMBERS_MAX"),
    ("extensions a PBX reports", "registry/membership.rs", "ENDPOINTS_MAX"),
    ("contacts a connector reports of a phone", "registry/reported.rs", "CONTACTS_MAX"),
    ("entries of a list in a record", "http/values.rs", "LIST_MAX"),
    ("live calls of a site", "switchboard/mod.rs", "CALLS_MAX"),
    ("legs of a call", "switchboard/call.rs", "LEGS_MAX"),
    ("messages a site may be behind", "ingest/site.rs", "OBSERVATIONS_MAX"),
    ("SIP dialogs of a site", "sip/dialog/mod.rs", "THREADS_MAX"),
    ("hops and forks of one Call-ID", "sip/dialog/thread.rs", "LEGS_MAX"),
    ("messages that came before their INVITE, of a call", "sip/dialog/mod.rs", "EARLY_MESSAGES_MAX"),
    ("the same of a site, in bytes", "sip/dialog/mod.rs", "EARLY_BYTES_MAX"),
    ("bytes of a Call-ID", "sip/dialog/mod.rs", "CALL_ID_BYTES_MAX"),
    ("SIP legs that wait a second for their connector's name", "switchboard/pairing.rs", "HELD_MAX"),
    ("reasons in the trail of a call", "switchboard/offers.rs", "TRAIL_MAX"),
    ("rows the database refuses", "store/refused.rs", "REFUSED_MAX"),
    ("entries of a page (`limit`)", "http/query.rs", "LIMIT_MAX"),
    ("events posted at once", "http/pbx_events.rs", "BATCH_MAX"),
    ("events for admins that wait for their commit", "registry/outbox.rs", "WAITING_MAX"),
    ("posted events that are remembered, for a day", "ingest/webhook.rs", "SEEN_MAX"),
    ("bytes of a message", "sip/scan.rs", "MESSAGE_LEN_MAX"),
    ("bytes of a header line", "sip/scan.rs", "LINE_LEN_MAX"),
    ("headers of a message", "sip/scan.rs", "HEADERS_MAX"),
    ("bytes of a message's headers on a connection", "sip/frame.rs", "HEAD_LEN_MAX"),
    ("contacts in one REGISTER", "sip/registrar/request.rs", "CONTACTS_MAX"),
    ("bytes of a URI", "sip/uri.rs", "URI_LEN_MAX"),
    ("INVITEs remembered for their CANCEL, 32 s", "ingest/sip/transactions.rs", "ANSWERED_MAX"),
    ("registrations bundled over one connection", "ingest/sip/flows.rs", "HELD_MAX"),
    ("publications (PUBLISH)", "ingest/sip/publications.rs", "PUBLICATIONS_MAX"),
    ("dialogs of one publication or subscription", "ingest/subscribe/dialogs/mod.rs", "DIALOGS_MAX"),
    ("copies remembered to know duplicates by, half a second", "ingest/sip/mirror.rs", "COPIES_MAX"),
    ("REGISTERs a mirror remembers until their answer, 32 s", "ingest/sip/mirror.rs", "REGISTERS_MAX"),
    ("sockets of PBXs learnt from HEP", "ingest/sip/hep.rs", "OWN_MAX"),
    ("replies of one connection that wait for a commit", "ingest/sip/tcp.rs", "PENDING_MAX"),
    ("bytes of answers that wait at a UDP address", "ingest/sip/socket.rs", "SEND_BUFFER_BYTES"),
    ("Asterisk: messages a second", "ingest/asterisk/session.rs", "MESSAGES_PER_SECOND"),
    ("Asterisk: bytes of a line; of a message", "ingest/asterisk/codec.rs", "LINE_MAX"),
    ("Asterisk: questions that wait", "ingest/asterisk/session.rs", "LATER_MAX"),
    ("Asterisk: channels; members of queues", "ingest/asterisk/decode/channel.rs", "CHANNELS_MAX"),
    ("FreeSWITCH: channels; agents", "ingest/freeswitch/decode/channels.rs", "CHANNELS_MAX"),
    ("extensions one feed subscribes to", "config/subscription.rs", "EXTENSIONS_MAX"),
    ("commands that wait for a PBX", "registry/control.rs", "COMMANDS_MAX"),
];
