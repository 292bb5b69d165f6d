//! No more than some lines a second from one place of the code, whatever happens there: who can make us fail a hundred thousand
//! times a second must not fill the disk, nor slow us down by what we write of it.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tracing::callsite::Identifier;
use tracing::{Event, Metadata};
use tracing_subscriber::layer::{Context, Filter};

use crate::clock::{Clock, Stopwatch};

/// Lets ten lines a second through from each place of the code, and counts the rest.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flood;

impl<S> Filter<S> for Flood {
    fn enabled(&self, _metadata: &Metadata<'_>, _cx: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _cx: &Context<'_, S>) -> bool {
        let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
        let metadata = event.metadata();
        let place = places.entry(metadata.callsite()).or_insert_with(|| Place::new(metadata));
        place.admits()
    }
}

/// Logs how many lines were left out since the last time, a line for each place they would have come from.
pub fn report_left_out() {
    let left_out: Vec<(u64, &str, u32)> = {
        let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
        let places = places.values_mut().filter(|place| place.left_out > 0);
        places.map(|place| (std::mem::take(&mut place.left_out), place.file, place.line)).collect()
    };
    // The lock is free again: logging takes it.
    for (lines, file, line) in left_out {
        tracing::warn!(lines, from = format!("{file}:{line}"), "lines were left out of this log, there were too many");
    }
}

/// A place in the code that logs.
#[derive(Debug)]
struct Place {
    file: &'static str,
    line: u32,
    /// Since the second began in which lines are counted.
    second: Stopwatch,
    lines: u32,
    left_out: u64,
}

impl Place {
    fn new(metadata: &'static Metadata<'static>) -> Self {
        let (file, line) = (metadata.file().unwrap_or("?"), metadata.line().unwrap_or(0));
        Self { file, line, second: Clock::stopwatch(), lines: 0, left_out: 0 }
    }

    fn admits(&mut self) -> bool {
        if self.lines >= LINES_MAX && self.second.elapsed() >= SECOND {
            (self.second, self.lines) = (Clock::stopwatch(), 0);
        }
        if self.lines < LINES_MAX {
            self.lines += 1;
            return true;
        }
        self.left_out += 1;
        false
    }
}

/// As many as there are places that log, which the code bounds.
static PLACES: LazyLock<Mutex<HashMap<Identifier, Place>>> = LazyLock::new(Mutex::default);
const LINES_MAX: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use tracing_subscriber::Layer as _;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Keeps what is written.
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_place_that_fails_often_logs_seldom_others_go_on_and_what_was_left_out_is_said() {
        let page = Page::default();
        let writer = page.clone();
        let layer =
            tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone()).with_filter(Flood);
        let began = Clock::stopwatch();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            for number in 0..100_000 {
                tracing::warn!(number, "it fails");
            }
            tracing::warn!("something else");
            report_left_out();
        });
        let seconds = usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        let count = |what: &str| text.lines().filter(|line| line.contains(what)).count();
        assert!((1..=10 * seconds).contains(&count("it fails")), "{text}");
        assert_eq!((count("something else"), count("lines were left out")), (1, 1), "{text}");
        let left_out = 100_000 - count("it fails");
        assert!(text.contains(&format!("lines={left_out} ")), "{text}");
    }
}
