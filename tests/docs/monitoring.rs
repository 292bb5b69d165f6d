//! What `monitoring/` ships: every expression of the dashboard and of the alerts is put to a real Prometheus that watches a
//! busy daemon, so that a metric or a label that is renamed is missed here first.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use hookswitch::metrics::DECLARED;
use serde_json::Value;

use crate::busy::Busy;
use crate::metrics::{SELDOM, root, sources};
use crate::prometheus::{Prometheus, shipped};
use crate::support::folder::Folder;
use crate::support::wait::until;

/// An expression of the dashboard.
struct Target {
    panel: String,
    expression: String,
    legend: String,
    may_be_empty: bool,
}

/// What an expression reads: a metric, and the labels it picks by.
#[derive(Debug, PartialEq)]
struct Selector {
    name: String,
    /// Label, and what it is held against.
    matchers: Vec<(String, String)>,
}

#[tokio::test]
async fn every_expression_of_the_dashboard_and_the_alerts_holds_on_a_real_prometheus() {
    let folder = Folder::new("docs-monitoring");
    let mut busy = Busy::start(&folder).await;
    let prometheus = Prometheus::start(&folder, busy.daemon.ops).await;
    // Quantiles of a time without events are no numbers.
    for _ in 0..3 {
        busy.round().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    for target in targets() {
        shows(&prometheus, &target).await;
    }
    let rules = until("each rule was evaluated", async || {
        let rules = prometheus.rules().await;
        (!rules.is_empty() && rules.iter().all(|rule| rule["health"] != "unknown")).then_some(rules)
    })
    .await;
    for rule in &rules {
        assert_eq!(rule["health"], "ok", "{rule:#}");
        for selector in selectors(rule["query"].as_str().unwrap()) {
            reads(&prometheus, &rule["name"], &selector).await;
        }
    }
    state(&prometheus, "HookswitchFeedDown", "pending").await;
    state(&prometheus, "HookswitchLimitReached", "firing").await;
    state(&prometheus, "HookswitchDatabaseDown", "inactive").await;
    busy.daemon.kill();
    state(&prometheus, "HookswitchDown", "pending").await;
}

/// Waits until a target of the dashboard has something to show, which has the labels of its legend.
async fn shows(prometheus: &Prometheus, target: &Target) {
    let Target { panel, expression, legend, may_be_empty } = target;
    let series = until(&format!("the panel {panel} has data: {expression}"), async || {
        let series = prometheus.query(expression).await.unwrap_or_else(|error| panic!("{panel}: {error}"));
        let has_data = series.iter().any(|(_, value)| value.is_finite());
        (has_data || *may_be_empty).then_some(series)
    })
    .await;
    for (labels, _) in series {
        for label in legend.split("{{").skip(1).filter_map(|rest| rest.split_once("}}")) {
            assert!(labels[label.0].is_string(), "{panel}: {expression} has no {}: {labels}", label.0);
        }
    }
}

/// What an alert reads is there, by labels it has and values that the source knows.
async fn reads(prometheus: &Prometheus, alert: &Value, selector: &Selector) {
    let Selector { name, matchers } = selector;
    if !SELDOM.contains(&name.as_str()) {
        until(&format!("there is {name}, which {alert} reads"), async || {
            let series = prometheus.query(name).await.expect("a name is valid");
            (!series.is_empty()).then_some(())
        })
        .await;
    }
    let base = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    let declared = DECLARED.iter().find(|metric| metric.name == base);
    let files = sources(&root().join("src"));
    for (label, value) in matchers {
        let known = declared.is_some_and(|metric| metric.labels.contains(&label.as_str()));
        assert!(known || label == "job", "{alert}: {name} has no label {label}");
        let literal = value.split('|').filter(|word| known && !word.contains(['.', '*', '+']));
        for word in literal {
            let quoted = format!("\"{word}\"");
            let is_there = files.iter().any(|text| text.contains(&quoted));
            // Labels of some enums are written by their names.
            assert!(is_there, "{alert}: nothing in the source says {label}={quoted}");
        }
    }
}

async fn state(prometheus: &Prometheus, alert: &str, state: &str) {
    until(&format!("{alert} is {state}"), async || {
        let rules = prometheus.rules().await;
        let rule = rules.into_iter().find(|rule| rule["name"] == alert).expect("there is this alert");
        (rule["state"] == state).then_some(())
    })
    .await;
}

#[test]
fn promtool_accepts_the_rules_and_each_fires_and_keeps_quiet_as_its_test_says() {
    let rules = shipped("hookswitch.rules.yml");
    for words in [["check", "rules", "hookswitch.rules.yml"], ["test", "rules", "hookswitch.test.yml"]] {
        let done = Command::new("promtool").args(words).current_dir(shipped("")).output();
        let done = done.expect("promtool is missing; .ci/tools installs it (Debian: prometheus)");
        let said = [done.stdout, done.stderr].concat();
        assert!(done.status.success(), "{words:?}:\n{}", String::from_utf8_lossy(&said));
    }
    let (rules, tests) =
        (fs::read_to_string(rules).unwrap(), fs::read_to_string(shipped("hookswitch.test.yml")).unwrap());
    let page = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let mut names: Vec<&str> = rules.split("- alert: ").skip(1).filter_map(|rule| rule.lines().next()).collect();
    for (name, rule) in names.iter().zip(rules.split("- alert: ").skip(1)) {
        let firing = format!("exp_samples: [{{labels: '{{alertname=\"{name}\"");
        let among_others = format!("- {{labels: '{{alertname=\"{name}\"");
        assert!(tests.contains(&firing) || tests.contains(&among_others), "no test has {name} fire");
        assert!(rule.contains("summary: >-"), "{name} does not say what to do");
        let anchor = name.to_lowercase();
        assert!(rule.contains(&format!("runbook_url: docs/metrics.md#{anchor}\n")), "{name} names no page");
        assert!(page.contains(&format!("\n### {name}\n")), "docs/metrics.md does not speak of {name}");
    }
    assert!(names.len() >= 20);
    let shown: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    assert_eq!(shown, names, "the page has them in the order of the rules");
    names.sort_unstable();
    names.dedup();
    assert_eq!(shown.len(), names.len(), "no name is there twice");
}

#[test]
fn the_dashboard_can_be_provisioned_and_shows_every_metric() {
    let dashboard = dashboard();
    assert!(dashboard["id"].is_null(), "an id is of one Grafana");
    assert_eq!(dashboard["uid"], "hookswitch");
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<i64> = panels.iter().filter_map(|panel| panel["id"].as_i64()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    let mut places: BTreeSet<(i64, i64)> = BTreeSet::new();
    for panel in panels {
        let place = |key: &str| panel["gridPos"][key].as_i64().unwrap();
        assert!(place("x") + place("w") <= 24, "{} is off the grid", panel["title"]);
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(places.insert((x, y)), "{} lies over another panel", panel["title"]);
            }
        }
        for target in panel["targets"].as_array().into_iter().flatten() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        }
    }
    let read: Vec<String> =
        targets().iter().flat_map(|target| selectors(&target.expression)).map(|one| one.name).collect();
    for metric in DECLARED {
        assert!(read.iter().any(|name| name.starts_with(metric.name)), "no panel shows {}", metric.name);
    }
}

