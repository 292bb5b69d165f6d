//! The manager interface's wire, without sockets: bytes go in as they come, messages come out. Every length is bounded,
//! what is too much is left out and counted, and nothing is lost by reading in other portions.

use std::collections::VecDeque;

use super::message::Message;

/// Cuts a stream of bytes into messages.
#[derive(Debug, Default)]
pub struct Codec {
    /// The line that goes on, as far as it is here.
    line: Vec<u8>,
    /// Bytes of that line that were left out, because it is too long.
    cut: usize,
    message: Message,
    /// The message that goes on is a command's output as old versions send it: lines of any kind.
    output: bool,
    /// An empty line was the last one of that output.
    paused: bool,
    /// Some of the message that goes on was left out already.
    truncated: bool,
    ready: VecDeque<Frame>,
    ready_bytes: usize,
    faults: Faults,
}

/// What came out of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The greeting of a new connection: `Asterisk Call Manager/` and a version.
    Banner(String),
    /// A message.
    Message(Message),
}

/// What was left out since the codec was made, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Lines longer than `LINE_MAX`.
    pub long_lines: u64,
    /// Fields past the limits of their message.
    pub large_messages: u64,
    /// Lines that are no `Key: value`.
    pub no_fields: u64,
    /// Messages that nobody took in time.
    pub behind: u64,
}

impl Codec {
    /// Takes in what was read.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at(end);
            bytes = rest.get(1..).unwrap_or_default();
            if self.line.is_empty() && self.cut == 0 && line.len() <= LINE_MAX {
                self.on_line(line);
                continue;
            }
            self.keep(line);
            let line = std::mem::take(&mut self.line);
            if std::mem::take(&mut self.cut) > 0 {
                self.faults.long_lines += 1;
            } else {
                self.on_line(&line);
            }
            self.line = line;
            self.line.clear();
        }
        self.keep(bytes);
    }

    /// The next message that is complete.
    pub fn next_frame(&mut self) -> Option<Frame> {
        let frame = self.ready.pop_front()?;
        self.ready_bytes = self.ready_bytes.saturating_sub(size(&frame));
        Some(frame)
    }

    /// What was left out so far.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.faults
    }

    /// Bytes of the line that goes on; one that does not end at all is no manager interface.
    #[must_use]
    pub fn line_length(&self) -> usize {
        self.line.len() + self.cut
    }

    /// Bytes that are kept.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.line.len() + self.message.size() + self.ready_bytes
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = if self.cut > 0 { 0 } else { LINE_MAX.saturating_sub(self.line.len()) };
        let (kept, rest) = bytes.split_at(bytes.len().min(room));
        self.line.extend_from_slice(kept);
        self.cut += rest.len();
        if self.cut > 0 {
            // It is left out whole, so there is nothing to keep.
            self.cut += self.line.len();
            self.line.clear();
        }
    }

    fn on_line(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            if self.output {
                self.paused = true;
            } else {
                self.finish();
            }
            return;
        }
        if self.output {
            self.on_output(line);
            return;
        }
        if self.message.is_empty() && line.starts_with(BANNER) {
            self.ready(Frame::Banner(String::from_utf8_lossy(line).into_owned()));
            return;
        }
        self.on_field(line);
    }

    /// A line of a command's output ends with its mark. A message that starts after an empty line shows that the mark
    /// was lost.
    fn on_output(&mut self, line: &[u8]) {
        let starts = self.paused && (line.starts_with(b"Event: ") || line.starts_with(b"Response: "));
        self.paused = false;
        if line.ends_with(END_COMMAND) {
            self.output = false;
        } else if starts {
            self.finish();
            self.on_field(line);
        }
    }

    fn on_field(&mut self, line: &[u8]) {
        let Some(colon) = memchr::memchr(b':', line) else {
            self.faults.no_fields += 1;
            return;
        };
        let (key, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        if self.message.field_count() >= FIELDS_MAX || self.message.size() + line.len() > MESSAGE_MAX {
            self.faults.large_messages += u64::from(!std::mem::replace(&mut self.truncated, true));
            return;
        }
        self.output = self.message.is_empty() && key == b"Response" && value == b"Follows";
        self.message.push(key, value);
    }

    fn finish(&mut self) {
        (self.output, self.paused, self.truncated) = (false, false, false);
        if !self.message.is_empty() {
            let message = std::mem::take(&mut self.message);
            self.ready(Frame::Message(message));
        }
    }

    fn ready(&mut self, frame: Frame) {
        let size = size(&frame);
        if self.ready_bytes + size > READY_MAX {
            self.faults.behind += 1;
            return;
        }
        self.ready_bytes += size;
        self.ready.push_back(frame);
    }
}

/// What a frame counts as while it waits, its own overhead included.
fn size(frame: &Frame) -> usize {
    FRAME_OVERHEAD
        + match frame {
            Frame::Banner(text) => text.len(),
            Frame::Message(message) => message.size() + message.field_count() * FIELD_OVERHEAD,
        }
}

