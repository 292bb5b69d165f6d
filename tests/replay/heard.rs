//! A capture replayed from memory.

use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::Arc;

use hookswitch::ingest::capture::{Captures, FileError};
use hookswitch::ingest::replay::{DeviceRecord, Links, News, QueueEvent, Registration, Replay, Totals};
use hookswitch::model::Call;

/// What a replay found.
#[derive(Debug, Default)]
pub struct Found {
    /// What was told while the capture was read.
    pub news: Vec<News>,
    /// What was told at its end.
    pub end: Vec<News>,
    /// Why the rest was not read.
    pub errors: Vec<FileError>,
}

impl Found {
    pub fn calls(&self) -> Vec<Arc<Call>> {
        let all = self.news.iter().chain(&self.end);
        let call = |news: &News| if let News::Call(record) = news { Some(record.call.clone()) } else { None };
        all.filter_map(call).collect()
    }

    pub fn devices(&self) -> Vec<DeviceRecord> {
        let device = |news: &News| if let News::Device(device) = news { Some(device.clone()) } else { None };
        self.end.iter().filter_map(device).collect()
    }

    pub fn registrations(&self) -> Vec<Registration> {
        let all = self.news.iter().chain(&self.end);
        let found = |news: &News| if let News::Registration(found) = news { Some(found.clone()) } else { None };
        all.filter_map(found).collect()
    }

    pub fn totals(&self) -> Totals {
        match self.end.last() {
            Some(News::Totals(totals)) => (**totals).clone(),
            other => panic!("the totals come last, not {other:?}"),
        }
    }

    /// What happened in queues, and to whom.
    pub fn queue_events(&self) -> Vec<QueueEvent> {
        let all = self.news.iter().chain(&self.end);
        let event = |news: &News| if let News::Queue(event) = news { Some(event.clone()) } else { None };
        all.filter_map(event).collect()
    }

    /// Everything that was found about phones and calls, without the counts of packets.
    pub fn events(&self) -> Vec<News> {
        let is_event = |news: &&News| !matches!(news, News::Totals(_));
        self.news.iter().chain(&self.end).filter(is_event).cloned().collect()
    }
}

/// Replays what `reader` gives.
pub fn replay_from(reader: Box<dyn Read>, links: &Links) -> Found {
    let mut found = Found::default();
    let mut captures = match Captures::read(Path::new("capture"), reader) {
        Ok(captures) => captures,
        Err(error) => {
            found.errors.push(error);
            return found;
        }
    };
    drive(&mut captures, links, &mut found);
    found
}

pub fn drive(captures: &mut Captures, links: &Links, found: &mut Found) {
    let mut replay = Replay::new(links).expect("the links are good");
    loop {
        match captures.next_record() {
            Ok(Some((at_us, record))) => replay.take(at_us, record),
            Ok(None) => break,
            Err(error) => found.errors.push(error),
        }
        found.news.extend(replay.news());
    }
    found.end = replay.finish();
}

/// Replays a capture that is good.
pub fn replay(bytes: Vec<u8>) -> Found {
    let found = replay_from(Box::new(Cursor::new(bytes)), &Links::default());
    assert!(found.errors.is_empty(), "{:?}", found.errors);
    found
}

/// Hands out one byte a read.
pub struct Drip(pub Cursor<Vec<u8>>);

impl Read for Drip {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(1);
        self.0.read(&mut buffer[..length])
    }
}
