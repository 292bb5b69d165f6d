//! Logs of a manager connection: messages of lines, an empty line behind each.

use super::file::{Broken, Place};
use super::source::Source;

/// An AMI log. Time stands in it where the PBX stamps its events (`timestampevents = yes` in manager.conf).
pub(super) struct Log {
    /// The latest stamp, at first the first one in the file.
    at_us: Option<i64>,
}

impl Log {
    pub(super) fn open(source: &mut Source) -> Result<Self, Broken> {
        Ok(Self { at_us: stamp(source.want(LOOKED_AT)?) })
    }

    pub(super) fn advance(&mut self, source: &mut Source) -> Result<Option<Place>, Broken> {
        let mut searched = 0;
        loop {
            let data = source.data();
            if let Some(length) = message_len(data, searched) {
                let bytes = data.get(..length).unwrap_or_default();
                let at_us = stamp(bytes).or(self.at_us);
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
const MESSAGE_LEN_MAX: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

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
