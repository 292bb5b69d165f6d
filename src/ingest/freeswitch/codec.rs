//! The event socket's wire, without a socket: push bytes, take frames. A frame is a block of `Name: value` lines ended by
//! an empty one, and as many bytes more as its `Content-Length` says.
//!
//! Nothing a peer sends makes it keep more than the bounds below. A body that is too long is let pass by, counted, so
//! that the answers after it still meet their commands.

use super::event::Event;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// `auth/request`: the other side wants to know who we are.
    AuthRequest,
    /// `command/reply`: its `Reply-Text`.
    Reply(String),
    /// `api/response`: its body.
    Answer(String),
    /// An event, in either format.
    Event(Event),
    /// `text/disconnect-notice`: the connection ends.
    Disconnect,
    /// `text/rude-rejection`: the access list does not let us in.
    Rejected,
    /// `log/data`: a line of the log, which nobody asked for.
    Log,
    /// A frame that was let pass by; the label says why. `answer` = it was an `api/response`.
    Skipped {
        /// `too_long`, `content_type`, `event`.
        why: &'static str,
        /// Whether a command waits for it.
        answer: bool,
    },
}

/// Why a stream can't be followed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The lines of a frame do not end.
    #[error("sends no event socket frames: {HEADERS_MAX} bytes without an empty line")]
    Headers,
    /// A `Content-Length` that is no number, or beyond anything a PBX has to say.
    #[error("announces a frame of an impossible length")]
    Length,
}

impl CodecError {
    /// A metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Headers => "headers",
            Self::Length => "length",
        }
    }
}

/// Cuts the stream into frames. Cancelling whoever reads between two calls loses nothing.
#[derive(Debug, Default)]
pub struct Codec {
    buffer: Vec<u8>,
    /// Bytes at the front of `buffer` that are done with.
    used: usize,
    /// How far the search for the end of the headers has come, from `used`.
    searched: usize,
    /// Headers that were read, whose body is not there yet.
    head: Option<Head>,
    /// Bytes still to come of a body that is let pass by.
    skip: usize,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    kind: Content,
    length: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Answer,
    Plain,
    Json,
    Disconnect,
    Rejected,
    Log,
    Other,
}

impl Codec {
    /// Takes what was read off the socket. Take frames until there is none before pushing more.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.used > 0 {
            self.buffer.drain(..self.used);
            self.used = 0;
            if self.buffer.capacity() > KEPT_MAX {
                self.buffer.shrink_to(KEPT_MAX);
            }
        }
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        self.buffer.extend_from_slice(bytes.get(skipped..).unwrap_or_default());
    }

    /// The next whole frame; none = more bytes are needed.
    ///
    /// # Errors
    /// When the stream can't be followed any more; the codec is of no use then.
    pub fn take(&mut self) -> Result<Option<Frame>, CodecError> {
        loop {
            let head = match self.head.take() {
                Some(head) => head,
                None => match self.read_head()? {
                    None => return Ok(None),
                    Some(Begun::Whole(frame)) => return Ok(Some(frame)),
                    Some(Begun::Nothing) => continue,
                    Some(Begun::Body(head)) => head,
                },
            };
            if head.length > head.kind.length_max() {
                self.skip_body(head.length);
                return Ok(Some(Frame::Skipped { why: "too_long", answer: head.kind == Content::Answer }));
            }
            let Some(body) = self.buffer.get(self.used..self.used + head.length) else {
                self.head = Some(head);
                return Ok(None);
            };
            let frame = read_body(head.kind, body);
            self.used += head.length;
            return Ok(Some(frame));
        }
    }

    fn read_head(&mut self) -> Result<Option<Begun>, CodecError> {
        let rest = self.buffer.get(self.used..).unwrap_or_default();
        let Some((length, after)) = end_of_headers(rest, self.searched) else {
            // The end may lie across the next read.
            self.searched = rest.len().saturating_sub(3);
            return if rest.len() > HEADERS_MAX { Err(CodecError::Headers) } else { Ok(None) };
        };
        let lines = rest.get(..length).unwrap_or_default();
        let begun = if length > HEADERS_MAX { Err(CodecError::Headers) } else { read_headers(lines) };
        self.used += after;
        self.searched = 0;
        begun.map(Some)
    }

    fn skip_body(&mut self, length: usize) {
        let here = length.min(self.buffer.len() - self.used);
        self.used += here;
        self.skip = length - here;
    }
}

