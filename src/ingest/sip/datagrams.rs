//! Datagrams, many a system call: what waits at a socket is read, and what is owed is sent, a batch at a time.

use std::io;
use std::net::SocketAddr;

use tokio::net::UdpSocket;

use super::socket::Opened;

#[cfg(target_os = "linux")]
use many as system;
#[cfg(not(target_os = "linux"))]
use single as system;

/// Room for a batch of datagrams, 2 MiB.
pub(super) struct Inbox {
    slots: Box<[u8]>,
    /// How many the system has dropped at this socket since it was bound, as far as it has told.
    lost: u32,
    /// Whether that was in our time: a socket that was opened before us may have lost some to an earlier process, which
    /// has counted them.
    is_ours: bool,
}

/// What was read at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    /// Whether more may wait.
    pub more: bool,
    /// Datagrams lost before these because the receive buffer was full: the system tells it with the next one that finds
    /// room.
    pub lost: usize,
}

/// Replies on their way out.
#[derive(Default)]
pub(super) struct Outbox {
    replies: Vec<(Vec<u8>, SocketAddr)>,
}

/// Replies that were not sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unsent {
    /// For want of room in the send buffer.
    pub full: usize,
    /// For another reason, as an address nothing can be sent to.
    pub failed: usize,
}

impl Inbox {
    pub(super) fn new(opened: Opened) -> Self {
        let slots = vec![0; BATCH * SLOT_BYTES].into_boxed_slice();
        Self { slots, lost: 0, is_ours: opened == Opened::Here }
    }

    /// Shows `each` a batch of what waits, without waiting.
    ///
    /// # Errors
    /// `WouldBlock` when nothing waits; else what the system says, the socket being as good as before.
    pub(super) fn read(&mut self, socket: &UdpSocket, each: impl FnMut(&[u8], SocketAddr)) -> io::Result<Read> {
        let mut before = self.lost;
        let count = system::receive(socket, &mut self.slots, &mut self.lost, each)?;
        if !std::mem::replace(&mut self.is_ours, true) {
            if self.lost > 0 {
                tracing::info!(datagrams = self.lost, "lost at a socket since it was opened, and before we read it");
            }
            before = self.lost;
        }
        // The system's count starts anew after 2^32.
        let lost = usize::try_from(self.lost.wrapping_sub(before)).unwrap_or(usize::MAX);
        Ok(Read { more: count == BATCH, lost })
    }
}

impl Outbox {
    pub(super) fn push(&mut self, reply: Vec<u8>, to: SocketAddr) {
        self.replies.push((reply, to));
    }

    /// Sends what there is, without waiting: a phone that hears nothing asks again, and waiting here would hold up all the
    /// others.
    pub(super) fn send(&mut self, socket: &UdpSocket) -> Unsent {
        let unsent = send_all(&self.replies, |replies| system::send(socket, replies));
        self.replies.clear();
        unsent
    }
}

/// Has the system count what it drops at `socket` for want of room. Where it can't, nothing is counted.
pub(super) fn count_lost(socket: &std::net::UdpSocket) {
    system::count_lost(socket);
}

/// Sends all `replies`, as many at a time as `send` takes: it answers how many went out before the first that did not.
fn send_all<T>(mut replies: &[T], mut send: impl FnMut(&[T]) -> io::Result<usize>) -> Unsent {
    let mut unsent = Unsent::default();
    while !replies.is_empty() {
        let done = match send(replies) {
            Ok(sent) if sent > 0 => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                unsent.full += replies.len();
                return unsent;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // An error is about the first of them.
            Ok(_) | Err(_) => {
                unsent.failed += 1;
                1
            }
        };
        replies = replies.get(done..).unwrap_or_default();
    }
    unsent
}

/// Linux has calls for many at a time.
#[cfg(target_os = "linux")]
mod many {
    use std::io::{self, IoSlice, IoSliceMut};
    use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
    use std::os::fd::AsRawFd as _;

