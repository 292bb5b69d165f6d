//! Captures: files of packets and dumps, taken apart down to the SIP in them.
//!
//! [`Captures`] reads any number of files as one, in the order of their stamps; [`Wire`] takes packets apart. Both hold
//! what is under way and nothing else, within bounds; what they leave out is counted in [`Skipped`].

mod dump;
mod file;
mod fragments;
mod ip;
mod link;
mod log;
mod messages;
mod payload;
mod pcap;
mod segment;
mod source;
mod stream;
mod streams;
mod wire;

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use file::{FileError, Kind, Record};
pub use wire::{Heard, Wire};

use file::Capture;

/// Files read as one capture, in the order of their stamps. A file is opened when its first stamp comes up, so that the
/// pieces of a long rotating capture are open one or two at a time.
pub struct Captures {
    open: Vec<Capture>,
    /// The later the first stamp, the further in front.
    waiting: Vec<Waiting>,
    current: Option<usize>,
    /// Bytes of files that are read to their end.
    done: u64,
    total: u64,
}

/// What was left out of a capture, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Skipped {
    /// Packets that hold no IP: ARP, spanning tree and the like.
    pub not_ip: u64,
    /// Packets of a link type that is not read.
    pub link_type: u64,
    /// IP packets whose headers make no sense.
    pub broken_ip: u64,
    /// Packets captured only in part (`snaplen`); what is there was used.
    pub cut_short: u64,
    /// Fragments whose packet never became whole.
    pub fragments: u64,
    /// IP packets of other protocols than UDP and TCP.
    pub other_protocols: u64,
    /// UDP datagrams that hold neither SIP nor HEP: media, names, time.
    pub other_datagrams: u64,
    /// TCP segments that brought nothing new: sent again, or captured twice.
    pub tcp_again: u64,
    /// Places where TCP segments were never captured.
    pub tcp_gaps: u64,
    /// TCP streams that stopped making sense and were searched for the next message.
    pub tcp_broken: u64,
    /// Bytes of TCP streams that belong to no SIP and no HEP.
    pub tcp_other_bytes: u64,
    /// TCP streams that were forgotten because there were too many.
    pub tcp_streams: u64,
    /// HEP packets that can't be read, or whose compressed message can't be or is longer than a message may be.
    pub broken_hep: u64,
    /// HEP packets that carry something else than SIP: RTCP, logs.
    pub other_hep: u64,
}

/// A file whose first record is not due yet.
struct Waiting {
    first_us: i64,
    path: PathBuf,
    /// Its place in the list of files.
    number: usize,
    /// Open already where it can't be opened again, or where the files are few.
    capture: Option<Capture>,
}

impl Captures {
    /// Opens files (`-` is standard input) and tells what they are.
    ///
    /// # Errors
    /// When one can't be read or is of no known kind: nothing is replayed then.
    pub fn open(paths: &[PathBuf]) -> Result<Self, FileError> {
        let mut captures = Vec::with_capacity(paths.len().min(OPEN_MAX));
        for (number, path) in paths.iter().enumerate() {
            captures.push((path.clone(), Capture::open(path, number)?));
        }
        let total = paths.iter().filter_map(|path| std::fs::metadata(path).ok()).map(|file| file.len()).sum();
        Ok(Self { total, ..Self::of(captures) })
    }

    /// One capture from any reader; `name` is what it is called in messages.
    ///
    /// # Errors
    /// As [`Captures::open`].
    pub fn read(name: &Path, reader: Box<dyn Read>) -> Result<Self, FileError> {
        Ok(Self::of(vec![(name.to_owned(), Capture::read(name, 0, reader)?)]))
    }

    /// The next record and when it was captured, in microseconds since 1970; none at the end of all files.
    ///
    /// # Errors
    /// When the rest of a file can't be read. The other files go on with the next call.
    pub fn next_record(&mut self) -> Result<Option<(i64, Record<'_>)>, FileError> {
        if let Some(at) = self.current.take() {
            self.step(at)?;
        }
        loop {
            let first = self.open.iter().enumerate().min_by_key(|(_, capture)| capture.at_us());
            let first = first.map(|(at, capture)| (at, capture.at_us()));
            let is_due = |waiting: &mut Waiting| first.is_none_or(|(_, at_us)| waiting.first_us <= at_us);
            let Some(waiting) = self.waiting.pop_if(is_due) else {
                let Some((at, at_us)) = first else { return Ok(None) };
                self.current = Some(at);
                return Ok(self.open.get(at).and_then(Capture::record).map(|record| (at_us, record)));
            };
            let capture = match waiting.capture {
                Some(capture) => capture,
                None => Capture::open(&waiting.path, waiting.number)?,
            };
            self.open.push(capture);
            self.step(self.open.len() - 1)?;
        }
    }

    /// Bytes read so far and in all; 0 in all when that is not known.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        (self.done + self.open.iter().map(Capture::offset).sum::<u64>(), self.total)
    }

    fn of(captures: Vec<(PathBuf, Capture)>) -> Self {
        let is_many = captures.len() > OPEN_MAX;
        let mut waiting = Vec::with_capacity(captures.len());
        for (number, (path, mut capture)) in captures.into_iter().enumerate() {
            // A file that breaks off within its first record says so when its turn comes.
            let first_us = capture.peek();
            let keep = !is_many || path.as_os_str() == "-";
            waiting.push(Waiting { first_us, path, number, capture: keep.then_some(capture) });
        }
        // Of two that begin together the one named first comes first.
        waiting.reverse();
        waiting.sort_by_key(|waiting| std::cmp::Reverse(waiting.first_us));
        Self { open: Vec::new(), waiting, current: None, done: 0, total: 0 }
    }

    /// Moves a file to its next record, and lets go of it after its last.
    fn step(&mut self, at: usize) -> Result<(), FileError> {
        let Some(capture) = self.open.get_mut(at) else { return Ok(()) };
        let moved = capture.advance();
        if !matches!(moved, Ok(true)) {
            self.done += capture.offset();
            self.open.remove(at);
        }
        moved.map(drop)
    }
}

/// More files than this are opened one after the other.
const OPEN_MAX: usize = 16;
