//! The way to one notifier: a UDP socket that hears nobody else, or a connection by TCP or TLS. What the notifier has to
//! say comes back the same way (RFC 5923 §3, RFC 6665 §4.1.3).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _};
use tokio::net::{UdpSocket, lookup_host};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};

use crate::config::Tls;
use crate::ingest::connect::{Connection, Wire, connect};
use crate::ingest::feed::FeedError;
use crate::model::Transport;
use crate::sip::frame::{PING, PONG};
use crate::sip::{Frame, Framer};

/// An open way.
pub struct Link {
    /// Our end.
    pub local: SocketAddr,
    /// The notifier's end.
    pub peer: SocketAddr,
    way: Way,
}

enum Way {
    Udp { socket: UdpSocket, buffer: Vec<u8> },
    Stream(Stream),
}

struct Stream {
    wire: Box<dyn Wire>,
    framer: Framer,
    buffer: BytesMut,
    ping: Interval,
}

impl Link {
    /// Opens the way to `address` (`HOST:PORT`); `tls` says how a certificate is checked over TLS.
    ///
    /// # Errors
    /// When the host has no address or can't be reached, and as [`connect`].
    pub async fn open(address: &str, transport: Transport, tls: Tls) -> Result<Self, FeedError> {
        if transport != Transport::Udp {
            let Connection { wire, local, peer } = connect(address, tls).await?;
            return Ok(Self { local, peer, way: Way::Stream(Stream::new(wire, PING_EVERY)) });
        }
        let found = timeout(OPEN_WAIT, lookup_host(address)).await;
        let peer = found.ok().and_then(|addresses| addresses.ok()?.next());
        let peer = peer.ok_or_else(|| FeedError::Broken(format!("{address} has no address")))?;
        let opened = async {
            let any = if peer.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
            let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
            socket.connect(peer).await?;
            Ok((socket.local_addr()?, Way::Udp { socket, buffer: vec![0; DATAGRAM_LEN_MAX] }))
        };
        let (local, way) = opened.await.map_err(|error| broken(&error))?;
        Ok(Self { local, peer, way })
    }

    /// The next message. Dropping the future loses nothing.
    ///
    /// # Errors
    /// When the connection broke, or nobody listens at the other end.
    pub async fn receive(&mut self) -> Result<Bytes, FeedError> {
        match &mut self.way {
            Way::Udp { socket, buffer } => {
                let length = socket.recv(buffer).await.map_err(|error| broken(&error))?;
                Ok(Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default()))
            }
            Way::Stream(stream) => stream.receive().await,
        }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// As [`Link::receive`], and when a stream does not take it.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), FeedError> {
        let sent = match &mut self.way {
            Way::Udp { socket, .. } => socket.send(bytes).await.map(drop),
            Way::Stream(stream) => match timeout(SEND_WAIT, stream.send(bytes)).await {
                Ok(sent) => sent,
                Err(_) => return Err(FeedError::Broken("the PBX takes nothing any more".into())),
            },
        };
        sent.map_err(|error| broken(&error))
    }

    /// Sends a message if that can be done at once.
    pub fn send_now(&mut self, bytes: &[u8]) {
        match &mut self.way {
            // There is nobody left to tell that it did not work.
            Way::Udp { socket, .. } => drop(socket.try_send(bytes)),
            Way::Stream(stream) => stream.send_now(bytes),
        }
    }
}

impl Stream {
    fn new(wire: Box<dyn Wire>, ping_every: Duration) -> Self {
        let mut ping = interval_at(Instant::now() + ping_every, ping_every);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { wire, framer: Framer::new(), buffer: BytesMut::new(), ping }
    }

    async fn receive(&mut self) -> Result<Bytes, FeedError> {
        loop {
            match self.framer.next() {
                Some(Ok(Frame::Message(bytes))) => return Ok(bytes),
                Some(Ok(Frame::Ping)) => self.send_now(PONG),
                Some(Err(error)) => return Err(FeedError::Broken(format!("what came is no SIP: {error}"))),
                None => self.read().await?,
            }
        }
    }

    /// Reads what there is, and keeps the connection alive until there is something.
    async fn read(&mut self) -> Result<(), FeedError> {
        self.buffer.clear();
        self.buffer.reserve(READ_LEN);
        tokio::select! {
            read = self.wire.read_buf(&mut self.buffer) => match read {
                Ok(0) => return Err(FeedError::Gone("the PBX closed the connection".into())),
                Ok(_) => self.framer.push(&self.buffer),
                Err(error) => return Err(broken(&error)),
            },
            _ = self.ping.tick() => self.send_now(PING),
        }
        Ok(())
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.write_all(bytes).await?;
        self.wire.flush().await
    }

    /// Sends what the wire takes without waiting: keepalives, of which any part is harmless, and last words.
    fn send_now(&mut self, bytes: &[u8]) {
        let mut context = Context::from_waker(Waker::noop());
        let _ = Pin::new(&mut self.wire).poll_write(&mut context, bytes);
        let _ = Pin::new(&mut self.wire).poll_flush(&mut context);
    }
}

fn broken(error: &io::Error) -> FeedError {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => FeedError::Gone("nobody listens there".into()),
        io::ErrorKind::ConnectionReset => FeedError::Gone("the PBX reset the connection".into()),
        // TLS that ends without its goodbye.
        io::ErrorKind::UnexpectedEof => FeedError::Gone("the PBX cut the connection".into()),
        _ => FeedError::Broken(error.to_string()),
    }
}

const OPEN_WAIT: Duration = Duration::from_secs(10);
const SEND_WAIT: Duration = Duration::from_secs(10);
/// Kamailio closes a connection that was silent for two minutes; RFC 5626 §4.4.1 has a ping for that.
const PING_EVERY: Duration = Duration::from_mins(1);
const DATAGRAM_LEN_MAX: usize = 65_535;
const READ_LEN: usize = 8_192;

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn a_silent_connection_is_kept_alive() {
        let (ours, mut theirs) = duplex(1_024);
        let mut stream = Stream::new(Box::new(ours), Duration::from_millis(20));
        let following = tokio::spawn(async move { stream.receive().await.map(|bytes| bytes.len()) });
        let mut heard = [0; 4];
        theirs.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, PING);
        theirs.write_all(PONG).await.unwrap();
        theirs.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, PING, "and again");
        let message = "OPTIONS sip:a SIP/2.0\r\nContent-Length: 0\r\n\r\n";
        theirs.write_all(message.as_bytes()).await.unwrap();
        assert_eq!(following.await.unwrap().unwrap(), message.len());
    }
}
