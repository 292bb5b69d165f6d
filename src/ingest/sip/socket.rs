//! Sockets as a SIP server wants them: big buffers, IPv6 apart from IPv4, and an error an operator can act on.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::datagrams::count_lost;
use crate::activation::Handed;
use crate::config::{self, Bind, Limits};

/// A bound socket that is not served yet: all are bound before the first is served, so that a taken port stops the
/// start before anything was answered.
#[derive(Debug)]
pub enum Bound {
    /// For datagrams.
    Udp(UdpSocket, Opened),
    /// For connections, and what is spoken over them.
    Stream(TcpListener, config::Protocol),
}

/// Who opened a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// We.
    Here,
    /// The service manager, which keeps it: it may have had an earlier life, and its buffers are what its unit says.
    Before,
}

/// Why a listener can't listen: one line that names the key to change.
#[derive(Debug, thiserror::Error)]
#[error("listeners.{listener}.bind: can't listen on {bind}: {reason}")]
pub struct BindError {
    listener: String,
    bind: Bind,
    reason: String,
    /// What the system said.
    pub kind: io::ErrorKind,
}

/// One address of `listener`: the socket that was handed over for it, else one that is bound now.
///
/// # Errors
/// When the address is taken, is not ours, or needs rights we have not.
pub fn bind(listener: &str, bind: Bind, limits: &Limits, handed: &mut Handed) -> Result<Bound, BindError> {
    let bound = match bind.protocol {
        config::Protocol::Udp => match handed.udp(bind.address) {
            Some(socket) => Ok(Bound::Udp(socket, Opened::Before)),
            None => udp(bind.address, limits).map(|socket| Bound::Udp(socket, Opened::Here)),
        },
        protocol => match handed.tcp(bind.address) {
            Some(socket) => Ok(Bound::Stream(socket, protocol)),
            None => tcp(bind.address).map(|socket| Bound::Stream(socket, protocol)),
        },
    };
    if let Ok(Bound::Udp(socket, _)) = &bound {
        count_lost(socket);
    }
    bound.map_err(|error| BindError {
        listener: listener.to_owned(),
        bind,
        reason: match error.kind() {
            io::ErrorKind::AddrInUse => "another program has this port; choose another one".into(),
            io::ErrorKind::AddrNotAvailable => "no interface of this host has this address".into(),
            io::ErrorKind::PermissionDenied => "ports below 1024 need the right to bind them".into(),
            _ => error.to_string(),
        },
        kind: error.kind(),
    })
}

/// Tells the operator when the system grants a socket less room than was asked for.
pub fn note_receive_buffer(listener: &str, socket: &UdpSocket, opened: Opened, limits: &Limits) {
    // Linux grants twice what may be asked for, to hold its own notes as well.
    let granted_kib = SockRef::from(socket).recv_buffer_size().unwrap_or_default() / 2048;
    let wanted_kib = usize::try_from(limits.receive_buffer_kib).unwrap_or(usize::MAX);
    if granted_kib < wanted_kib {
        // What the service manager has opened is not changed: it may grant more than we are allowed to ask for.
        let remedy = match opened {
            Opened::Here => "raise net.core.rmem_max, or lower limits.receive_buffer_kib",
            Opened::Before => "set ReceiveBuffer= in its socket unit, or lower limits.receive_buffer_kib",
        };
        tracing::info!(listener, granted_kib, wanted_kib, remedy, "a small receive buffer loses bursts of UDP");
    }
}

impl Bound {
    /// Where it really listens, also when port 0 was asked for.
    ///
    /// # Errors
    /// When the system can't say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Udp(socket, _) => socket.local_addr(),
            Self::Stream(socket, _) => socket.local_addr(),
        }
    }
}

fn udp(address: SocketAddr, limits: &Limits) -> io::Result<UdpSocket> {
    let socket = open(address, Type::DGRAM, Protocol::UDP)?;
    // The system's limits silently cut these; a burst after a restart wants all it can get.
    let wanted_kib = usize::try_from(limits.receive_buffer_kib).unwrap_or(usize::MAX);
    socket.set_recv_buffer_size(wanted_kib.saturating_mul(1024))?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = open(address, Type::STREAM, Protocol::TCP)?;
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn open(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        // Else [::] would take the IPv4 port as well, and peers would show as mapped addresses.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

const SEND_BUFFER_BYTES: usize = 8 * 1024 * 1024;
const BACKLOG: i32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn free(text: &str) -> Bind {
        text.parse().unwrap()
    }

    fn limits() -> Limits {
        config::Config::default().limits
    }

    #[test]
    fn the_receive_buffer_is_as_large_as_asked_for_or_as_the_system_grants() {
        let small = Limits { receive_buffer_kib: 128, ..limits() };
        let bound = bind("registrar", free("udp:127.0.0.1:0"), &small, &mut Handed::default()).unwrap();
        let Bound::Udp(socket, Opened::Here) = bound else { unreachable!() };
        assert_eq!(Socket::from(socket).recv_buffer_size().unwrap(), 2 * 128 * 1024);
    }

    #[test]
    fn a_taken_port_is_one_line_that_names_the_key() {
        let mut none = Handed::default();
        let first = bind("registrar", free("udp:127.0.0.1:0"), &limits(), &mut none).unwrap();
        let taken = Bind { address: first.address().unwrap(), ..free("udp:127.0.0.1:0") };
        let error = bind("office", taken, &limits(), &mut none).unwrap_err();
        assert_eq!(error.kind, io::ErrorKind::AddrInUse);
        let text = error.to_string();
        assert!(text.starts_with("listeners.office.bind: can't listen on udp:127.0.0.1:"), "{text}");
        assert!(text.contains("another program has this port") && !text.contains('\n'), "{text}");
    }

    #[test]
    fn both_families_can_have_one_port() {
        let mut none = Handed::default();
        let v6 = bind("a", free("tcp:[::]:0"), &limits(), &mut none).unwrap();
        let port = v6.address().unwrap().port();
        bind("a", free(&format!("tcp:0.0.0.0:{port}")), &limits(), &mut none).unwrap();
    }
}
