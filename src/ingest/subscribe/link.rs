//! The way to one notifier: a UDP socket that hears nobody else, or a TCP connection.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio::time::timeout;

use crate::ingest::feed::FeedError;
use crate::model::Transport;
use crate::sip::frame::PONG;
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
    Tcp { stream: TcpStream, framer: Framer, buffer: BytesMut },
}

impl Link {
    /// Opens the way to `address` (`HOST:PORT`).
    ///
    /// # Errors
    /// When the host has no address or can't be reached.
    pub async fn open(address: &str, transport: Transport) -> Result<Self, FeedError> {
        let found = timeout(OPEN_WAIT, lookup_host(address)).await;
        let peer = found.ok().and_then(|addresses| addresses.ok()?.next());
        let peer = peer.ok_or_else(|| FeedError::Broken(format!("{address} has no address")))?;
        let opened = async {
            if transport == Transport::Tcp {
                let stream = TcpStream::connect(peer).await?;
                stream.set_nodelay(true)?;
                let local = stream.local_addr()?;
                return Ok((local, Way::Tcp { stream, framer: Framer::new(), buffer: BytesMut::new() }));
            }
            let any = if peer.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
            let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
            socket.connect(peer).await?;
            Ok((socket.local_addr()?, Way::Udp { socket, buffer: vec![0; DATAGRAM_LEN_MAX] }))
        };
        match timeout(OPEN_WAIT, opened).await {
            Ok(Ok((local, way))) => Ok(Self { local, peer, way }),
            Ok(Err(error)) => Err(broken(&error)),
            Err(_) => Err(FeedError::Broken(format!("{peer} does not answer"))),
        }
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
            Way::Tcp { stream, framer, buffer } => loop {
                match framer.next() {
                    Some(Ok(Frame::Message(bytes))) => return Ok(bytes),
                    // What does not fit into the socket's buffer is a pong too many.
                    Some(Ok(Frame::Ping)) => drop(stream.try_write(PONG)),
                    Some(Err(error)) => return Err(FeedError::Broken(format!("what came is no SIP: {error}"))),
                    None => {
                        buffer.clear();
                        buffer.reserve(READ_LEN);
                        match stream.read_buf(buffer).await {
                            Ok(0) => return Err(FeedError::Gone("the PBX closed the connection".into())),
                            Ok(_) => framer.push(buffer),
                            Err(error) => return Err(broken(&error)),
                        }
                    }
                }
            },
        }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// As [`Link::receive`], and when a stream does not take it.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), FeedError> {
        let sent = match &mut self.way {
            Way::Udp { socket, .. } => socket.send(bytes).await.map(drop),
            Way::Tcp { stream, .. } => match timeout(SEND_WAIT, stream.write_all(bytes)).await {
                Ok(sent) => sent,
                Err(_) => return Err(FeedError::Broken("the PBX takes nothing any more".into())),
            },
        };
        sent.map_err(|error| broken(&error))
    }

    /// Sends a message if that can be done at once.
    pub fn send_now(&self, bytes: &[u8]) {
        // There is nobody left to tell that it did not work.
        match &self.way {
            Way::Udp { socket, .. } => drop(socket.try_send(bytes)),
            Way::Tcp { stream, .. } => drop(stream.try_write(bytes)),
        }
    }
}

fn broken(error: &io::Error) -> FeedError {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => FeedError::Gone("nobody listens there".into()),
        io::ErrorKind::ConnectionReset => FeedError::Gone("the PBX reset the connection".into()),
        _ => FeedError::Broken(error.to_string()),
    }
}

const OPEN_WAIT: Duration = Duration::from_secs(10);
const SEND_WAIT: Duration = Duration::from_secs(10);
const DATAGRAM_LEN_MAX: usize = 65_535;
const READ_LEN: usize = 8_192;
