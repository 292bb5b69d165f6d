//! An address for connections: accepts within limits; each connection is a task of its own, so that none holds up another.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::census::Seat;
use crate::config::Protocol;
use crate::model::{Now, Tick, Transport};
use crate::sip::frame::PONG;
use crate::supervision::Pulse;

use super::front::{Answer, Front, Held, Peer};
use super::mail::Mail;
use super::pending::Pending;
use super::tls::Handshake;
use super::wire::{Next, Stream, Wire};
use super::ws;

/// An address, and what is spoken there before SIP.
pub(super) struct Door {
    pub front: Arc<Front>,
    pub listener: TcpListener,
    pub protocol: Protocol,
    /// Of TLS and secure WebSocket.
    pub handshake: Option<Handshake>,
    /// Shows that it accepts.
    pub pulse: Pulse,
}

impl Door {
    /// Accepts connections until `stop`, then waits until each has sent what it owes.
    pub(super) async fn serve(self, stop: CancellationToken) {
        let Self { front, listener, protocol, handshake, mut pulse } = self;
        let gauge = metrics::gauge!("hookswitch_sip_connections", "listener" => front.name.clone());
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                () = pulse.beat() => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, source)) => {
                    if !front.admits(source.ip()) {
                        continue;
                    }
                    let Some(seat) = front.seat(source.ip(), &gauge) else { continue };
                    let local = stream.local_addr().ok();
                    let visitor = Visitor { front: front.clone(), source, local, protocol, seat };
                    connections.spawn(visitor.enter(stream, handshake.clone(), stop.clone()));
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
}

/// Who was let in and has not said anything yet.
struct Visitor {
    front: Arc<Front>,
    source: SocketAddr,
    local: Option<SocketAddr>,
    protocol: Protocol,
    seat: Seat,
}

impl Visitor {
    async fn enter(self, stream: TcpStream, handshake: Option<Handshake>, stop: CancellationToken) {
        match handshake {
            None => Box::pin(self.upgrade(stream, stop)).await,
            Some(handshake) => {
                let Some(Some(stream)) = stop.run_until_cancelled(Box::pin(handshake.shake(stream))).await else {
                    return;
                };
                Box::pin(self.upgrade(stream, stop)).await;
            }
        }
    }

    async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(self, stream: S, stop: CancellationToken) {
        let transport = match self.protocol {
            Protocol::Tls => Transport::Tls,
            Protocol::Ws => Transport::Ws,
            Protocol::Wss => Transport::Wss,
            Protocol::Tcp | Protocol::Udp => Transport::Tcp,
        };
        if !matches!(self.protocol, Protocol::Ws | Protocol::Wss) {
            let wire = Stream::new(stream, self.front.is_wrapped());
            return Connection::new(self, wire, transport).run(stop).await;
        }
        let wait = Duration::from_millis(self.front.limits.load().message_wait_ms());
        // Apart, or every connection would carry the room of a handshake for as long as it lives.
        let upgrade = Box::pin(ws::upgrade(stream, self.front.origins(), wait));
        let upgraded = stop.run_until_cancelled(upgrade).await;
        let Some(Some(wire)) = upgraded else { return };
        Connection::new(self, wire, transport).run(stop).await;
    }
}

struct Connection<W> {
    front: Arc<Front>,
    wire: W,
    peer: Peer,
    mail: Option<Arc<Mail>>,
    seat: Seat,
    pending: Pending<Held>,
    /// Bytes of the replies that wait.
    pending_bytes: usize,
    /// When the peer must have said more: the idle time, or the time a begun message has to become whole.
    deadline: Tick,
}

/// Why a connection ends.
enum End {
    /// The peer closed it, or it broke.
    Peer,
    /// We close it, for a reason that is counted.
    Us(&'static str),
}

impl<W: Wire> Connection<W> {
    fn new(visitor: Visitor, wire: W, transport: Transport) -> Self {
        let Visitor { front, source, local, seat, .. } = visitor;
        let pending = Pending::new(PENDING_MAX, front.commit_wait_ms());
        let deadline = front.clock.now().tick + front.limits.load().idle_ms();
        let (peer, mail) = front.connected(source, local, transport);
        Self { front, wire, peer, mail, seat, pending, pending_bytes: 0, deadline }
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
        let _ = tokio::time::timeout(FAREWELL_WAIT, self.wire.farewell()).await;
    }

