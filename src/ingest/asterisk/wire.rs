//! A connection as messages: reads in bounded portions, writes what is queued without ever waiting in between.

use std::collections::VecDeque;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::action::Action;
use super::codec::{Codec, Faults, Frame};
use crate::ingest::dial::Stream;
use crate::ingest::feed::FeedError;

/// One connection.
pub(super) struct Wire {
    reader: ReadHalf<Box<dyn Stream>>,
    writer: WriteHalf<Box<dyn Stream>>,
    codec: Codec,
    counted: Faults,
    chunk: Vec<u8>,
    out: VecDeque<u8>,
    /// Something was written that may still be on this side of TLS.
    unflushed: bool,
}

impl Wire {
    pub fn new(stream: Box<dyn Stream>) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let chunk = vec![0; CHUNK];
        let (codec, counted) = (Codec::default(), Faults::default());
        Self { reader, writer, codec, counted, chunk, out: VecDeque::new(), unflushed: false }
    }

    /// Queues an action.
    pub fn send(&mut self, action: &Action, id: &str) -> Result<(), FeedError> {
        if self.out.len() > OUT_MAX {
            return Err(FeedError::Broken("Asterisk does not read what is sent to it".into()));
        }
        let mut text = Vec::new();
        action.encode(id, &mut text);
        self.out.extend(text);
        Ok(())
    }

    /// The next message that is here already.
    pub fn take(&mut self) -> Option<Frame> {
        self.codec.next_frame()
    }

    /// Moves bytes in either direction, whatever comes first. May be dropped at any time without losing any.
    pub async fn turn(&mut self) -> Result<(), FeedError> {
        let broken = |error: std::io::Error| FeedError::Broken(format!("the connection broke: {error}"));
        let (waiting, _) = self.out.as_slices();
        let sends = self.unflushed || !waiting.is_empty();
        tokio::select! {
            read = self.reader.read(&mut self.chunk) => {
                let length = read.map_err(broken)?;
                if length == 0 {
                    return Err(FeedError::Broken("Asterisk closed the connection".into()));
                }
                self.codec.push(self.chunk.get(..length).unwrap_or_default());
                self.check()
            }
            written = send(&mut self.writer, waiting), if sends => {
                let length = written.map_err(broken)?;
                self.out.drain(..length);
                self.unflushed = length > 0;
                Ok(())
            }
        }
    }

    /// Counts what the codec left out. A line that does not end is no manager interface.
    fn check(&mut self) -> Result<(), FeedError> {
        let (now, before) = (self.codec.faults(), self.counted);
        count("long_line", now.long_lines - before.long_lines);
        count("large_message", now.large_messages - before.large_messages);
        count("no_field", now.no_fields - before.no_fields);
        count("behind", now.behind - before.behind);
        self.counted = now;
        if self.codec.line_length() > ENDLESS {
            return Err(FeedError::Broken("what answers there sends a line without end".into()));
        }
        Ok(())
    }
}

/// Writes what there is, or, when that is nothing, sees that all of it leaves.
async fn send(writer: &mut WriteHalf<Box<dyn Stream>>, waiting: &[u8]) -> std::io::Result<usize> {
    if waiting.is_empty() { writer.flush().await.map(|()| 0) } else { writer.write(waiting).await }
}

pub(super) fn count(reason: &'static str, times: u64) {
    if times > 0 {
        metrics::counter!("hookswitch_dropped_total", "where" => "asterisk", "reason" => reason).increment(times);
    }
}

/// Bytes read at a time: few enough that others get their turn.
const CHUNK: usize = 16 * 1024;
/// Bytes that may wait to be sent.
const OUT_MAX: usize = 256 * 1024;
/// Bytes of one line after which nothing good is expected.
const ENDLESS: usize = 1024 * 1024;
