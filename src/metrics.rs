//! Every metric there is, in one table: its doc line is its help text. Whoever counts something names it with the
//! macros of the `metrics` crate; a test below holds those names against this table, and `tests/docs` holds a live page
//! against it and against docs/metrics.md.
//!
//! No device, user, call or number is ever a label: labels come from fixed sets, so that a peer can't grow them, or are
//! names of the configuration (listener, feed, PBX).

pub mod process;

use std::sync::OnceLock;

use metrics::Unit;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

macro_rules! declare {
    ($($prefix:literal { $($(#[doc = $help:literal])+ $kind:ident $name:ident [$($label:ident),*];)* })*) => {
        /// Every metric, in the order of this file.
        pub const DECLARED: &[Metric] = &[$($(Metric {
            name: concat!($prefix, stringify!($name)),
            kind: Kind::$kind,
            labels: &[$(stringify!($label)),*],
            help: concat!($($help),+),
        }),*),*];
    };
}

declare! {
    "hookswitch_" {
        /// Live and stale bindings.
        Gauge bindings [];
        /// Devices by state: connected, stale, disconnected, disabled.
        Gauge devices [state];
        /// SIP messages by listener, method and what became of them.
        Counter sip_messages_total [listener, method, outcome];
        /// REGISTER requests refused by a registrar, by reason.
        Counter registrar_refusals_total [reason];
        /// Replies that wait for their change to be committed.
        Gauge sip_pending_replies [listener];
        /// Open SIP connections.
        Gauge sip_connections [listener];
        /// Contacts that a registrar asks now and then whether they live.
        Gauge keepalive_contacts [];
        /// OPTIONS that a registrar asked of phones, by outcome: answered, missed, not_sent (no way to the phone was open).
        Counter keepalive_questions_total [outcome];
        /// Contacts that were asked over a second late, by the limit that kept them waiting: per_second, under_way.
        Counter keepalive_late_total [limit];
        /// Round trip of answered OPTIONS.
        Histogram keepalive_seconds [];
        /// Bindings that a registrar ended before their time, by reason: connection_closed, keepalive.
        Counter bindings_removed_total [reason];
        /// Times changed certificate files were read, by outcome: loaded, failed (the old certificate stays).
        Counter certificate_reloads_total [listener, outcome];
        /// Open connections to the API and the operator's pages.
        Gauge http_connections [];
        /// Time one group commit took.
        Histogram commit_seconds [];
        /// Rows written by one group commit.
        Histogram commit_rows [];
        /// Keys changed in memory and not yet committed.
        Gauge dirty_keys [];
        /// Age of the oldest change not yet committed.
        Gauge oldest_dirty_seconds [];
        /// Events read off feeds.
        Counter events_total [feed_kind, kind];
        /// Whether a feed is connected and has told where things stand, or, of a kind that only listens, has told something in
        /// the last five minutes: 1 or 0; NaN once its PBX is renamed or gone.
        Gauge feed_up [pbx, feed, kind];
        /// What was dropped, by place and reason: at a limit of ours, or because nobody can use it.
        Counter dropped_total [where, reason];
        /// Subscriptions at PBXs that failed, by event package.
        Counter subscription_failures_total [event];
        /// Live calls by state.
        Gauge calls [state];
        /// Offers by outcome.
        Counter offers_total [outcome];
        /// Time from the event being read to the popup written to the user's session.
        Histogram popup_seconds [];
        /// Connected sessions.
        Gauge sessions [];
        /// Time to answer an HTTP request.
        Histogram http_request_seconds [route, method, status];
        /// Whether the database answers: 1 or 0.
        Gauge database_up [];
        /// Space left for us on the disk of the data folder, in bytes.
        Gauge data_dir_free_bytes [];
        /// Always 1; the version is a label.
        Gauge build_info [version];
    }
    // As Prometheus' own clients name them.
    "process_" {
        /// Resident memory, in bytes.
        Gauge resident_memory_bytes [];
        /// Processor time used since the start, in whole seconds.
        Counter cpu_seconds_total [];
        /// Open file descriptors; each connection is one.
        Gauge open_fds [];
        /// How many the system lets us open.
        Gauge max_fds [];
        /// When the daemon started, in seconds since 1970.
        Gauge start_time_seconds [];
    }
}

/// One declared metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Full name.
    pub name: &'static str,
    /// What kind it is.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    help: &'static str,
}

/// Kinds of metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution, in buckets.
    Histogram,
}

impl Metric {
    /// What it means.
    #[must_use]
    pub fn help(&self) -> &'static str {
        self.help.trim()
    }

    /// What it is measured in; its name says so, as Prometheus wants it.
    #[must_use]
    pub fn unit(&self) -> Unit {
        let base = self.name.strip_suffix("_total").unwrap_or(self.name);
        match base.rsplit('_').next() {
            Some("seconds") => Unit::Seconds,
            Some("bytes") => Unit::Bytes,
            _ => Unit::Count,
        }
    }
}

/// Installs the process's recorder and describes every metric to it. A second call answers with the first recorder.
///
/// # Panics
/// Never in practice: only if another library has installed a recorder of its own, or the bucket list were empty.
pub fn install() -> PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER
        .get_or_init(|| {
            let handle = builder().install_recorder().expect("this is the one place that installs a recorder");
            describe();
            metrics::gauge!("hookswitch_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
            handle
        })
        .clone()
}

fn builder() -> PrometheusBuilder {
    let buckets = |builder: PrometheusBuilder, name: &str, values: &[f64]| {
        builder
            .set_buckets_for_metric(Matcher::Full(name.to_owned()), values)
            .expect("the bucket lists below are not empty")
    };
    let builder = buckets(PrometheusBuilder::new(), "hookswitch_commit_rows", &ROWS);
    let builder = buckets(builder, "hookswitch_commit_seconds", &SECONDS);
    let builder = buckets(builder, "hookswitch_keepalive_seconds", &SECONDS);
    let builder = buckets(builder, "hookswitch_popup_seconds", &SECONDS);
    buckets(builder, "hookswitch_http_request_seconds", &SECONDS)
}

fn describe() {
    for metric in DECLARED {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.unit(), metric.help()),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.unit(), metric.help()),
            Kind::Histogram => metrics::describe_histogram!(metric.name, metric.unit(), metric.help()),
        }
    }
}