    async fn converse(&mut self, stop: &CancellationToken) -> Result<(), End> {
        let mut committed = self.front.committed.clone();
        loop {
            let now = self.front.clock.now().tick;
            let (holding, stopping) = (!self.pending.is_empty(), stop.is_cancelled());
            if stopping && !holding {
                return Ok(());
            }
            let was_between = self.wire.begun() == 0;
            if now >= self.deadline {
                return Err(End::Us(if was_between { "idle" } else { "message_wait" }));
            }
            let next = self.pending.next_deadline().map_or(self.deadline, |deadline| deadline.min(self.deadline));
            let wait = Duration::from_millis(next - now);
            tokio::select! {
                () = stop.cancelled(), if !stopping => continue,
                is_open = self.wire.more(), if !stopping => {
                    if !is_open {
                        return Err(End::Peer);
                    }
                    self.take(was_between).await?;
                }
                () = came(self.mail.as_deref()), if !stopping => self.deliver(),
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
    async fn take(&mut self, was_between: bool) -> Result<(), End> {
        let now = self.front.clock.now();
        let mut whole = false;
        while let Some(next) = self.wire.next() {
            whole = true;
            match next {
                Next::Ping if self.front.is_mute() => {}
                Next::Ping => self.wire.owe(PONG),
                Next::Message(message) => self.message(&message, now),
                Next::Lost { why, tell } => {
                    // The sender is told what is wrong, where that can be said, before the stream is given up.
                    let told = tell.and_then(|(head, error)| self.front.malformed(&head, &self.peer, error));
                    if let Some(told) = told {
                        self.wire.owe(&told);
                    }
                    self.write().await?;
                    tracing::debug!(listener = %self.front.name, peer = %self.peer.source, why, "stream given up");
                    return Err(End::Us("framing"));
                }
            }
            if self.wire.owed() > OUT_BYTES_MAX {
                self.write().await?;
            }
        }
        let begun = self.wire.begun();
        if begun == 0 {
            self.deadline = now.tick + self.front.limits.load().idle_ms();
        } else if was_between || whole {
            // Only the first piece of a message starts its time, or a byte now and then would hold it for ever.
            self.deadline = now.tick + self.front.limits.load().message_wait_ms();
        }
        self.seat.hold(begun > 0, begun + self.pending_bytes).map_err(End::Us)
    }

    fn message(&mut self, message: &bytes::Bytes, now: Now) {
        match self.front.handle(message, &self.peer, now, self.pending.has_room()) {
            Answer::Silence => {}
            Answer::Now { bytes, .. } => self.wire.owe(&bytes),
            Answer::Held(held) => {
                self.pending_bytes += held.bytes.len();
                self.pending.hold(held.seq, held, now.tick);
            }
        }
    }

    /// What we ask the peer ourselves.
    fn deliver(&mut self) {
        for letter in self.mail.iter().flat_map(|mail| mail.take()) {
            self.wire.owe(&letter);
        }
    }

    fn flush(&mut self, watermark: u64) {
        while let Some(held) = self.pending.committed(watermark) {
            self.pending_bytes = self.pending_bytes.saturating_sub(held.bytes.len());
            if self.front.is_released(&held) {
                self.wire.owe(&held.bytes);
            } else {
                self.wire.owe(&self.front.not_stored(&held));
            }
        }
        let now = self.front.clock.now().tick;
        while let Some(held) = self.pending.overdue(now) {
            self.pending_bytes = self.pending_bytes.saturating_sub(held.bytes.len());
            self.wire.owe(&self.front.not_stored(&held));
        }
    }

    /// Writes what is owed. A peer that does not read holds up nobody but itself, and that not for long; what it leaves
    /// with us meanwhile counts as held.
    async fn write(&mut self) -> Result<(), End> {
        let (begun, owed) = (self.wire.begun(), self.wire.owed());
        if owed == 0 {
            return Ok(());
        }
        let mut sending = pin!(self.wire.send());
        // Nearly always the system takes all of it at once, and nothing is to be counted.
        let sent = if let Some(sent) = sending.as_mut().now_or_never() {
            Ok(sent)
        } else {
            self.seat.hold(begun > 0, begun + self.pending_bytes + owed).map_err(End::Us)?;
            tokio::time::timeout(WRITE_WAIT, sending).await
        };
        match sent {
            Ok(Ok(())) => self.seat.hold(begun > 0, begun + self.pending_bytes).map_err(End::Us),
            Ok(Err(_)) => Err(End::Peer),
            Err(_) => Err(End::Us("write_wait")),
        }
    }
}

async fn came(mail: Option<&Mail>) {
    match mail {
        Some(mail) => mail.came().await,
        None => std::future::pending().await,
    }
}

fn dropped(reason: &'static str) {
    metrics::counter!("hookswitch_dropped_total", "where" => "sip_tcp", "reason" => reason).increment(1);
}

/// Replies one connection may have waiting; a phone has one, a PBX that relays more has several connections or UDP.
const PENDING_MAX: usize = 256;
/// Replies are collected up to so many bytes before they are written.
const OUT_BYTES_MAX: usize = 64 * 1024;
const WRITE_WAIT: Duration = Duration::from_secs(5);
const FAREWELL_WAIT: Duration = Duration::from_secs(1);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
