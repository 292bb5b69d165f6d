//! One file: what kind it is by its first bytes, and its records one after the other.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::dump::{Lengths, Plain};
use super::log::{Log, Pieces};
use super::pcap::{Pcap, PcapNg, SECTION_HEADER};
use super::source::Source;

/// What can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// libpcap's capture format.
    Pcap,
    /// pcapng.
    PcapNg,
    /// HEP packets, each after its length as a big-endian 32-bit number.
    HepLengths,
    /// HEP version 3 packets back to back, as on a TCP connection.
    HepPlain,
    /// What an Asterisk manager connection sent.
    Ami,
    /// What a FreeSWITCH event socket sent.
    EventSocket,
}

/// Why a file, or the rest of it, is not read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system can't open or read it.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// There is nothing in it.
    #[error("{}: empty, there is nothing to replay", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// It is none of the known kinds.
    #[error("{}: {what}", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What it seems to be, and what could be read.
        what: &'static str,
    },
    /// It ends within a record; all before it was read.
    #[error("{}: breaks off at byte {offset}, inside {what} {number}; what was whole before it was replayed", path.display())]
    BreaksOff {
        /// The file.
        path: PathBuf,
        /// Where the broken record begins.
        offset: u64,
        /// What a record of this kind is called.
        what: &'static str,
        /// Its number, from 1.
        number: u64,
    },
    /// A record makes no sense, and where the next one begins can't be told; all before it was read.
    #[error("{}: damaged at byte {offset}: {why} where {what} {number} should be; what was whole before it was replayed", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damaged record begins.
        offset: u64,
        /// What is wrong.
        why: &'static str,
        /// What a record of this kind is called.
        what: &'static str,
        /// Its number, from 1.
        number: u64,
    },
}

/// A record: a packet, or an event of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A captured packet, which begins as this link type says (the numbers of pcap's `LINKTYPE_…`).
    Packet {
        /// The link type.
        link: u32,
        /// The packet, as much as was captured.
        bytes: &'a [u8],
    },
    /// A HEP packet.
    Hep(&'a [u8]),
    /// A piece of a connector's log: a message and the empty line behind it.
    Text {
        /// Which of the files.
        log: usize,
        /// What the log is of.
        kind: Kind,
        /// The piece.
        bytes: &'a [u8],
    },
}

impl FileError {
    /// Whether all before it was read, so that what was found so far stands.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        matches!(self, Self::BreaksOff { .. } | Self::Damaged { .. })
    }
}

impl Kind {
    /// Tells the kind by a file's first bytes; the error says what it seems to be instead.
    fn of(begun: &[u8]) -> Result<Self, &'static str> {
        let hep = |bytes: &[u8]| bytes.starts_with(b"HEP3") || bytes.starts_with(b"EEP3");
        match begun {
            [0xd4, 0xc3, 0xb2, 0xa1, ..]
            | [0xa1, 0xb2, 0xc3, 0xd4, ..]
            | [0x4d, 0x3c, 0xb2, 0xa1, ..]
            | [0xa1, 0xb2, 0x3c, 0x4d, ..]
            | [0x34, 0xcd, 0xb2, 0xa1, ..] => Ok(Self::Pcap),
            _ if begun.starts_with(&SECTION_HEADER) => Ok(Self::PcapNg),
            _ if hep(begun) => Ok(Self::HepPlain),
            [0, 0 | 1, _, _, rest @ ..] if hep(rest) || matches!(rest.first(), Some(1 | 2)) => Ok(Self::HepLengths),
            _ if AMI_STARTS.iter().any(|start| begun.starts_with(start)) => Ok(Self::Ami),
            _ if begun.starts_with(b"Content-Type: ") || begun.starts_with(b"Content-Length: ") => {
                Ok(Self::EventSocket)
            }
            [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] | [0xfd, b'7', b'z', ..] | [b'B', b'Z', b'h', ..] => {
                Err("compressed; unpack it first")
            }
            _ => Err(UNKNOWN),
        }
    }

    fn record(self) -> &'static str {
        match self {
            Self::Pcap | Self::PcapNg | Self::HepLengths | Self::HepPlain => "packet",
            Self::Ami | Self::EventSocket => "event",
        }
    }
}

/// An open file, and the record it stands at.
pub(super) struct Capture {
    path: PathBuf,
    kind: Kind,
    source: Source,
    reader: Reader,
    place: Option<Place>,
    /// When the record it stands at was captured; without a stamp of its own, when the one before it was.
    at_us: i64,
    records: u64,
    /// Its number among the files.
    number: usize,
}

enum Reader {
    Pcap(Pcap),
    PcapNg(PcapNg),
    HepLengths,
    HepPlain,
    Log(Log),
}

/// Where a record stands in its source's data.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Microseconds since 1970; none when the record does not say.
    pub(super) at_us: Option<i64>,
    pub(super) link: u32,
    pub(super) begin: usize,
    pub(super) end: usize,
    /// How much is passed to get to the next one.
    pub(super) length: usize,
}

