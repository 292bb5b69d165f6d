//! A UDP socket: drains what waits, answers in a batch, and outlives whatever arrives.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use crate::model::{Now, Transport};
use crate::supervision::Pulse;

use super::datagrams::{self, Inbox, Outbox};
use super::front::{Answer, Front, Held, Peer};
use super::pending::Pending;
use super::socket::Opened;

/// Serves `socket`, which keepalives know by `number`, until `stop`, and shows by `pulse` that it does; then sends what
/// still waits for its commit, in the bounded time each has.
pub(super) async fn serve(
    front: Arc<Front>,
    socket: Arc<UdpSocket>,
    opened: Opened,
    number: Option<u16>,
    mut pulse: Pulse,
    stop: CancellationToken,
) {
    let pending = Pending::new(front.pending_max(), front.commit_wait_ms());
    let gauge = metrics::gauge!("hookswitch_sip_pending_replies", "listener" => front.name.clone());
    let (inbox, outbox) = (Inbox::new(opened), Outbox::default());
    let mut line = Line { front, socket, number, pending, shown: 0, inbox, outbox };
    let mut committed = line.front.committed.clone();
    loop {
        line.pending.bound(line.front.pending_max(), line.front.commit_wait_ms());
        let now = line.front.clock.now();
        let wait = line.pending.next_deadline().map_or(IDLE, |deadline| Duration::from_millis(deadline - now.tick));
        let (holding, stopping) = (!line.pending.is_empty(), stop.is_cancelled());
        if stopping && !holding {
            return;
        }
        tokio::select! {
            () = stop.cancelled(), if !stopping => continue,
            () = pulse.beat() => {}
            ready = line.socket.readable(), if !stopping => match ready {
                Ok(()) => {
                    line.drain();
                    // The journal shares this thread: so it sends off what changed while more is read.
                    tokio::task::yield_now().await;
                }
                Err(error) => line.survive(&error),
            },
            changed = committed.changed(), if holding => if changed.is_err() {
                // The journal is gone, so nothing that waits can be committed any more; the deadlines answer.
                tokio::time::sleep(wait).await;
            },
            () = tokio::time::sleep(wait), if holding => {}
        }
        let before = line.shown;
        let watermark = *committed.borrow_and_update();
        line.flush(watermark);
        line.shown = u32::try_from(line.pending.len()).unwrap_or(u32::MAX);
        // The listener's sockets share the gauge, so each tells only what changed.
        gauge.increment(f64::from(line.shown) - f64::from(before));
    }
}

/// The socket and the replies it owes.
struct Line {
    front: Arc<Front>,
    socket: Arc<UdpSocket>,
    number: Option<u16>,
    pending: Pending<Held>,
    /// What the gauge has been told of `pending`.
    shown: u32,
    inbox: Inbox,
    outbox: Outbox,
}

impl Line {
    /// Reads what waits, up to a bound, so that replies and commits get their turn however fast peers send.
    fn drain(&mut self) {
        let now = self.front.clock.now();
        for _ in 0..READS {
            let Self { front, socket, number, pending, inbox, outbox, .. } = self;
            let read = inbox.read(socket, |bytes, source| {
                let peer = Peer { source, transport: Transport::Udp, flow: None, socket: *number };
                take(front, pending, outbox, bytes, &peer, now);
            });
            self.send();
            match read {
                Ok(read) => {
                    self.dropped("receive_buffer_full", read.lost);
                    if !read.more {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => self.survive(&error),
            }
        }
    }

    /// Sends every reply whose change is committed, and 503 in place of those whose time has run out.
    fn flush(&mut self, watermark: u64) {
        while let Some(held) = self.pending.committed(watermark) {
            let stored = self.front.is_released(&held);
            let reply = if stored { held.bytes } else { self.front.not_stored(&held) };
            self.outbox.push(reply, held.to);
        }
        let now = self.front.clock.now();
        while let Some(held) = self.pending.overdue(now.tick) {
            self.outbox.push(self.front.not_stored(&held), held.to);
        }
        self.send();
    }

    fn send(&mut self) {
        let unsent = self.outbox.send(&self.socket);
        self.dropped("send_buffer_full", unsent.full);
        self.dropped("send_error", unsent.failed);
    }

    /// ICMP errors of earlier replies surface here. They concern one peer; the socket serves the others.
    fn survive(&self, error: &io::Error) {
        self.dropped("receive_error", 1);
        tracing::debug!(listener = %self.front.name, %error, "receiving failed; going on");
    }

    fn dropped(&self, reason: &'static str, count: usize) {
        if count > 0 {
            let place = if self.front.is_wrapped() { "hep" } else { "sip_udp" };
            metrics::counter!("hookswitch_dropped_total", "where" => place, "reason" => reason).increment(count as u64);
        }
    }
}

/// Judges one datagram, and keeps what has to be said to it.
fn take(front: &Front, pending: &mut Pending<Held>, outbox: &mut Outbox, bytes: &[u8], peer: &Peer, now: Now) {
    if !front.admits(peer.source.ip()) {
        return;
    }
    match front.handle(bytes, peer, now, pending.has_room()) {
        Answer::Silence => {}
        Answer::Now { bytes, to } => outbox.push(bytes, to),
        Answer::Held(held) => pending.hold(held.seq, held, now.tick),
    }
}

/// Batches read before others get their turn, and replies that a commit has freed are looked at.
const READS: usize = 64 / datagrams::BATCH;
/// Woken now and then with nothing to do.
const IDLE: Duration = Duration::from_mins(1);
