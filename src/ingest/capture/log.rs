//! Logs of a connector's connection. A manager connection's are messages of lines, an empty line behind each; an event
//! socket's are frames with a length.

use super::file::{Broken, Place};
use super::source::Source;
use crate::ingest::freeswitch::codec::frame_length;

/// What is cut out of a log as one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pieces {
    /// AMI messages. Time stands in them where the PBX stamps its events (`timestampevents = yes` in manager.conf).
    Messages,
    /// Event socket frames. Every event has its time.
    Frames,
}

/// A log of either kind.
pub(super) struct Log {
    pieces: Pieces,
    /// The latest stamp, at first the first one in the file.
    at_us: Option<i64>,
}

impl Log {
    pub(super) fn open(pieces: Pieces, source: &mut Source) -> Result<Self, Broken> {
        Ok(Self { pieces, at_us: pieces.stamp(source.want(LOOKED_AT)?) })
    }

    pub(super) fn advance(&mut self, source: &mut Source) -> Result<Option<Place>, Broken> {
        let mut searched = 0;
        loop {
            let data = source.data();
            if let Some(length) = self.pieces.length(data, searched)?.filter(|length| *length <= data.len()) {
                let bytes = data.get(..length).unwrap_or_default();
                let at_us = self.pieces.stamp(bytes).or(self.at_us);
                self.at_us = at_us;
                return Ok(Some(Place { at_us, link: 0, begin: 0, end: length, length }));
            }
            if data.len() > MESSAGE_LEN_MAX {
                return Err(Broken::Damaged("a message without end"));
            }
            searched = data.len().saturating_sub(4);
            if !source.fill()? {
                let rest = source.data();
                return if rest.trim_ascii().is_empty() { Ok(None) } else { Err(Broken::Off) };
            }
        }
    }
}

impl Pieces {
    /// Length of the first piece, as far as `data` shows it; `from` = so much was searched in vain.
    fn length(self, data: &[u8], from: usize) -> Result<Option<usize>, Broken> {
        match self {
            Self::Messages => Ok(message_len(data, from)),
            Self::Frames => frame_length(data).map_err(|_| Broken::Damaged("no event socket frame")),
        }
    }

    fn stamp(self, piece: &[u8]) -> Option<i64> {
        match self {
            Self::Messages => stamp(piece),
            Self::Frames => event_stamp(piece),
        }
    }
}

/// `Event-Date-Timestamp`, microseconds since 1970, in either format.
fn event_stamp(frame: &[u8]) -> Option<i64> {
    let at = memchr::memmem::find(frame, EVENT_STAMP)? + EVENT_STAMP.len();
    let rest = frame.get(at..)?;
    let begin = rest.iter().take(4).position(u8::is_ascii_digit)?;
    let digits = rest.get(begin..)?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(digits.get(..end)?).ok()?.parse().ok()
}

/// Length of the first message with the empty line behind it.
fn message_len(data: &[u8], from: usize) -> Option<usize> {
    let searched = data.get(from..)?;
    let ends = memchr::memchr_iter(b'\n', searched).find_map(|at| match searched.get(at + 1..)? {
        [b'\r', b'\n', ..] => Some(at + 3),
        [b'\n', ..] => Some(at + 2),
        _ => None,
    })?;
    Some(from + ends)
}

/// The first `Timestamp:` line, seconds since 1970 with a fraction.
fn stamp(message: &[u8]) -> Option<i64> {
    let at = memchr::memmem::find(message, b"\nTimestamp: ")?;
    let line = message.get(at + 12..)?;
    let line = line.get(..line.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.')?)?;
    let (seconds, fraction) = std::str::from_utf8(line).ok()?.split_once('.')?;
    let micros = format!("{fraction:0<6.6}").parse::<i64>().ok()?;
    seconds.parse::<i64>().ok()?.checked_mul(1_000_000)?.checked_add(micros)
}

/// Where the first stamp is looked for.
const LOOKED_AT: usize = 64 * 1024;
const EVENT_STAMP: &[u8] = b"Event-Date-Timestamp";
const MESSAGE_LEN_MAX: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_socket_stamps_its_events_in_either_format() {
        let plain = b"Event-Name: A\nEvent-Date-Timestamp: 1795288841693610\n\n";
        assert_eq!(event_stamp(plain), Some(1_795_288_841_693_610));
        let json = br#"{"Event-Date-Timestamp":"1795288841693610","variable_Event-Date-Timestamp":"1"}"#;
        assert_eq!(event_stamp(json), Some(1_795_288_841_693_610));
        assert_eq!(event_stamp(b"Content-Type: auth/request\n\n"), None);
    }

    #[test]
    fn messages_end_at_an_empty_line_of_either_kind_and_carry_their_time() {
        assert_eq!(message_len(b"Event: A\r\nTimestamp: 12.5\r\n\r\nEvent: B\r\n", 0), Some(29));
        assert_eq!(message_len(b"Event: A\n\nEvent", 0), Some(10));
        assert_eq!(message_len(b"Event: A\r\n", 0), None);
        assert_eq!(stamp(b"Event: A\r\nTimestamp: 1795285354.761689\r\n"), Some(1_795_285_354_761_689));
        assert_eq!(stamp(b"Event: A\r\nTimestamp: 12.5\r\n"), Some(12_500_000));
        assert_eq!(stamp(b"Event: A\r\nTimestamp: x\r\n"), None);
    }
}
