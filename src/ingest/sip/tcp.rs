//! A TCP or TLS address: accepts within limits; each connection is a task of its own, so that none holds up another.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::census::Census;
use crate::model::{Tick, Transport};
use crate::sip::frame::PONG;
use crate::sip::{Frame, FrameError, Framer, HeaderError, hep};

use super::front::{Answer, Front, Held, Peer};
use super::pending::Pending;
use super::tls::Handshake;

/// Accepts connections until `stop`, then waits until each has sent what it owes. With `handshake` they speak TLS.
pub(super) async fn serve(
    front: Arc<Front>,
    listener: TcpListener,
    handshake: Option<Handshake>,
    stop: CancellationToken,
) {
    let gauge = metrics::gauge!("hookswitch_sip_connections", "listener" => front.name.clone());
    let limits = &front.limits;
    let census = Census::new("sip_tcp", limits.connections_max, limits.connections_per_source_max, gauge);
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, source)) => {
                if !front.admits(source.ip()) {
                    continue;
                }
                let Some(seat) = census.seat(source.ip()) else { continue };
                let (front, handshake, stop) = (front.clone(), handshake.clone(), stop.clone());
                connections.spawn(async move {
                    match handshake {
                        None => {
                            let peer = front.connected(source, Transport::Tcp);
                            Connection::new(front, stream, peer).run(stop).await;
                        }
                        Some(handshake) => {
                            let Some(Some(stream)) = stop.run_until_cancelled(handshake.shake(stream)).await else {
                                return;
                            };
                            let peer = front.connected(source, Transport::Tls);
                            Connection::new(front, stream, peer).run(stop).await;
                        }
                    }
                    drop(seat);
                });
            }
            Err(error) => {
                // Out of descriptors, or a peer that was gone before we looked: neither ends the listener, but the
                // first would come straight back.
                dropped("accept_error");
                tracing::debug!(listener = %front.name, %error, "accepting failed; going on");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
}

struct Connection<S> {
    front: Arc<Front>,
    stream: S,
    peer: Peer,
    framing: Framing,
    pending: Pending<Waiting>,
    /// When the peer must have said more: the idle time, or the time a begun message has to become whole.
    deadline: Tick,
    /// What is to be written, of one turn.
    out: Vec<u8>,
}

/// How the stream is cut into messages.
enum Framing {
    Sip(Framer),
    Hep(hep::Packets),
}

/// What a stream holds next.
enum Next {
    Message(bytes::Bytes),
    Ping,
    /// It can't be followed any further. What is wrong is told where that can be said.
    Lost {
        why: &'static str,
        tell: Option<(bytes::Bytes, HeaderError)>,
    },
}

/// A reply that waits, and the request it answers, should its time run out.
struct Waiting {
    held: Held,
    request: bytes::Bytes,
}

/// Why a connection ends.
enum End {
    /// The peer closed it, or it broke.
    Peer,
    /// We close it, for a reason that is counted.
    Us(&'static str),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    fn new(front: Arc<Front>, stream: S, peer: Peer) -> Self {
        let pending = Pending::new(PENDING_MAX, front.limits.commit_wait_ms.into());
        let deadline = front.clock.now().tick + front.limits.idle_ms();
        let framing = Framing::of(&front);
        Self { front, stream, peer, framing, pending, deadline, out: Vec::new() }
    }

    async fn run(mut self, stop: CancellationToken) {
        match self.converse(&stop).await {
            Ok(()) | Err(End::Peer) => {}
            Err(End::Us(reason)) => dropped(reason),
        }
        // A restart of ours says nothing of the phones: what they were promised stays.
        if !stop.is_cancelled() {
            self.front.disconnected(&self.peer);
        }
        // Over TLS a farewell, without which the peer could not tell an end from a cut.
        let _ = tokio::time::timeout(FAREWELL_WAIT, self.stream.shutdown()).await;
    }

    async fn converse(&mut self, stop: &CancellationToken) -> Result<(), End> {
        let mut committed = self.front.committed.clone();
        let mut buffer = vec![0; READ_BYTES].into_boxed_slice();
        loop {
            let now = self.front.clock.now().tick;
            let (holding, stopping) = (!self.pending.is_empty(), stop.is_cancelled());
            if stopping && !holding {
                return Ok(());
            }
            if now >= self.deadline {
                return Err(End::Us(if self.framing.pending() == 0 { "idle" } else { "message_wait" }));
            }
            let next = self.pending.next_deadline().map_or(self.deadline, |deadline| deadline.min(self.deadline));
            let wait = Duration::from_millis(next - now);
            tokio::select! {
                () = stop.cancelled(), if !stopping => continue,
                read = self.stream.read(&mut buffer), if !stopping => match read {
                    Ok(0) | Err(_) => return Err(End::Peer),
                    Ok(length) => self.take(buffer.get(..length).unwrap_or_default()).await?,
                },
                changed = committed.changed(), if holding => if changed.is_err() {
                    // The journal is gone, so nothing that waits can be committed any more; the deadlines answer.
                    tokio::time::sleep(wait).await;
                },
                () = tokio::time::sleep(wait) => {}
            }
            let watermark = *committed.borrow_and_update();
            self.flush(watermark);
            self.write().await?;
        }
    }

