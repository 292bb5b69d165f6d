//! A UDP socket: drains what waits, answers in a batch, and outlives whatever arrives.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use crate::model::{Now, Transport};

use super::front::{Answer, Front, Held, Peer};
use super::pending::Pending;

/// Serves `socket`, which keepalives know by `number`, until `stop`; then sends what still waits for its commit, in the
/// bounded time each has.
pub(super) async fn serve(front: Arc<Front>, socket: Arc<UdpSocket>, number: Option<u16>, stop: CancellationToken) {
    let pending = Pending::new(front.pending_max(), front.limits.commit_wait_ms.into());
    let gauge = metrics::gauge!("hookswitch_sip_pending_replies", "listener" => front.name.clone());
    let mut line =
        Line { front, socket, number, pending, shown: 0, buffer: vec![0; DATAGRAM_BYTES_MAX].into_boxed_slice() };
    let mut committed = line.front.committed.clone();
    loop {
        let now = line.front.clock.now();
        let wait = line.pending.next_deadline().map_or(IDLE, |deadline| Duration::from_millis(deadline - now.tick));
        let (holding, stopping) = (!line.pending.is_empty(), stop.is_cancelled());
        if stopping && !holding {
            return;
        }
        tokio::select! {
            () = stop.cancelled(), if !stopping => continue,
            ready = line.socket.readable(), if !stopping => match ready {
                Ok(()) => line.drain(),
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
    pending: Pending<Waiting>,
    /// What the gauge has been told of `pending`.
    shown: u32,
    buffer: Box<[u8]>,
}

/// A reply that waits, and the request it answers, should its time run out.
struct Waiting {
    held: Held,
    peer: Peer,
    request: Box<[u8]>,
}

impl Line {
    /// Reads what waits, up to a batch, so that replies and commits get their turn however fast peers send.
    fn drain(&mut self) {
        let now = self.front.clock.now();
        for _ in 0..BATCH {
            match self.socket.try_recv_from(&mut self.buffer) {
                Ok((length, source)) => self.datagram(length, source, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => self.survive(&error),
            }
        }
    }

    fn datagram(&mut self, length: usize, source: SocketAddr, now: Now) {
        let Some(bytes) = self.buffer.get(..length) else { return };
        if !self.front.admits(source.ip()) {
            return;
        }
        let peer = Peer { source, transport: Transport::Udp, flow: None, socket: self.number };
        match self.front.handle(bytes, &peer, now, self.pending.has_room()) {
            Answer::Silence => {}
            Answer::Now { bytes, to } => self.send(&bytes, to),
            Answer::Held(held) => {
                self.pending.hold(held.seq, Waiting { held, peer, request: bytes.into() }, now.tick);
            }
        }
    }

    /// Sends every reply whose change is committed, and 503 in place of those whose time has run out.
    fn flush(&mut self, watermark: u64) {
        while let Some(waiting) = self.pending.committed(watermark) {
            if self.front.is_released(&waiting.held) {
                self.send(&waiting.held.bytes, waiting.held.to);
            } else {
                self.apologise(&waiting);
            }
        }
        let now = self.front.clock.now();
        while let Some(waiting) = self.pending.overdue(now.tick) {
            self.apologise(&waiting);
        }
    }

    fn apologise(&self, waiting: &Waiting) {
        if let Some((reply, to)) = self.front.not_stored(&waiting.request, &waiting.peer) {
            self.send(&reply, to);
        }
    }

    fn send(&self, reply: &[u8], destination: SocketAddr) {
        match self.socket.try_send_to(reply, destination) {
            Ok(_) => {}
            // The phone retransmits, and is answered then; waiting here would hold up all the others.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => dropped("send_buffer_full"),
            Err(_) => dropped("send_error"),
        }
    }

    /// ICMP errors of earlier replies surface here. They concern one peer; the socket serves the others.
    fn survive(&self, error: &io::Error) {
        dropped("receive_error");
        tracing::debug!(listener = %self.front.name, %error, "receiving failed; going on");
    }
}

fn dropped(reason: &'static str) {
    metrics::counter!("hookswitch_dropped_total", "where" => "sip_udp", "reason" => reason).increment(1);
}

/// The longest payload UDP can carry.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// Datagrams read before replies are looked at again.
const BATCH: usize = 512;
/// Woken now and then with nothing to do.
const IDLE: Duration = Duration::from_mins(1);
