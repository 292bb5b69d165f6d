//! The pages in docs/ do what they say: their commands are run, their outputs compared, their configuration is the one
//! that the tests run.

#[path = "../support/mod.rs"]
mod support;

mod busy;
mod metrics;
mod monitoring;
mod operating;
mod page;
mod prometheus;
mod proxy;

use std::process::Command;

use hookswitch::config::{Auth, Config, Mode};
use hookswitch::ingest::asterisk;
use hookswitch::ingest::freeswitch::EVENTS;
use page::{Page, Session};
use support::daemon::{Daemon, hookswitch};
use support::folder::Folder;
use support::wait::until;

#[tokio::test]
async fn every_command_of_first_phone_does_what_the_page_says() {
    let folder = Folder::new("docs-first-phone");
    let daemon = Daemon::start(&folder).await;
    let mut session = Session::new(&folder, &daemon);
    session.follow(&Page::read("docs/first-phone.md")).await;
}

#[tokio::test]
async fn every_command_of_kamailio_in_front_works() {
    let folder = Folder::new("docs-kamailio");
    let daemon = Daemon::start(&folder).await;
    let mut session = Session::new(&folder, &daemon);
    session.follow(&Page::read("docs/kamailio.md")).await;
    let queues = daemon.api().get("/v1/queues").await;
    assert_eq!(queues["items"][0]["name"], "sales", "{queues:#}");
    let pbxs = daemon.api().get("/v1/pbxs").await;
    assert_eq!(pbxs["items"][0]["queue_rules"][0]["name"], "X-Queue", "{pbxs:#}");
}

#[tokio::test]
async fn every_command_of_any_pbx_by_webhook_works() {
    let folder = Folder::new("docs-webhook");
    let daemon = Daemon::start(&folder).await;
    let mut session = Session::new(&folder, &daemon);
    session.follow(&Page::read("docs/webhook.md")).await;
    let ended = async || {
        let calls = daemon.api().get("/v1/calls").await;
        (calls["items"][0]["state"] == "ended").then_some(calls)
    };
    let calls = until("the call of the page is over", ended).await;
    assert_eq!(calls["items"][0]["outcome"], "answered", "{calls:#}");
}

#[tokio::test]
async fn every_command_of_phones_with_passwords_works_and_its_configuration_is_good() {
    let folder = Folder::new("docs-digest");
    let daemon = Daemon::start(&folder).await;
    let mut session = Session::new(&folder, &daemon);
    let page = Page::read("docs/digest.md");
    session.follow(&page).await;
    let device = daemon.api().device("150", "disconnected").await;
    assert!(device["secret_set_at"].is_i64(), "{device:#}");
    let settings = page.blocks("toml").next().expect("it shows the listener");
    let config = Config::parse(settings, std::iter::empty()).expect("it is good");
    assert_eq!((config.listeners[0].auth, config.registrar.realm.as_str()), (Auth::Digest, "office.example"));
}

#[tokio::test]
async fn every_command_of_back_up_works() {
    let folder = Folder::new("docs-backup");
    let daemon = Daemon::start(&folder).await;
    let mut session = Session::new(&folder, &daemon);
    session.follow(&Page::read("docs/backup.md")).await;
    assert!(folder.join("hookswitch.backup").exists());
}

#[test]
fn the_hep_page_shows_a_good_configuration_and_the_password_is_the_key() {
    let page = Page::read("docs/hep.md");
    let settings = page.blocks("toml").next().expect("it shows the listener");
    let config = Config::parse(settings, std::iter::empty()).expect("it is good");
    let hep = &config.listeners[0];
    assert_eq!(hep.mode, Mode::Hep);
    let asterisk = page.blocks("ini").next().expect("it shows hep.conf");
    let value = |key: &str| asterisk.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap();
    assert_eq!(value("uuid_type"), "call-id");
    assert!(hep.key.as_ref().unwrap().is(value("capture_password").as_bytes()));
    assert!(hep.capture_ids.contains_key(&value("capture_id").parse().unwrap()));
    assert!(hep.bind.iter().any(|bind| bind.to_string() == format!("udp:{}", value("capture_address"))));
}