#[test]
fn what_an_expression_reads_is_found() {
    let read = selectors("sum by (le) (rate(hookswitch_a_bucket{x=~\"a|b\",y!=\"c\"}[5m])) > process_b or absent(up)");
    let one = |name: &str, matchers: &[(&str, &str)]| Selector {
        name: name.to_owned(),
        matchers: matchers.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect(),
    };
    assert_eq!(read, [one("hookswitch_a_bucket", &[("x", "a|b"), ("y", "c")]), one("process_b", &[])]);
}

fn dashboard() -> Value {
    serde_json::from_str(&fs::read_to_string(shipped("grafana/hookswitch.json")).unwrap()).unwrap()
}

/// The expressions of the dashboard as Grafana sends them, over a short time. A panel that says what it shows when there is
/// nothing may be empty.
fn targets() -> Vec<Target> {
    let panels = dashboard()["panels"].as_array().unwrap().clone();
    let of = |panel: &Value| -> Vec<Target> {
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        let target = |target: &Value| Target {
            panel: panel["title"].as_str().unwrap().to_owned(),
            expression: target["expr"].as_str().unwrap().replace("$instance", ".+").replace("$__rate_interval", "20s"),
            legend: target["legendFormat"].as_str().unwrap().to_owned(),
            may_be_empty: panel["fieldConfig"]["defaults"]["noValue"].is_string(),
        };
        targets.iter().map(target).collect()
    };
    let targets: Vec<Target> = panels.iter().flat_map(of).collect();
    assert!(targets.len() > 40, "the dashboard is written in another way now");
    targets
}

/// The metrics of ours that an expression reads.
fn selectors(expression: &str) -> Vec<Selector> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(at) = ["hookswitch_", "hookswitch:", "process_"].iter().filter_map(|start| rest.find(start)).min() {
        let begins = !rest[..at].ends_with(is_name);
        rest = &rest[at..];
        let (name, after) = rest.split_at(rest.find(|c| !is_name(c)).unwrap_or(rest.len()));
        rest = after;
        if !begins {
            continue;
        }
        let mut matchers = Vec::new();
        if let Some(list) = after.strip_prefix('{') {
            let (list, after) = list.split_once('}').expect("no label's value holds a brace");
            rest = after;
            for matcher in
                list.split("\",").map(|matcher| matcher.trim_matches(['"', ' '])).filter(|one| !one.is_empty())
            {
                let (label, value) = matcher.split_once('"').expect("a value is quoted");
                matchers.push((label.trim_end_matches(['=', '~', '!', ' ']).to_owned(), value.to_owned()));
            }
        }
        found.push(Selector { name: name.to_owned(), matchers });
    }
    found
}