/// Why there is no next record.
pub(super) enum Broken {
    /// The file ends within it.
    Off,
    /// It can't be; why.
    Damaged(&'static str),
    Io(io::Error),
}

impl Capture {
    /// Opens a file (`-` is standard input) and tells its kind.
    ///
    /// # Errors
    /// When it can't be read or is of no known kind.
    pub(super) fn open(path: &Path, number: usize) -> Result<Self, FileError> {
        if path.as_os_str() == "-" {
            return Self::read(path, number, Box::new(io::stdin()));
        }
        match File::open(path) {
            Ok(file) => Self::read(path, number, Box::new(file)),
            Err(error) => Err(FileError::Unreadable { path: path.to_owned(), error }),
        }
    }

    /// The same from any reader; `path` is what it is called in messages.
    pub(super) fn read(path: &Path, number: usize, reader: Box<dyn Read>) -> Result<Self, FileError> {
        let mut source = Source::new(reader);
        let path = path.to_owned();
        let begun = match source.want(RECOGNISED_LEN) {
            Ok(begun) => begun,
            Err(error) => return Err(FileError::Unreadable { path, error }),
        };
        if begun.is_empty() {
            return Err(FileError::Empty { path });
        }
        let kind = match Kind::of(begun) {
            Ok(kind) => kind,
            Err(what) => return Err(FileError::Unknown { path, what }),
        };
        let reader = match kind {
            Kind::Pcap => Pcap::open(&mut source).map(Reader::Pcap),
            Kind::PcapNg => Ok(Reader::PcapNg(PcapNg::default())),
            Kind::HepLengths => Ok(Reader::HepLengths),
            Kind::HepPlain => Ok(Reader::HepPlain),
            Kind::Ami => Log::open(Pieces::Messages, &mut source).map(Reader::Log),
            Kind::EventSocket => Log::open(Pieces::Frames, &mut source).map(Reader::Log),
        };
        match reader {
            Ok(reader) => Ok(Self { path, kind, source, reader, place: None, at_us: 0, records: 0, number }),
            Err(Broken::Io(error)) => Err(FileError::Unreadable { path, error }),
            Err(_) => Err(FileError::BreaksOff {
                path,
                offset: 0,
                what: "the header of a capture file, before packet",
                number: 1,
            }),
        }
    }

    /// Goes to the next record. False at the end.
    ///
    /// # Errors
    /// When the rest can't be read.
    pub(super) fn advance(&mut self) -> Result<bool, FileError> {
        if let Some(place) = self.place.take() {
            self.source.pass(place.length);
        }
        self.records += 1;
        match self.find() {
            Ok(place) => {
                self.at_us = place.and_then(|place| place.at_us).unwrap_or(self.at_us);
                self.place = place;
                Ok(place.is_some())
            }
            Err(broken) => Err(self.broken(broken)),
        }
    }

    /// When the first record was captured, without going to it; 0 where that can't be told. Only before the first
    /// [`Capture::advance`].
    pub(super) fn peek(&mut self) -> i64 {
        let found = self.find();
        let at_us = found.ok().flatten().and_then(|place| place.at_us);
        at_us.unwrap_or_default()
    }

    /// When the record it stands at was captured, in microseconds since 1970.
    pub(super) fn at_us(&self) -> i64 {
        self.at_us
    }

    /// Bytes read so far.
    pub(super) fn offset(&self) -> u64 {
        self.source.offset()
    }

    /// The record it stands at; none before the first [`Capture::advance`] and after the last.
    pub(super) fn record(&self) -> Option<Record<'_>> {
        let place = self.place?;
        let bytes = self.source.data().get(place.begin..place.end)?;
        Some(match self.kind {
            Kind::Pcap | Kind::PcapNg => Record::Packet { link: place.link, bytes },
            Kind::HepLengths | Kind::HepPlain => Record::Hep(bytes),
            Kind::Ami | Kind::EventSocket => Record::Text { log: self.number, kind: self.kind, bytes },
        })
    }

    /// Where the next record is; finding it again finds the same one.
    fn find(&mut self) -> Result<Option<Place>, Broken> {
        match &mut self.reader {
            Reader::Pcap(pcap) => pcap.advance(&mut self.source),
            Reader::PcapNg(pcapng) => pcapng.advance(&mut self.source),
            Reader::HepLengths => Lengths::advance(&mut self.source),
            Reader::HepPlain => Plain::advance(&mut self.source),
            Reader::Log(log) => log.advance(&mut self.source),
        }
    }

    fn broken(&self, broken: Broken) -> FileError {
        let (path, offset, number) = (self.path.clone(), self.source.offset(), self.records);
        let what = self.kind.record();
        match broken {
            Broken::Off => FileError::BreaksOff { path, offset, what, number },
            Broken::Damaged(why) => FileError::Damaged { path, offset, why, what, number },
            Broken::Io(error) => FileError::Unreadable { path, error },
        }
    }
}

const RECOGNISED_LEN: usize = 64;
const AMI_STARTS: [&[u8]; 3] = [b"Asterisk Call Manager/", b"Event: ", b"Response: "];
const UNKNOWN: &str =
    "of no known kind; pcap, pcapng, HEP dumps and logs of an AMI or event-socket connection can be replayed";