const SECONDS: [f64; 12] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
const ROWS: [f64; 8] = [1.0, 5.0, 20.0, 100.0, 500.0, 2000.0, 10_000.0, 50_000.0];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn sources(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }

    #[test]
    fn every_metric_named_in_the_source_is_declared_here() {
        let mut files = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
        for text in &files {
            for kind in ["counter!(", "gauge!(", "histogram!("] {
                for (at, _) in text.match_indices(kind) {
                    let rest = text[at + kind.len()..].trim_start();
                    let Some(name) = rest.strip_prefix('"').and_then(|rest| rest.split('"').next()) else { continue };
                    // The list of macro names above is in the source as well.
                    if !name.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()) {
                        continue;
                    }
                    assert!(DECLARED.iter().any(|metric| metric.name == name), "{name} is not declared in metrics.rs");
                }
            }
        }
    }

    #[test]
    fn every_metric_declared_here_is_named_in_the_source() {
        let mut files = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
        for metric in DECLARED {
            let quoted = format!("\"{}\"", metric.name);
            assert!(files.iter().any(|text| text.contains(&quoted)), "nobody counts {}", metric.name);
        }
    }

    #[test]
    fn a_metrics_name_says_its_unit() {
        let unit = |name: &str| DECLARED.iter().find(|metric| metric.name == name).map(Metric::unit);
        assert_eq!(unit("process_cpu_seconds_total"), Some(Unit::Seconds));
        assert_eq!(unit("hookswitch_data_dir_free_bytes"), Some(Unit::Bytes));
        assert_eq!(unit("hookswitch_commit_rows"), Some(Unit::Count));
        for metric in DECLARED {
            assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
        }
    }

    #[test]
    fn the_page_carries_each_metrics_help() {
        let recorder = install();
        metrics::counter!("hookswitch_dropped_total", "where" => "here", "reason" => "test").increment(1);
        let page = recorder.render();
        assert!(
            page.contains("# HELP hookswitch_dropped_total What was dropped, by place and reason: at a limit"),
            "{page}"
        );
        assert!(page.contains("hookswitch_build_info{version="));
    }
}
