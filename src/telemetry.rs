//! Logging: to standard error, for people on a terminal and as JSON for machines.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, reload};

use crate::config::{Log, LogFormat};

/// What is logged, which may be changed while we run.
#[derive(Debug)]
pub struct Logging(reload::Handle<Targets, Registry>);

impl Logging {
    /// Goes by these directives (`log.level`) from now on.
    pub fn set_level(&self, directives: &str) {
        // It fails only where another's subscriber was there first, which nothing of this reaches.
        let _ = self.0.reload(targets(directives));
    }
}

/// Starts logging as configured. A second call in one process (tests that start two daemons) changes nothing.
pub fn start(log: &Log) -> Logging {
    let (level, handle) = reload::Layer::new(targets(&log.level));
    let human = match log.format {
        LogFormat::Human => true,
        LogFormat::Json => false,
        LogFormat::Auto => std::io::stderr().is_terminal(),
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = if human {
        lines.with_target(false).with_ansi(std::io::stderr().is_terminal()).boxed()
    } else {
        lines.json().flatten_event(true).with_current_span(false).boxed()
    };
    // Only an earlier call of ours can be in the way.
    let _ = tracing_subscriber::registry().with(layer.with_filter(level)).try_init();
    Logging(handle)
}

/// The configuration has checked the directives; should they fail all the same, too much is better than nothing.
fn targets(directives: &str) -> Targets {
    directives.parse().unwrap_or_else(|_| Targets::new().with_default(tracing::Level::INFO))
}