impl Content {
    fn length_max(self) -> usize {
        match self {
            Self::Answer => ANSWER_MAX,
            Self::Plain | Self::Json => EVENT_MAX,
            Self::Disconnect | Self::Rejected | Self::Log | Self::Other => TEXT_MAX,
        }
    }
}

enum Begun {
    Whole(Frame),
    Body(Head),
    /// Only empty lines.
    Nothing,
}

/// Where the headers in `bytes` end, and where what follows them begins.
fn end_of_headers(bytes: &[u8], from: usize) -> Option<(usize, usize)> {
    let mut at = from;
    loop {
        at += memchr::memchr(b'\n', bytes.get(at..)?)?;
        match bytes.get(at + 1..)? {
            [b'\n', ..] => return Some((at, at + 2)),
            [b'\r', b'\n', ..] => return Some((at, at + 3)),
            _ => at += 1,
        }
    }
}

fn read_headers(lines: &[u8]) -> Result<Begun, CodecError> {
    let text = String::from_utf8_lossy(lines);
    let (mut kind, mut length, mut reply) = (None, 0_usize, None);
    for line in text.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        if name.eq_ignore_ascii_case("Content-Type") {
            kind = Some(value.to_owned());
        } else if name.eq_ignore_ascii_case("Content-Length") {
            length = value.parse().ok().filter(|&length| length <= LENGTH_MAX).ok_or(CodecError::Length)?;
        } else if name.eq_ignore_ascii_case("Reply-Text") {
            reply = Some(value.to_owned());
        }
    }
    if text.trim().is_empty() {
        return Ok(Begun::Nothing);
    }
    let kind = kind.unwrap_or_default();
    let content = match kind.as_str() {
        "api/response" => Content::Answer,
        "text/event-plain" => Content::Plain,
        "text/event-json" => Content::Json,
        "text/disconnect-notice" => Content::Disconnect,
        "text/rude-rejection" => Content::Rejected,
        "log/data" => Content::Log,
        "auth/request" if length == 0 => return Ok(Begun::Whole(Frame::AuthRequest)),
        "command/reply" if length == 0 => return Ok(Begun::Whole(Frame::Reply(reply.unwrap_or_default()))),
        _ => Content::Other,
    };
    Ok(Begun::Body(Head { kind: content, length }))
}

fn read_body(kind: Content, body: &[u8]) -> Frame {
    let event = |event: Option<Event>| event.map_or(Frame::Skipped { why: "event", answer: false }, Frame::Event);
    match kind {
        Content::Answer => Frame::Answer(String::from_utf8_lossy(body).into_owned()),
        Content::Plain => event(Event::from_plain(body)),
        Content::Json => event(Event::from_json(body)),
        Content::Disconnect => Frame::Disconnect,
        Content::Rejected => Frame::Rejected,
        Content::Log => Frame::Log,
        Content::Other => Frame::Skipped { why: "content_type", answer: false },
    }
}

/// Length of the frame that `bytes` begin with, body included; none while its headers are not all there.
///
/// # Errors
/// As [`Codec::take`].
pub fn frame_length(bytes: &[u8]) -> Result<Option<usize>, CodecError> {
    let Some((length, after)) = end_of_headers(bytes, 0) else {
        return if bytes.len() > HEADERS_MAX { Err(CodecError::Headers) } else { Ok(None) };
    };
    Ok(Some(match read_headers(bytes.get(..length).unwrap_or_default())? {
        Begun::Body(head) => after + head.length,
        Begun::Whole(_) | Begun::Nothing => after,
    }))
}

/// A command as it goes over the wire.
///
/// # Errors
/// When it holds a line end or a NUL, which would make it two commands, or is too long.
pub fn command(text: &str) -> Result<Vec<u8>, BadCommand> {
    if text.is_empty() || text.len() > COMMAND_MAX || text.contains(['\r', '\n', '\0']) {
        return Err(BadCommand);
    }
    Ok(format!("{text}\n\n").into_bytes())
}