#[test]
fn the_kamailio_lines_on_the_page_are_the_ones_that_are_tested_and_all_of_them() {
    let tested = std::fs::read_to_string("tests/kamailio/kamailio.cfg").expect("the configuration is there");
    let page = Page::read("docs/kamailio.md");
    let shown: Vec<&str> = page.blocks("kamailio").collect();
    assert!(shown.len() > 3);
    for block in &shown {
        assert!(tested.contains(block), "not in kamailio.cfg:\n{block}");
    }
    for section in tested.split("# >>> hookswitch").skip(1) {
        let (_, lines) = section.split_once('\n').expect("the mark is a line of its own");
        let (lines, _) = lines.split_once("# <<<").expect("a section has an end");
        assert!(shown.contains(&lines), "not on the page:\n{lines}");
    }
}

#[test]
fn the_lines_of_the_subscriptions_page_are_the_ones_that_are_tested_and_all_of_them() {
    let tested = std::fs::read_to_string("tests/kamailio/kamailio.cfg").expect("the configuration is there");
    let page = Page::read("docs/subscriptions.md");
    let shown: Vec<&str> = page.blocks("kamailio").collect();
    for section in tested.split("# >>> subscriptions").skip(1) {
        let (_, lines) = section.split_once('\n').expect("the mark is a line of its own");
        let (lines, _) = lines.split_once("# <<<").expect("a section has an end");
        assert!(shown.contains(&lines), "not on the page:\n{lines}");
    }
    assert_eq!(shown.len(), 4, "and no others");
    let mut good = 0;
    for page in [page, Page::read("docs/opensips.md")] {
        for settings in page.blocks("toml") {
            Config::parse(settings, std::iter::empty()).expect("it is good");
            good += 1;
        }
    }
    assert_eq!(good, 3);
}

#[test]
fn the_asterisk_page_shows_a_good_configuration_and_filters_that_let_through_what_is_read() {
    let page = Page::read("docs/asterisk.md");
    let settings = page.blocks("toml").next().expect("it shows the feed");
    let config = Config::parse(settings, std::iter::empty()).expect("it is good");
    let shown: Vec<&str> = page.blocks("ini").collect();
    assert!(shown[0].contains(&format!("secret = {}\n", config.feeds[0].secret.reveal())));
    assert!(shown[0].contains(&format!("[{}]", config.feeds[0].user.as_deref().unwrap_or_default())));
    let read: Vec<&str> = asterisk::decode::EVENTS.to_vec();
    let new = shown[1].lines().filter_map(|line| line.split_once("name(")?.1.split_once(')')).map(|(name, _)| name);
    assert_eq!(new.collect::<Vec<_>>(), read);
    let old =
        shown[2].split_once("Event: (").and_then(|(_, rest)| rest.split_once(')')).expect("it is one expression").0;
    assert_eq!(old.split('|').collect::<Vec<_>>(), read);
}

#[test]
fn the_freeswitch_page_shows_a_good_configuration_and_asks_for_no_more_rights_than_are_used() {
    let page = Page::read("docs/freeswitch.md");
    let settings = page.blocks("toml").next().expect("it shows the feed");
    let config = Config::parse(settings, std::iter::empty()).expect("it is good");
    let socket = page.blocks("xml").next().expect("it shows event_socket.conf.xml");
    let password = socket.split("name=\"password\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    assert_eq!(config.feeds[0].secret.reveal(), password);
    let rights = page.blocks("xml").find(|block| block.contains("esl-allowed-events")).expect("it shows a user");
    assert!(rights.contains(&format!("value=\"{EVENTS}\"")), "{rights}");
}

#[test]
fn each_test_that_the_standards_page_names_is_there() {
    let page = std::fs::read_to_string(root().join("docs/standards.md")).unwrap();
    // Every other piece between backticks is code.
    let named: Vec<(&str, &str)> =
        page.split('`').skip(1).step_by(2).filter_map(|code| code.split_once("::")).collect();
    assert!(named.len() > 60, "only {} tests are named", named.len());
    for (file, name) in named {
        let source = std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        // As a function, or as a row of the table that tests/sipp/answers.rs makes functions of.
        let is_there = [format!("fn {name}("), format!("\n    {name}: \"")].iter().any(|text| source.contains(text));
        assert!(is_there, "{file} has no test {name}");
    }
}

/// A command that reads the daemon's own configuration.
fn beside(daemon: &Daemon, arguments: &[&str]) -> Command {
    let mut command = hookswitch(&daemon.config);
    command.args(arguments);
    command
}

fn root() -> &'static std::path::Path {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
}
