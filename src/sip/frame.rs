//! Messages out of a byte stream: by Content-Length, with keepalives between them (RFC 3261 §18.3, RFC 5626 §3.5.1).

use bytes::{Buf as _, Bytes, BytesMut};

use super::fault::{HeaderError, ScanError};
use super::scan::{MESSAGE_LEN_MAX, scan};

/// Cuts a stream into messages. Push what was read, then take frames until there is none; an error closes the stream.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: BytesMut,
    progress: Progress,
    rejected: Option<Bytes>,
}

/// What a stream holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// One message, for [`scan`].
    Message(Bytes),
    /// A keepalive that asks for [`PONG`].
    Ping,
}

/// Why a stream can't be followed any further and must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum FrameError {
    /// A header section, or it and its body, are too long.
    #[error("message too long")]
    MessageTooLong,
    /// The header section is none of SIP.
    #[error("{0}")]
    Scan(ScanError),
    /// Content-Length is missing or malformed, so the next message can't be found.
    #[error("{0}")]
    ContentLength(HeaderError),
}

impl FrameError {
    /// A metric label: a few stable words.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::MessageTooLong => "stream_message_too_long",
            Self::Scan(error) => error.label(),
            Self::ContentLength(_) => "stream_content_length",
        }
    }
}

impl Framer {
    /// A framer at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes that were read. The caller takes all frames before it reads on, so what is held stays below the
    /// longest message and one read.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.progress != Progress::Broken {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Bytes held that make no whole frame yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// After [`FrameError::ContentLength`]: the header section, so that its sender can be told (400) before the
    /// stream is closed.
    #[must_use]
    pub fn rejected(&self) -> Option<&Bytes> {
        self.rejected.as_ref()
    }

    fn advance(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.progress == Progress::Between {
            match self.skip_breaks() {
                Between::Ping => return Ok(Some(Frame::Ping)),
                Between::Wait => return Ok(None),
                Between::Message => self.progress = Progress::Head { line_at: 0, seen: 0 },
            }
        }
        if let Progress::Head { line_at, seen } = self.progress {
            match self.find_head_end(line_at, seen)? {
                Some(head_len) => self.progress = Progress::Body { total: self.total(head_len)? },
                None => return Ok(None),
            }
        }
        match self.progress {
            Progress::Body { total } if self.buffer.len() >= total => {
                self.progress = Progress::Between;
                Ok(Some(Frame::Message(self.buffer.split_to(total).freeze())))
            }
            _ => Ok(None),
        }
    }

    /// Drops line breaks between messages; two in a row are a ping. A break at the end of what was read may be half
    /// of one, so it waits.
    fn skip_breaks(&mut self) -> Between {
        loop {
            match &*self.buffer {
                [b'\r', b'\n', b'\r', b'\n', ..] => {
                    self.buffer.advance(4);
                    return Between::Ping;
                }
                [] | [b'\r'] | [b'\r', b'\n'] | [b'\r', b'\n', b'\r'] => return Between::Wait,
                [b'\r', b'\n', ..] => self.buffer.advance(2),
                [b'\r' | b'\n', ..] => self.buffer.advance(1),
                _ => return Between::Message,
            }
        }
    }

    /// Length of the header section with its empty line, once it is all there. No byte is looked at twice.
    fn find_head_end(&mut self, mut line_at: usize, mut seen: usize) -> Result<Option<usize>, FrameError> {
        while let Some(found) = memchr::memchr(b'\n', self.buffer.get(seen..).unwrap_or_default()) {
            let break_at = seen + found;
            let line = self.buffer.get(line_at..break_at).unwrap_or_default();
            if matches!(line, [] | [b'\r']) {
                return Ok(Some(break_at + 1));
            }
            (line_at, seen) = (break_at + 1, break_at + 1);
            if seen > HEAD_LEN_MAX {
                return Err(FrameError::MessageTooLong);
            }
        }
        if self.buffer.len() > HEAD_LEN_MAX {
            return Err(FrameError::MessageTooLong);
        }
        self.progress = Progress::Head { line_at, seen: self.buffer.len() };
        Ok(None)
    }

    /// Length of the whole message whose header section is the first `head_len` bytes held.
    fn total(&mut self, head_len: usize) -> Result<usize, FrameError> {
        if head_len > HEAD_LEN_MAX {
            return Err(FrameError::MessageTooLong);
        }
        let head = self.buffer.get(..head_len).unwrap_or_default();
        let length = scan(head).map_err(FrameError::Scan)?.required_content_length();
        match length {
            Ok(length) if length <= MESSAGE_LEN_MAX - head_len => Ok(head_len + length),
            Ok(_) => Err(FrameError::MessageTooLong),
            Err(error) => {
                self.rejected = Some(Bytes::copy_from_slice(head));
                Err(FrameError::ContentLength(error))
            }
        }
    }
}