/// One argument of a command, in quotes where it needs them.
///
/// # Errors
/// When no quoting makes it one argument.
pub fn argument(text: &str) -> Result<String, BadCommand> {
    if text.is_empty() || text.contains(['\'', '"', '\\', '`', '|', ';', '\r', '\n', '\0']) || text.contains("${") {
        return Err(BadCommand);
    }
    let plain = !text.contains(char::is_whitespace) && !text.starts_with('^');
    Ok(if plain { text.to_owned() } else { format!("'{text}'") })
}

/// A command that can't be sent as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name with a line end, a quote or another sign that the event socket can't carry")]
pub struct BadCommand;

/// Lines of one frame, all together.
const HEADERS_MAX: usize = 64 * 1024;
/// An event with every variable of a long-lived channel has some 30 kB.
const EVENT_MAX: usize = 1024 * 1024;
/// `show channels as json` takes 1 kB a channel.
const ANSWER_MAX: usize = 16 * 1024 * 1024;
const TEXT_MAX: usize = 64 * 1024;
/// What is not even let pass by.
const LENGTH_MAX: usize = 256 * 1024 * 1024;
const COMMAND_MAX: usize = 4_096;
/// Memory that is kept for the next frames.
const KEPT_MAX: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(bytes: &[u8], step: usize) -> Vec<Frame> {
        let (mut codec, mut out) = (Codec::default(), Vec::new());
        for piece in bytes.chunks(step) {
            codec.push(piece);
            while let Some(frame) = codec.take().unwrap() {
                out.push(frame);
            }
        }
        out
    }

    const SAMPLE: &[u8] = b"Content-Type: auth/request\n\nContent-Type: command/reply\nReply-Text: +OK accepted\n\n\
        Content-Type: api/response\nContent-Length: 4\n\n+OK\nContent-Length: 31\nContent-Type: text/event-plain\n\n\
        Event-Name: CUSTOM\na: b%20c\n\n\n\nContent-Length: 20\nContent-Type: text/event-json\n\n{\"Event-Name\":\"ABC\"}\
        Content-Type: text/disconnect-notice\nContent-Length: 3\n\nBye";

    #[test]
    fn frames_are_the_same_whole_and_byte_by_byte() {
        let whole = frames(SAMPLE, SAMPLE.len());
        assert_eq!(whole.len(), 6);
        assert_eq!(whole[2], Frame::Answer("+OK\n".into()));
        assert!(matches!(&whole[3], Frame::Event(event) if event.get("a") == "b c"));
        for step in [1, 2, 3, 7, 50] {
            assert_eq!(frames(SAMPLE, step), whole, "in pieces of {step}");
        }
    }

    #[test]
    fn a_body_that_is_too_long_passes_by_and_what_follows_is_read() {
        let mut bytes = b"Content-Type: text/event-json\nContent-Length: 3000000\n\n".to_vec();
        bytes.resize(bytes.len() + 3_000_000, b'x');
        bytes.extend_from_slice(b"Content-Type: command/reply\nReply-Text: +OK\n\n");
        for step in [1_000, 65_536, bytes.len()] {
            let seen = frames(&bytes, step);
            let skipped = Frame::Skipped { why: "too_long", answer: false };
            assert_eq!(seen, [skipped, Frame::Reply("+OK".into())], "in pieces of {step}");
        }
    }

    #[test]
    fn an_endless_line_and_an_impossible_length_end_it() {
        let mut codec = Codec::default();
        codec.push(&vec![b'a'; HEADERS_MAX + 1]);
        assert_eq!(codec.take(), Err(CodecError::Headers));
        for length in ["-1", "many", "99999999999999999999999", "300000000"] {
            let mut codec = Codec::default();
            codec.push(format!("Content-Length: {length}\n\n").as_bytes());
            assert_eq!(codec.take(), Err(CodecError::Length), "{length}");
        }
    }

    #[test]
    fn a_command_with_a_line_end_is_refused() {
        assert_eq!(command("api status").unwrap(), b"api status\n\n");
        for bad in ["api status\nexit", "api\rx", "", "a\0b"] {
            assert_eq!(command(bad), Err(BadCommand), "{bad:?}");
        }
        assert_eq!(argument("On Break").unwrap(), "'On Break'");
        assert_eq!(argument("201@default").unwrap(), "201@default");
        assert!(argument("x' y").is_err());
    }
}
