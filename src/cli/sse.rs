//! Server-sent events, as a client reads them.

use anyhow::{Context as _, bail};

/// One event of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// `event:`; empty = `message`.
    pub kind: String,
    /// `data:` lines, joined.
    pub data: String,
    /// `id:`
    pub id: String,
}

/// A stream being read.
pub struct EventStream {
    response: reqwest::Response,
    parser: Parser,
    ready: std::collections::VecDeque<Event>,
}

impl EventStream {
    /// Reads the body of `response` as events.
    pub fn new(response: reqwest::Response) -> Self {
        Self { response, parser: Parser::default(), ready: std::collections::VecDeque::new() }
    }

    /// The next event; none when the server has closed the stream. Cancel-safe.
    pub async fn next(&mut self) -> anyhow::Result<Option<Event>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let Some(bytes) = self.response.chunk().await.context("the stream broke off")? else { return Ok(None) };
            if self.parser.push(&bytes, &mut self.ready).is_err() {
                bail!("the server sent a line of more than {LINE_BYTES_MAX} bytes");
            }
        }
    }
}

/// Bytes in, events out.
#[derive(Debug, Default)]
struct Parser {
    line: Vec<u8>,
    event: Event,
}

#[derive(Debug, PartialEq, Eq)]
struct LineTooLong;

impl Parser {
    fn push(&mut self, bytes: &[u8], out: &mut impl Extend<Event>) -> Result<(), LineTooLong> {
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() > LINE_BYTES_MAX {
                    return Err(LineTooLong);
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line));
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                // A comment or a heartbeat leaves nothing behind.
                if !event.data.is_empty() || !event.kind.is_empty() {
                    out.extend([event]);
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut self.event.kind),
                "id" => value.clone_into(&mut self.event.id),
                "data" => {
                    if !self.event.data.is_empty() {
                        self.event.data.push('\n');
                    }
                    self.event.data.push_str(value);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_whole_however_the_bytes_are_cut() {
        let text = ": hello\n\nid: 1-2\r\nevent: offer\r\ndata: {\"a\":\ndata: 1}\n\n:\n\nevent: snapshot\ndata:[]\n\ndata: cut";
        for size in 1..text.len() {
            let (mut parser, mut events) = (Parser::default(), Vec::new());
            for piece in text.as_bytes().chunks(size) {
                parser.push(piece, &mut events).unwrap();
            }
            assert_eq!(events.len(), 2, "{size}");
            assert_eq!(events[0], Event { kind: "offer".into(), data: "{\"a\":\n1}".into(), id: "1-2".into() });
            assert_eq!((events[1].kind.as_str(), events[1].data.as_str()), ("snapshot", "[]"));
        }
    }

    #[test]
    fn an_endless_line_is_given_up() {
        let mut events = Vec::new();
        let endless = vec![b'x'; LINE_BYTES_MAX + 1];
        assert_eq!(Parser::default().push(&endless, &mut events), Err(LineTooLong));
    }
}
