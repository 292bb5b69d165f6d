//! docs/metrics.md and the page itself: every metric is described, in both in the same words, and no label names anybody.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use hookswitch::metrics::{DECLARED, Kind};

use crate::busy::Busy;
use crate::support::folder::Folder;
use crate::support::wait::until;

/// One line of the page: metric, labels, value.
struct Series {
    metric: String,
    labels: BTreeMap<String, String>,
}

#[tokio::test]
async fn the_page_of_a_busy_daemon_is_described_and_its_labels_name_nobody() {
    let folder = Folder::new("docs-metrics");
    let busy = Busy::start(&folder).await;
    let shown = |page: &str| -> BTreeSet<String> { series(page).into_iter().map(|series| series.metric).collect() };
    let expected: BTreeSet<&str> =
        DECLARED.iter().map(|metric| metric.name).filter(|name| !SELDOM.contains(name)).collect();
    until("all that is declared is on the page", async || {
        let shown = shown(&busy.daemon.metrics().await);
        expected.iter().all(|name| shown.contains(*name)).then_some(())
    })
    .await;
    let page = busy.daemon.metrics().await;
    for metric in shown(&page) {
        let declared = DECLARED.iter().find(|declared| declared.name == metric);
        let declared = declared.unwrap_or_else(|| panic!("{metric} is declared nowhere"));
        assert!(page.contains(&format!("# HELP {metric} {}\n", declared.help())), "{metric} has no help on the page");
        assert!(
            page.contains(&format!("# TYPE {metric} {}\n", word(declared.kind))),
            "{metric} has no type on the page"
        );
    }
    for Series { metric, labels } in series(&page) {
        let declared = DECLARED.iter().find(|declared| declared.name == metric).expect("looked at above");
        let mut names: BTreeSet<&str> = labels.keys().map(String::as_str).collect();
        names.remove("le");
        assert_eq!(names, declared.labels.iter().copied().collect(), "the labels of {metric}");
        for value in labels.values() {
            let named = busy.private.iter().find(|private| value.contains(*private));
            assert!(named.is_none(), "{metric}{labels:?} names {named:?}");
        }
    }
}

#[test]
fn the_table_on_the_page_of_the_documentation_is_the_one_in_the_code() {
    let page = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let (_, table) = page.split_once("## Every metric").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| `")).collect();
    let declared = DECLARED.iter().map(|metric| {
        let labels = if metric.labels.is_empty() { String::new() } else { format!("{{{}}}", metric.labels.join(",")) };
        format!("| `{}{labels}` | {} | {} | ", metric.name, word(metric.kind), metric.help())
    });
    let declared: Vec<String> = declared.collect();
    assert_eq!(rows.len(), declared.len());
    for (row, declared) in rows.iter().zip(&declared) {
        let advice = row.strip_prefix(declared).unwrap_or_else(|| panic!("\n{row}\nis not\n{declared}"));
        assert!(!advice.trim_end_matches(" |").is_empty(), "{row} does not say what is normal");
    }
}

#[test]
fn every_place_and_reason_of_a_drop_is_in_the_documentation() {
    let page = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let (_, table) = page.split_once("## What is dropped").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let mut found = 0;
    for text in sources(&root().join("src")) {
        // Tests make up places of their own.
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        for start in NAMES_A_DROP {
            for (at, _) in code.match_indices(start) {
                let (name, after) = code[at + start.len()..].split_once('"').unwrap();
                if start == COUNTS && !after.starts_with(", ") {
                    continue;
                }
                assert!(table.contains(&format!("`{name}`")), "{start}{name}\" is not in docs/metrics.md");
                found += 1;
            }
        }
    }
    assert!(found > 80, "drops are named in another way now: {found}");
}

/// The series of a page, those of a histogram by its name.
fn series(page: &str) -> Vec<Series> {
    let lines = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(one).collect()
}

fn one(line: &str) -> Series {
    let (series, _) = line.rsplit_once(' ').unwrap();
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let pairs = labels.trim_end_matches('}').split("\",").filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once("=\"").unwrap());
    let labels = pairs.map(|(name, value)| (name.to_owned(), value.trim_end_matches('"').to_owned())).collect();
    let ends = ["_bucket", "_sum", "_count"].iter().filter_map(|end| name.strip_suffix(end));
    let is_histogram =
        |base: &&str| DECLARED.iter().any(|metric| metric.name == *base && metric.kind == Kind::Histogram);
    let metric = ends.into_iter().find(is_histogram).unwrap_or(name).to_owned();
    Series { metric, labels }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    }
}

/// The texts of all source files in a folder.
pub fn sources(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder of sources").map(|entry| entry.expect("an entry").path());
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
    let inner = folders.iter().flat_map(|folder| sources(folder));
    files.iter().map(|file| fs::read_to_string(file).expect("UTF-8")).chain(inner).collect()
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Appear only when a PBX refuses a subscription, and where phones are asked whether they live.
pub const SELDOM: [&str; 6] = [
    "hookswitch_subscription_failures_total",
    "hookswitch_keepalive_contacts",
    "hookswitch_keepalive_questions_total",
    "hookswitch_keepalive_late_total",
    "hookswitch_keepalive_seconds",
    "hookswitch_bindings_removed_total",
];
/// What stands before the name of a place or a reason.
const NAMES_A_DROP: [&str; 9] = [
    "\"where\" => \"",
    "\"reason\" => \"",
    "Census::new(\"",
    "dropped(\"",
    "crowded(\"",
    "Dropped(\"",
    "Limited(\"",
    COUNTS,
    "End::Us(\"",
];
/// Of the connectors, with how many; others count other things by this name.
const COUNTS: &str = " count(\"";