    /// Handles every whole message there is.
    async fn take(&mut self, bytes: &[u8]) -> Result<(), End> {
        let was_between = self.framing.pending() == 0;
        self.framing.push(bytes);
        let now = self.front.clock.now();
        let mut whole = false;
        while let Some(next) = self.framing.next() {
            whole = true;
            match next {
                Next::Ping if self.front.is_mute() => {}
                Next::Ping => self.out.extend_from_slice(PONG),
                Next::Message(message) => self.message(&message, now),
                Next::Lost { why, tell } => {
                    // The sender is told what is wrong, where that can be said, before the stream is given up.
                    if let Some((head, error)) = tell {
                        self.out.extend(self.front.malformed(&head, &self.peer, error).unwrap_or_default());
                    }
                    self.write().await?;
                    tracing::debug!(listener = %self.front.name, peer = %self.peer.source, why, "stream given up");
                    return Err(End::Us("framing"));
                }
            }
            if self.out.len() > OUT_BYTES_MAX {
                self.write().await?;
            }
        }
        if self.framing.pending() == 0 {
            self.deadline = now.tick + self.front.limits.idle_ms();
        } else if was_between || whole {
            // Only the first piece of a message starts its time, or a byte now and then would hold it for ever.
            self.deadline = now.tick + self.front.limits.message_wait_ms();
        }
        Ok(())
    }

    fn message(&mut self, message: &bytes::Bytes, now: crate::model::Now) {
        match self.front.handle(message, &self.peer, now, self.pending.has_room()) {
            Answer::Silence => {}
            Answer::Now { bytes, .. } => self.out.extend_from_slice(&bytes),
            Answer::Held(held) => {
                self.pending.hold(held.seq, Waiting { held, request: message.clone() }, now.tick);
            }
        }
    }

    fn flush(&mut self, watermark: u64) {
        while let Some(waiting) = self.pending.committed(watermark) {
            if self.front.is_released(&waiting.held) {
                self.out.extend_from_slice(&waiting.held.bytes);
            } else {
                self.apologise(&waiting);
            }
        }
        let now = self.front.clock.now().tick;
        while let Some(waiting) = self.pending.overdue(now) {
            self.apologise(&waiting);
        }
    }

    fn apologise(&mut self, waiting: &Waiting) {
        if let Some((reply, _)) = self.front.not_stored(&waiting.request, &self.peer) {
            self.out.extend_from_slice(&reply);
        }
    }

    /// Writes what is owed. A peer that does not read holds up nobody but itself, and that not for long.
    async fn write(&mut self) -> Result<(), End> {
        if self.out.is_empty() {
            return Ok(());
        }
        let (stream, out) = (&mut self.stream, &self.out);
        let write = async {
            stream.write_all(out).await?;
            stream.flush().await
        };
        let written = tokio::time::timeout(WRITE_WAIT, write).await;
        self.out.clear();
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Peer),
            Err(_) => Err(End::Us("write_wait")),
        }
    }
}

impl Framing {
    fn of(front: &Front) -> Self {
        if front.is_wrapped() { Self::Hep(hep::Packets::default()) } else { Self::Sip(Framer::new()) }
    }

    fn push(&mut self, bytes: &[u8]) {
        match self {
            Self::Sip(framer) => framer.push(bytes),
            Self::Hep(packets) => packets.push(bytes),
        }
    }

    fn pending(&self) -> usize {
        match self {
            Self::Sip(framer) => framer.pending(),
            Self::Hep(packets) => packets.pending(),
        }
    }

    fn next(&mut self) -> Option<Next> {
        match self {
            Self::Sip(framer) => Some(match framer.next()? {
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
            Self::Hep(packets) => Some(match packets.next()? {
                Ok(packet) => Next::Message(packet),
                Err(error) => Next::Lost { why: error.label(), tell: None },
            }),
        }
    }
}

fn dropped(reason: &'static str) {
    metrics::counter!("hookswitch_dropped_total", "where" => "sip_tcp", "reason" => reason).increment(1);
}

/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;
/// Replies one connection may have waiting; a phone has one, a PBX that relays more has several connections or UDP.
const PENDING_MAX: usize = 256;
/// Replies are collected up to so many bytes before they are written.
const OUT_BYTES_MAX: usize = 64 * 1024;
const WRITE_WAIT: Duration = Duration::from_secs(5);
const FAREWELL_WAIT: Duration = Duration::from_secs(1);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
