//! What comes over a connection, and how it is cut into messages: a stream of bytes here, WebSocket messages in `ws`.

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::sip::{Frame, FrameError, Framer, HeaderError, hep};

/// One connection's way to carry messages.
pub(super) trait Wire {
    /// Waits for more and takes it in, be it whole messages or not; false when there is no more to come. Safe to cancel.
    async fn more(&mut self) -> bool;

    /// The next thing among what has come, none when more must come first.
    fn next(&mut self) -> Option<Next>;

    /// Bytes of a message that is not whole yet.
    fn begun(&self) -> usize;

    /// Adds a message to what is to be sent.
    fn owe(&mut self, message: &[u8]);

    /// Bytes that are to be sent.
    fn owed(&self) -> usize;

    /// Sends them. What could not be sent is forgotten.
    async fn send(&mut self) -> io::Result<()>;

    /// Says that this is the end, without which the peer could not tell it from a cut.
    async fn farewell(&mut self);
}

/// What a connection holds next.
pub(super) enum Next {
    Message(Bytes),
    Ping,
    /// It can't be followed any further. What is wrong is told where that can be said.
    Lost {
        why: &'static str,
        tell: Option<(Bytes, HeaderError)>,
    },
}

/// TCP or TLS.
pub(super) struct Stream<S> {
    inner: S,
    framing: Framing,
    buffer: Box<[u8]>,
    out: Vec<u8>,
}

enum Framing {
    Sip(Framer),
    Hep(hep::Packets),
}

impl<S> Stream<S> {
    /// With messages by Content-Length or, `wrapped`, HEP packets.
    pub(super) fn new(stream: S, wrapped: bool) -> Self {
        let (framing, read_bytes) = if wrapped {
            (Framing::Hep(hep::Packets::default()), HEP_READ_BYTES)
        } else {
            (Framing::Sip(Framer::new()), READ_BYTES)
        };
        Self { inner: stream, framing, buffer: vec![0; read_bytes].into_boxed_slice(), out: Vec::new() }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire for Stream<S> {
    async fn more(&mut self) -> bool {
        let Ok(length @ 1..) = self.inner.read(&mut self.buffer).await else { return false };
        let bytes = self.buffer.get(..length).unwrap_or_default();
        match &mut self.framing {
            Framing::Sip(framer) => framer.push(bytes),
            Framing::Hep(packets) => packets.push(bytes),
        }
        true
    }

    fn next(&mut self) -> Option<Next> {
        match &mut self.framing {
            Framing::Sip(framer) => Some(match framer.next()? {
                Ok(Frame::Message(message)) => Next::Message(message),
                Ok(Frame::Ping) => Next::Ping,
                Err(error) => {
                    let tell = match error {
                        FrameError::ContentLength(fault) => framer.rejected().map(|head| (head.clone(), fault)),
                        _ => None,
                    };
                    Next::Lost { why: error.label(), tell }
                }
            }),
            Framing::Hep(packets) => Some(match packets.next()? {
                Ok(packet) => Next::Message(packet),
                Err(error) => Next::Lost { why: error.label(), tell: None },
            }),
        }
    }

    fn begun(&self) -> usize {
        match &self.framing {
            Framing::Sip(framer) => framer.pending(),
            Framing::Hep(packets) => packets.pending(),
        }
    }

    fn owe(&mut self, message: &[u8]) {
        self.out.extend_from_slice(message);
    }

    fn owed(&self) -> usize {
        self.out.len()
    }

    async fn send(&mut self) -> io::Result<()> {
        let out = std::mem::take(&mut self.out);
        self.inner.write_all(&out).await?;
        self.inner.flush().await
    }

    async fn farewell(&mut self) {
        let _ = self.inner.shutdown().await;
    }
}

/// Read at once: a phone says little, and there may be ten thousand of them.
const READ_BYTES: usize = 4 * 1024;
/// The same of a capture agent, of which there are few and which never stop.
const HEP_READ_BYTES: usize = 64 * 1024;