    use nix::sys::socket::{
        ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, setsockopt, sockopt,
    };
    use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg};
    use tokio::io::Interest;
    use tokio::net::UdpSocket;

    use super::{BATCH, SLOT_BYTES};

    pub(super) fn receive(
        socket: &UdpSocket,
        slots: &mut [u8],
        lost: &mut u32,
        mut each: impl FnMut(&[u8], SocketAddr),
    ) -> io::Result<usize> {
        // New ones each time: the system notes in them how much of their room it used, and takes that for all there is.
        let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, Some(nix::cmsg_space!(u32)));
        let mut slots = slots.chunks_exact_mut(SLOT_BYTES);
        let mut room: [_; BATCH] = std::array::from_fn(|_| [IoSliceMut::new(slots.next().unwrap_or_default())]);
        let mut count = 0;
        let read = socket.try_io(Interest::READABLE, || {
            for datagram in recvmmsg(socket.as_raw_fd(), &mut headers, &mut room, MsgFlags::MSG_DONTWAIT, None)? {
                count += 1;
                for message in datagram.cmsgs().into_iter().flatten() {
                    if let ControlMessageOwned::RxqOvfl(total) = message {
                        *lost = total;
                    }
                }
                if let Some(source) = datagram.address.as_ref().and_then(address) {
                    each(datagram.iovs().next().unwrap_or_default(), source);
                }
            }
            // Fewer than there was room for: no more were there, and another call need not say so.
            if count < BATCH { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        if count == 0 { read.map(|()| 0) } else { Ok(count) }
    }

    pub(super) fn send(socket: &UdpSocket, replies: &[(Vec<u8>, SocketAddr)]) -> io::Result<usize> {
        let replies = replies.get(..BATCH).unwrap_or(replies);
        let addresses: Vec<_> = replies.iter().map(|(_, to)| SocketAddrAny::from(*to)).collect();
        let texts: Vec<_> = replies.iter().map(|(reply, _)| [IoSlice::new(reply)]).collect();
        let mut nothing_else: [_; BATCH] = std::array::from_fn(|_| SendAncillaryBuffer::default());
        let parts = addresses.iter().zip(&texts).zip(&mut nothing_else);
        let mut headers: Vec<_> =
            parts.map(|((to, text), nothing_else)| MMsgHdr::new_with_addr(to, text, nothing_else)).collect();
        socket.try_io(Interest::WRITABLE, || Ok(sendmmsg(socket, &mut headers, SendFlags::DONTWAIT)?))
    }

    pub(super) fn count_lost(socket: &std::net::UdpSocket) {
        if let Err(error) = setsockopt(socket, sockopt::RxqOvfl, &1) {
            tracing::debug!(%error, "the system does not tell how many datagrams it drops");
        }
    }

    fn address(of: &SockaddrStorage) -> Option<SocketAddr> {
        let v4 = of.as_sockaddr_in().map(|address| SocketAddrV4::from(*address).into());
        v4.or_else(|| of.as_sockaddr_in6().map(|address| SocketAddrV6::from(*address).into()))
    }
}

/// One datagram a call, where the system has none for many.
#[cfg(any(not(target_os = "linux"), test))]
mod single {
    use std::io;
    use std::net::SocketAddr;

    use tokio::net::UdpSocket;

    use super::{BATCH, SLOT_BYTES};

    pub(super) fn receive(
        socket: &UdpSocket,
        slots: &mut [u8],
        _lost: &mut u32,
        mut each: impl FnMut(&[u8], SocketAddr),
    ) -> io::Result<usize> {
        let slot = slots.get_mut(..SLOT_BYTES).unwrap_or_default();
        for count in 0..BATCH {
            match socket.try_recv_from(slot) {
                Ok((length, source)) => each(slot.get(..length).unwrap_or_default(), source),
                Err(error) if count == 0 => return Err(error),
                Err(_) => return Ok(count),
            }
        }
        Ok(BATCH)
    }

    pub(super) fn send(socket: &UdpSocket, replies: &[(Vec<u8>, SocketAddr)]) -> io::Result<usize> {
        let Some((reply, to)) = replies.first() else { return Ok(0) };
        socket.try_send_to(reply, *to).map(|_| 1)
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn count_lost(_socket: &std::net::UdpSocket) {}
}

/// Most datagrams a call: enough that the call itself counts no more, few enough for their texts to stay in the
/// processor's caches.
pub(super) const BATCH: usize = 32;
/// More than the longest payload UDP can carry, in cache lines. A round number of them would have all slots contend for
/// the same few places of the caches.
const SLOT_BYTES: usize = 64 * 1041;

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;

    /// A datagram and its other end.
    type Datagram = (Vec<u8>, SocketAddr);

    /// A way to send and to receive.
    struct Way {
        receive: fn(&UdpSocket, &mut Inbox, &mut Vec<Datagram>) -> io::Result<usize>,
        send: fn(&UdpSocket, &[Datagram]) -> io::Result<usize>,
    }

    macro_rules! way {
        ($system:ident) => {
            Way {
                receive: |socket, inbox, into| {
                    let keep = |bytes: &[u8], source| into.push((bytes.to_vec(), source));
                    $system::receive(socket, &mut inbox.slots, &mut inbox.lost, keep)
                },
                send: $system::send,
            }
        };
    }

    fn ways() -> Vec<Way> {
        #[cfg(target_os = "linux")]
        let ways = vec![way!(many), way!(single)];
        #[cfg(not(target_os = "linux"))]
        let ways = vec![way!(single)];
        ways
    }

    async fn socket(address: impl Into<IpAddr>) -> UdpSocket {
        UdpSocket::bind(SocketAddr::new(address.into(), 0)).await.unwrap()
    }

    async fn hear(way: &Way, socket: &UdpSocket, count: usize) -> Vec<(Vec<u8>, SocketAddr)> {
        let (mut inbox, mut heard) = (Inbox::new(Opened::Here), Vec::new());
        while heard.len() < count {
            socket.readable().await.unwrap();
            let before = heard.len();
            match (way.receive)(socket, &mut inbox, &mut heard) {
                Ok(count) => assert_eq!(count, heard.len() - before),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
        }
        heard
    }

    #[tokio::test]
    async fn each_datagram_arrives_once_whole_and_with_its_source_over_both_families() {
        for way in ways() {
            for here in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
                let (from, to) = (socket(here).await, socket(here).await);
                from.writable().await.unwrap();
                let (source, to_address) = (from.local_addr().unwrap(), to.local_addr().unwrap());
                // What the system grants without being asked may be too little.
                socket2::SockRef::from(&to).set_recv_buffer_size(1 << 20).unwrap();
                let lengths = (0..3 * BATCH).map(|n| if n == 40 { 60_000 } else { n % 7 * 100 });
                let sent: Vec<_> = lengths
                    .enumerate()
                    .map(|(n, length)| (vec![u8::try_from(n).unwrap(); length], to_address))
                    .collect();
                let unsent = send_all(&sent, |some| (way.send)(&from, some));
                assert_eq!(unsent, Unsent::default());
                let heard = hear(&way, &to, sent.len()).await;
                assert!(heard.iter().all(|(_, from)| *from == source), "{source}");
                let texts =
                    |list: &[(Vec<u8>, SocketAddr)]| list.iter().map(|(text, _)| text.clone()).collect::<Vec<_>>();
                assert_eq!(texts(&heard), texts(&sent));
            }
        }
    }

    #[tokio::test]
    async fn one_that_can_not_be_sent_keeps_none_of_the_others() {
        for way in ways() {
            let (from, to) = (socket(Ipv4Addr::LOCALHOST).await, socket(Ipv4Addr::LOCALHOST).await);
            from.writable().await.unwrap();
            let to_address = to.local_addr().unwrap();
            let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let replies = [nowhere, to_address, nowhere, nowhere, to_address].map(|to| (b"reply".to_vec(), to));
            let unsent = send_all(&replies, |some| (way.send)(&from, some));
            assert_eq!(unsent, Unsent { full: 0, failed: 3 });
            assert_eq!(hear(&way, &to, 2).await.len(), 2);
        }
    }

    #[test]
    fn a_batch_that_is_cut_short_goes_on_where_it_was_cut_until_there_is_no_room() {
        let mut answers = vec![
            Ok(3),
            Err(ErrorKind::Interrupted.into()),
            Ok(2),
            Err(ErrorKind::ConnectionRefused.into()),
            Ok(1),
            Err(ErrorKind::WouldBlock.into()),
        ]
        .into_iter();
        let mut tried = Vec::new();
        let unsent = send_all(&[0, 1, 2, 3, 4, 5, 6, 7, 8], |rest| {
            tried.push(rest[0]);
            answers.next().unwrap()
        });
        assert_eq!(unsent, Unsent { full: 2, failed: 1 });
        assert_eq!(tried, [0, 3, 3, 5, 6, 7]);
    }
}
