//! Sockets that are open before we start and stay open when we end (systemd's socket units, `sd_listen_fds(3)`): what is
//! sent to them while nobody serves them waits in the system, so a restart loses no datagram and refuses no connection.
//!
//! Which socket is whose is told by its address and by whether it is for datagrams: a configured address that was handed
//! over is taken, any other is opened by ourselves. One that nobody has configured is a mistake worth an end: it would
//! swallow what is sent to it.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use listenfd::ListenFd;
use socket2::SockRef;

/// The sockets that were handed over and not taken yet.
#[derive(Debug, Default)]
pub struct Handed(Vec<Handover>);

/// Why what was handed over can't be used. One line.
#[derive(Debug, thiserror::Error)]
pub enum HandedError {
    /// It is nothing we can listen on.
    #[error("the service manager handed over {name:?}, which is no UDP or TCP socket: {reason}")]
    NoSocket {
        /// Its name (`FileDescriptorName=`).
        name: String,
        /// Why not.
        reason: String,
    },
    /// It takes IPv4 as well.
    #[error("the socket {name:?} at {address} takes IPv4 as well; set BindIPv6Only=ipv6-only in its socket unit")]
    DualStack {
        /// Its name.
        name: String,
        /// Its address.
        address: SocketAddr,
    },
    /// Nothing of the configuration listens there.
    #[error("the service manager handed over {}, and nothing in the configuration listens there: \
        take it out of the socket unit, or add the address to a listener, http.listen or ops.listen", .0.join(", "))]
    Unwanted(Vec<String>),
}

#[derive(Debug)]
struct Handover {
    name: String,
    address: SocketAddr,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Udp(UdpSocket),
    Tcp(TcpListener),
}

impl Handed {
    /// What `$LISTEN_FDS` says, if `$LISTEN_PID` says that it is meant for us. Call it once, before there are threads: it
    /// takes these variables out of the environment.
    ///
    /// # Errors
    /// [`HandedError`], when one of them is nothing we can listen on.
    pub fn from_environment() -> Result<Self, HandedError> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut descriptors = ListenFd::from_env();
        let mut names = names.split(':');
        let handed = (0..descriptors.len()).map(|index| {
            // systemd gives each the name of its unit when it has none of its own.
            let name = names.next().filter(|name| !name.is_empty()).unwrap_or("unknown").to_owned();
            take(&mut descriptors, index, name)
        });
        handed.collect::<Result<_, _>>().map(Self)
    }

    /// The UDP socket at `address`, if it was handed over.
    pub fn udp(&mut self, address: SocketAddr) -> Option<UdpSocket> {
        let is_it = |one: &Handover| one.address == address && matches!(one.socket, Socket::Udp(_));
        match self.take(is_it)? {
            Socket::Udp(socket) => Some(socket),
            Socket::Tcp(_) => None,
        }
    }

    /// The TCP socket that listens at `address`, if it was handed over.
    pub fn tcp(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let is_it = |one: &Handover| one.address == address && matches!(one.socket, Socket::Tcp(_));
        match self.take(is_it)? {
            Socket::Tcp(socket) => Some(socket),
            Socket::Udp(_) => None,
        }
    }

    /// How many are left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is left, or none was handed over at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everything that listens has taken what is its own.
    ///
    /// # Errors
    /// [`HandedError::Unwanted`] with what is left.
    pub fn finish(self) -> Result<(), HandedError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let left = self.0.iter().map(|one| {
            let kind = if matches!(one.socket, Socket::Udp(_)) { "udp" } else { "tcp" };
            format!("{kind}:{} ({})", one.address, one.name)
        });
        Err(HandedError::Unwanted(left.collect()))
    }

    fn take(&mut self, is_it: impl Fn(&Handover) -> bool) -> Option<Socket> {
        let index = self.0.iter().position(is_it)?;
        Some(self.0.swap_remove(index).socket)
    }
}

fn take(descriptors: &mut ListenFd, index: usize, name: String) -> Result<Handover, HandedError> {
    let socket = match descriptors.take_udp_socket(index) {
        Ok(Some(socket)) => Ok(Socket::Udp(socket)),
        _ => match descriptors.take_tcp_listener(index) {
            Ok(Some(socket)) => Ok(Socket::Tcp(socket)),
            Ok(None) => Err("it is taken".to_owned()),
            Err(error) => Err(error.to_string()),
        },
    };
    let adopted = socket.and_then(|socket| Ok((socket.adopt().map_err(|error| error.to_string())?, socket)));
    let ((address, is_dual), socket) =
        adopted.map_err(|reason| HandedError::NoSocket { name: name.clone(), reason })?;
    if is_dual {
        return Err(HandedError::DualStack { name, address });
    }
    Ok(Handover { name, address, socket })
}

impl Socket {
    /// Makes it one for a runtime; where it listens, and whether that is both families at once: peers would then show
    /// under mapped addresses, which no `networks` hold.
    fn adopt(&self) -> io::Result<(SocketAddr, bool)> {
        let (socket, address) = match self {
            Self::Udp(socket) => (SockRef::from(socket), socket.local_addr()?),
            Self::Tcp(socket) => (SockRef::from(socket), socket.local_addr()?),
        };
        if matches!(self, Self::Tcp(_)) && socket.peer_addr().is_ok() {
            return Err(io::Error::other("it is a connection; Accept=no is what we need"));
        }
        socket.set_nonblocking(true)?;
        let is_dual = address.is_ipv6() && address.ip().is_unspecified() && !socket.only_v6()?;
        Ok((address, is_dual))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handover(name: &str, socket: Socket) -> Handover {
        let (address, _) = socket.adopt().unwrap();
        Handover { name: name.to_owned(), address, socket }
    }

    #[test]
    fn a_socket_goes_to_whoever_has_its_address_and_kind_and_what_is_left_is_named() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let other = udp.local_addr().unwrap();
        let mut handed = Handed(vec![handover("a", Socket::Tcp(tcp)), handover("hep", Socket::Udp(udp))]);
        assert!(handed.udp(address).is_none() && handed.tcp(other).is_none());
        assert_eq!(handed.tcp(address).unwrap().local_addr().unwrap(), address);
        assert!(handed.tcp(address).is_none(), "it is taken");
        let left = handed.finish().unwrap_err().to_string();
        assert!(left.contains(&format!("udp:{other} (hep)")) && !left.contains('\n'), "{left}");
        assert!(Handed::default().finish().is_ok());
    }

    #[test]
    fn one_for_both_families_and_one_that_is_a_connection_are_told_apart() {
        let both = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::DGRAM, None).unwrap();
        both.set_only_v6(false).unwrap();
        both.bind(&"[::]:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        assert!(Socket::Udp(both.into()).adopt().unwrap().1);
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        let connection = std::net::TcpStream::connect(door.local_addr().unwrap()).unwrap();
        assert!(Socket::Tcp(socket2::Socket::from(connection).into()).adopt().is_err());
    }
}
