//! A capture through the engine: the tracker and the switchboard that the daemon runs, on the capture's clock, with an
//! office that is built up in memory. No database, no sockets, no tasks.
//!
//! [`Replay::take`] takes a record after the other; [`Replay::news`] hands out what was found, as it is found, so that
//! only what lives is kept.

mod answers;
mod calls;
mod connectors;
mod copies;
mod engine;
mod links;
mod logs;
mod news;
mod office;
mod phone;
mod queues;
mod registrations;
mod sockets;
mod tally;
mod timeline;

pub use links::{Links, LinksError};
pub use news::{
    CallRecord, ContactRecord, DeviceRecord, Names, News, Origin, QueueEvent, QueueHappening, Registration,
    RegistrationOutcome, Totals,
};

use self::engine::Engine;
use self::logs::Logs;
use super::capture::{Record, Wire};

/// One replay.
pub struct Replay {
    wire: Wire,
    logs: Logs,
    engine: Engine,
    records: u64,
    last_us: i64,
}

impl Replay {
    /// An office as the links file says; [`Links::default`] is an empty one.
    ///
    /// # Errors
    /// When the file contradicts itself.
    pub fn new(links: &Links) -> Result<Self, LinksError> {
        let engine = Engine::new(links)?;
        Ok(Self { wire: Wire::default(), logs: Logs::default(), engine, records: 0, last_us: 0 })
    }

    /// Takes one record, captured at `at_us` microseconds since 1970.
    pub fn take(&mut self, at_us: i64, record: Record<'_>) {
        self.records += 1;
        self.last_us = at_us;
        let Self { wire, logs, engine, .. } = self;
        match record {
            Record::Text { log, kind, bytes } => logs.take(log, kind, bytes, at_us, engine),
            record => wire.take(at_us, record, &mut |heard| engine.hear(&heard)),
        }
    }

    /// What was found since the last time.
    pub fn news(&mut self) -> impl Iterator<Item = News> + '_ {
        self.engine.news()
    }

    /// SIP messages so far.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.engine.messages()
    }

    /// Ends the capture: what is only a matter of moments is waited for, then everything that goes on is told as it is,
    /// and the counts.
    #[must_use]
    pub fn finish(self) -> Vec<News> {
        let Self { mut wire, mut engine, records, last_us, .. } = self;
        wire.finish(last_us, &mut |heard| engine.hear(&heard));
        engine.finish(records, wire.skipped)
    }
}