const BANNER: &[u8] = b"Asterisk Call Manager";
const END_COMMAND: &[u8] = b"--END COMMAND--";
/// Longest line that is kept. Asterisk's own buffers end at 8 KiB.
const LINE_MAX: usize = 16 * 1024;
/// Most fields of a message; an event with two channels has about fifty.
const FIELDS_MAX: usize = 512;
/// Most bytes of a message.
const MESSAGE_MAX: usize = 128 * 1024;
/// Most bytes of messages nobody has taken yet.
const READY_MAX: usize = 4 * 1024 * 1024;
const FRAME_OVERHEAD: usize = 64;
const FIELD_OVERHEAD: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(codec: &mut Codec) -> Vec<Frame> {
        std::iter::from_fn(|| codec.next_frame()).collect()
    }

    fn read(text: &[u8]) -> (Vec<Frame>, Faults) {
        let mut codec = Codec::default();
        codec.push(text);
        (frames(&mut codec), codec.faults())
    }

    fn message<const N: usize>(fields: [(&str, &str); N]) -> Frame {
        Frame::Message(Message::from(fields))
    }

    #[test]
    fn a_banner_is_followed_by_messages_without_an_empty_line() {
        let (frames, faults) =
            read(b"Asterisk Call Manager/11.0.0\r\nResponse: Success\r\nActionID: 1\r\n\r\nEvent: A\r\n\r\n");
        assert_eq!(
            frames,
            [
                Frame::Banner("Asterisk Call Manager/11.0.0".into()),
                message([("Response", "Success"), ("ActionID", "1")]),
                message([("Event", "A")]),
            ]
        );
        assert_eq!(faults, Faults::default());
    }

    #[test]
    fn bare_line_feeds_extra_empty_lines_and_values_with_colons_are_fine() {
        let (frames, _) = read(b"\n\nEvent: A\nURI: sip:101@192.0.2.1:5060\nEmpty:\nTight:x\n\n\n\r\nEvent: B\n\n");
        let first = message([("Event", "A"), ("URI", "sip:101@192.0.2.1:5060"), ("Empty", ""), ("Tight", "x")]);
        assert_eq!(frames, [first, message([("Event", "B")])]);
    }

    #[test]
    fn bytes_that_are_not_utf8_spoil_their_own_value_only() {
        let (frames, _) = read(b"Event: A\r\nCallerIDName: J\xfcrgen\r\nCallerIDNum: 101\r\n\r\n");
        let expected = message([("Event", "A"), ("CallerIDName", "J\u{fffd}rgen"), ("CallerIDNum", "101")]);
        assert_eq!(frames, [expected]);
    }

    #[test]
    fn any_cut_gives_the_same_messages() {
        let text = b"Asterisk Call Manager/5.0\r\nEvent: A\r\nX: y\r\n\r\nResponse: Follows\r\nPrivilege: Command\r\n\
            some output\r\n\r\nmore: of it\r\n--END COMMAND--\r\n\r\nEvent: B\r\n\r\n";
        let (whole, _) = read(text);
        for cut in 0..text.len() {
            let mut codec = Codec::default();
            codec.push(&text[..cut]);
            let mut parts = frames(&mut codec);
            codec.push(&text[cut..]);
            parts.extend(frames(&mut codec));
            assert_eq!(parts, whole, "cut at {cut}");
        }
        let mut codec = Codec::default();
        for byte in text {
            codec.push(&[*byte]);
        }
        assert_eq!(frames(&mut codec), whole);
    }

    #[test]
    fn a_commands_output_derails_nothing_with_or_without_its_end_mark() {
        let old =
            b"Response: Follows\r\nActionID: 7\r\nNot a field\n\nEvents: 3\n--END COMMAND--\r\n\r\nEvent: B\r\n\r\n";
        assert_eq!(read(old).0, [message([("Response", "Follows")]), message([("Event", "B")])]);
        let torn = b"Response: Follows\r\nNot a field\n\r\n\r\nEvent: B\r\n\r\nEvent: C\r\n\r\n";
        assert_eq!(read(torn).0.last(), Some(&message([("Event", "C")])));
        let new = b"Response: Success\r\nOutput: one\r\nOutput: two: three\r\n\r\nEvent: B\r\n\r\n";
        assert_eq!(read(new).0.len(), 2);
    }

    #[test]
    fn a_line_too_long_is_left_out_and_its_message_kept() {
        let mut text = b"Event: A\r\nAppData: ".to_vec();
        text.resize(text.len() + LINE_MAX + 1, b'x');
        text.extend_from_slice(b"\r\nUniqueid: 1.1\r\n\r\n");
        let (frames, faults) = read(&text);
        assert_eq!(frames, [message([("Event", "A"), ("Uniqueid", "1.1")])]);
        assert_eq!(faults.long_lines, 1);
    }

    #[test]
    fn a_line_without_end_keeps_no_more_than_a_line() {
        let mut codec = Codec::default();
        for _ in 0..100 {
            codec.push(&[b'x'; 4096]);
            assert!(codec.buffered() <= LINE_MAX);
        }
        assert_eq!(codec.line_length(), 409_600);
    }

    #[test]
    fn a_message_without_end_keeps_no_more_than_a_message() {
        let mut codec = Codec::default();
        for _ in 0..100_000 {
            codec.push(b"Key: value\r\n");
        }
        codec.push(b"\r\nEvent: B\r\n\r\n");
        let frames = frames(&mut codec);
        assert!(matches!(&frames[0], Frame::Message(message) if message.field_count() == FIELDS_MAX));
        assert_eq!(frames[1], message([("Event", "B")]));
        assert_eq!(codec.faults().large_messages, 1);
    }

    #[test]
    fn messages_nobody_takes_are_dropped_and_counted() {
        let mut codec = Codec::default();
        for _ in 0..200_000 {
            codec.push(b"Event: A\r\n\r\n");
        }
        assert!(codec.buffered() <= READY_MAX);
        assert!(codec.faults().behind > 0);
        frames(&mut codec);
        assert_eq!(codec.buffered(), 0);
    }
}
