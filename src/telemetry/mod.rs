//! Logging: to standard error, for people on a terminal and as JSON for machines. A failure is one line where it is handled,
//! and no flood of failures is a flood of lines ([`flood`]).

pub mod flood;

use std::fmt;
use std::io::IsTerminal as _;

use tracing_subscriber::filter::{FilterExt as _, Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, reload};

use crate::config::{Log, LogFormat};

use flood::Flood;
pub use flood::report_left_out;

/// A number or a name as it may stand in a log: of a long one only its end, by which who knows it tells it from others.
#[derive(Clone, Copy, Debug)]
pub struct Short<'t>(pub &'t str);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = self.0.chars().count();
        if letters <= SHOWN_WHOLE {
            return f.write_str(self.0);
        }
        let end: String = self.0.chars().skip(letters - SHOWN).collect();
        write!(f, "…{end}")
    }
}

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
    let private = filter_fn(|metadata| !metadata.target().starts_with(TELLTALE));
    // Only an earlier call of ours can be in the way.
    let _ = tracing_subscriber::registry().with(layer.with_filter(level.and(private).and(Flood))).try_init();
    Logging(handle)
}

/// The configuration has checked the directives; should they fail all the same, too much is better than nothing.
fn targets(directives: &str) -> Targets {
    directives.parse().unwrap_or_else(|_| Targets::new().with_default(tracing::Level::INFO))
}

/// What reads telephone numbers logs them, in full.
const TELLTALE: &str = "rlibphonenumber";
/// Extensions are whole.
const SHOWN_WHOLE: usize = 6;
const SHOWN: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_whole_and_numbers_are_not() {
        assert_eq!(Short("101").to_string(), "101");
        assert_eq!(Short("+14155550100").to_string(), "…100");
    }
}