impl Iterator for Framer {
    type Item = Result<Frame, FrameError>;

    /// The next frame, none when more must be read. After an error there is never another.
    fn next(&mut self) -> Option<Self::Item> {
        if self.progress == Progress::Broken {
            return None;
        }
        let frame = self.advance();
        if frame.is_err() {
            self.progress = Progress::Broken;
            self.buffer = BytesMut::new();
        }
        frame.transpose()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Progress {
    /// Before a message.
    #[default]
    Between,
    /// Inside a header section: where its current line starts, and how far it was searched.
    Head { line_at: usize, seen: usize },
    /// A message of this many bytes.
    Body { total: usize },
    /// After an error.
    Broken,
}

enum Between {
    Ping,
    Wait,
    Message,
}

/// What keeps a silent stream alive (RFC 5626 §4.4.1).
pub const PING: &[u8] = b"\r\n\r\n";
/// The answer to it, and to [`Frame::Ping`].
pub const PONG: &[u8] = b"\r\n";
/// Longest header section taken from a stream, in bytes.
pub const HEAD_LEN_MAX: usize = 32_768;

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(chunks: &[&[u8]]) -> Vec<Result<Frame, FrameError>> {
        let mut framer = Framer::new();
        let mut out = Vec::new();
        for chunk in chunks {
            framer.push(chunk);
            out.extend(framer.by_ref());
        }
        out
    }

    fn message(text: &str) -> Frame {
        Frame::Message(Bytes::copy_from_slice(text.as_bytes()))
    }

    const FIRST: &str = "BYE sip:a@b SIP/2.0\r\nl: 3\r\n\r\na\r\n";
    const SECOND: &str = "ACK sip:a@b SIP/2.0\nContent-Length: 0\n\n";

    #[test]
    fn messages_and_pings_come_out_however_the_stream_is_cut() {
        let stream = format!("\r\n\r\n{FIRST}\r\n\r\n\r\n{SECOND}\r\n{FIRST}");
        let whole = frames(&[stream.as_bytes()]);
        let expected = [Frame::Ping, message(FIRST), Frame::Ping, message(SECOND), message(FIRST)];
        assert_eq!(whole, expected.map(Ok));
        for cut in 0..stream.len() {
            let (a, b) = stream.as_bytes().split_at(cut);
            assert_eq!(frames(&[a, b]), whole, "cut at {cut}");
        }
        let bytes: Vec<_> = stream.as_bytes().chunks(1).collect();
        assert_eq!(frames(&bytes), whole);
    }

    #[test]
    fn a_stream_whose_next_message_cannot_be_found_is_broken_for_good() {
        let mut framer = Framer::new();
        framer.push(b"BYE sip:a@b SIP/2.0\r\nCall-ID: x\r\n\r\n");
        let error = framer.next().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "Missing Content-Length");
        assert!(framer.rejected().unwrap().starts_with(b"BYE"));
        framer.push(FIRST.as_bytes());
        assert_eq!((framer.next(), framer.pending()), (None, 0));
        for (bad, expected) in [
            ("l: x", "Bad Content-Length Header"),
            ("l: 1\r\nl: 2", "Multiple Content-Length Headers"),
            ("l: 65535", "message too long"),
            ("l: 99999999999999999999999999", "Bad Content-Length Header"),
        ] {
            let text = format!("BYE sip:a@b SIP/2.0\r\n{bad}\r\n\r\n");
            assert_eq!(frames(&[text.as_bytes()])[0].as_ref().unwrap_err().to_string(), expected, "{bad}");
        }
        assert_eq!(frames(&[b"GET / HTTP/1.1\r\n\r\n"]), [Err(FrameError::Scan(ScanError::NotSip))]);
    }

    #[test]
    fn a_header_section_without_end_is_not_collected_for_ever() {
        let mut framer = Framer::new();
        let mut pushed = 0;
        let error = loop {
            framer.push(&[b'a'; 1_000]);
            pushed += 1_000;
            if let Some(frame) = framer.next() {
                break frame.unwrap_err();
            }
            assert!(pushed < 2 * HEAD_LEN_MAX);
        };
        assert_eq!(error, FrameError::MessageTooLong);
    }
}
