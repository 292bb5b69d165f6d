//! The ways to the phone of a binding: the connection it registered over, or the UDP sockets and addresses to try.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use smallvec::SmallVec;
use tokio::net::UdpSocket;

use crate::model::{Binding, Transport};
use crate::sip::syntax::list;
use crate::sip::{NameAddr, Scheme, Uri};

use super::mail::Mail;
use super::reload::Admission;

/// The UDP sockets of registrars.
#[derive(Default)]
pub(super) struct Doors(RwLock<Vec<Arc<Door>>>);

/// One of them.
pub(super) struct Door {
    socket: Arc<UdpSocket>,
    local: SocketAddr,
    admission: Admission,
}

/// A way to a phone.
#[derive(Clone)]
pub(super) enum Way {
    /// From this socket to that address.
    Udp(Arc<Door>, SocketAddr),
    /// Over an open connection.
    Flow(Arc<Mail>),
}

impl Doors {
    /// Notes a socket of a listener; its number.
    ///
    /// # Errors
    /// When the system can't say where it listens.
    pub(super) fn open(&self, socket: &Arc<UdpSocket>, admission: &Admission) -> io::Result<Option<u16>> {
        let door = Door { socket: socket.clone(), local: socket.local_addr()?, admission: admission.clone() };
        let mut doors = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let number = u16::try_from(doors.len()).ok();
        doors.extend(number.map(|_| Arc::new(door)));
        Ok(number)
    }

    /// The ways over UDP to the phone of `binding`, whose REGISTER came to the socket `number`. Where that was before our
    /// start, each socket that may have been it.
    pub(super) fn ways(&self, binding: &Binding, number: Option<u16>) -> SmallVec<[Way; 2]> {
        let doors = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let known = number.and_then(|number| doors.get(usize::from(number)));
        let mut ways = SmallVec::new();
        for to in addresses(binding) {
            let fits = |door: &&Arc<Door>| door.local.is_ipv4() == to.is_ipv4() && door.admission.admits(to.ip());
            match known {
                Some(door) => ways.extend(Some(door).filter(fits).map(|door| Way::Udp(door.clone(), to))),
                None => ways.extend(doors.iter().filter(fits).map(|door| Way::Udp(door.clone(), to))),
            }
        }
        ways.truncate(WAYS_MAX);
        ways
    }
}

impl Way {
    /// Sends what was written for it. False when it could not be sent at all: who is beyond it never had a chance.
    pub(super) fn send(&self, bytes: &Arc<[u8]>) -> bool {
        match self {
            Self::Flow(mail) => mail.post(bytes.clone()),
            Self::Udp(door, to) => match door.socket.try_send_to(bytes, *to) {
                // As if it were lost on the way; it is sent again.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
                sent => sent.is_ok(),
            },
        }
    }

    /// The address that answers come to.
    pub(super) fn local(&self) -> SocketAddr {
        match self {
            Self::Flow(mail) => mail.local,
            Self::Udp(door, to) if door.local.ip().is_unspecified() => {
                SocketAddr::new(local_toward(*to).unwrap_or(door.local.ip()), door.local.port())
            }
            Self::Udp(door, _) => door.local,
        }
    }

    /// The address that answers come from.
    pub(super) fn peer(&self) -> SocketAddr {
        match self {
            Self::Flow(mail) => mail.peer,
            Self::Udp(_, to) => *to,
        }
    }

    /// Whether what was sent arrives or the connection is closed.
    pub(super) fn is_reliable(&self) -> bool {
        matches!(self, Self::Flow(_))
    }
}

/// Which of our addresses packets to `to` come from. Nothing is sent.
fn local_toward(to: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = std::net::UdpSocket::bind((any, 0)).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// The addresses to try in turn; none when the phone registered over a connection.
///
/// Behind NAT a phone is where its REGISTER came from. One that sends from another port than it listens at is where its
/// Contact says; and a proxy that wrote a Path (RFC 3327) is where that says. But nothing goes to an IP address that
/// no REGISTER came from: else one REGISTER would have us send to anybody.
fn addresses(binding: &Binding) -> SmallVec<[SocketAddr; 2]> {
    let mut found = SmallVec::new();
    let Some(received) = binding.received.filter(|_| binding.transport == Transport::Udp) else { return found };
    let top = binding.path.as_deref().and_then(|path| NameAddr::parse(list(path).next()?, "Path").ok());
    if binding.path.is_some() {
        found.push(top.and_then(|top| named(&top.uri, received.ip())).unwrap_or(received));
        return found;
    }
    found.push(received);
    let contact = Uri::parse(&binding.contact).ok().and_then(|uri| named(&uri, received.ip()));
    found.extend(contact.filter(|contact| *contact != received));
    found
}

/// The address that a URI names, if it is one over UDP at `ip`.
fn named(uri: &Uri<'_>, ip: IpAddr) -> Option<SocketAddr> {
    let host: IpAddr = uri.host.trim_matches(['[', ']']).parse().ok()?;
    let over_udp = uri.param("transport").is_none_or(|transport| transport.eq_ignore_ascii_case("udp"));
    (uri.scheme == Scheme::Sip && host == ip && over_udp).then(|| SocketAddr::new(ip, uri.port.unwrap_or(SIP_PORT)))
}

/// Each is tried in turn, so that a phone that is gone is missed as many times as often.
const WAYS_MAX: usize = 8;
/// RFC 3261 §19.1.2.
const SIP_PORT: u16 = 5060;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BindingSource, Tick, UnixMillis};

    fn binding(contact: &str, received: &str, path: Option<&str>) -> Binding {
        Binding {
            contact: contact.into(),
            expires_at: Tick(70_000),
            q: 1000,
            transport: Transport::Udp,
            source: BindingSource::Registrar,
            cseq: 1,
            call_id: "a@phone.example".into(),
            received: received.parse().ok(),
            user_agent: None,
            path: path.map(Into::into),
            instance: None,
            reg_id: None,
            refreshed_at: UnixMillis(0),
        }
    }

    fn all(binding: &Binding) -> Vec<String> {
        addresses(binding).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_phone_is_asked_where_its_register_came_from_and_at_the_port_it_names() {
        for (contact, received, expected) in [
            ("sip:101@192.0.2.7:5062", "192.0.2.7:5062", &["192.0.2.7:5062"][..]),
            ("sip:101@192.0.2.7", "192.0.2.7:40000", &["192.0.2.7:40000", "192.0.2.7:5060"]),
            ("sip:101@10.0.0.7:5062", "192.0.2.7:40000", &["192.0.2.7:40000"]),
            ("sip:101@phone.local", "192.0.2.7:40000", &["192.0.2.7:40000"]),
            ("sip:101@192.0.2.7;transport=tcp", "192.0.2.7:40000", &["192.0.2.7:40000"]),
            ("sip:101@[2001:db8::7]:5062", "[2001:db8::7]:40000", &["[2001:db8::7]:40000", "[2001:db8::7]:5062"]),
        ] {
            assert_eq!(all(&binding(contact, received, None)), expected, "{contact}");
        }
    }

    #[test]
    fn behind_a_path_the_proxy_is_asked_and_never_another_address_than_its_own() {
        for (path, expected) in [
            ("<sip:192.0.2.1:5070;lr>, <sip:203.0.113.1;lr>", "192.0.2.1:5070"),
            ("<sip:edge.example;lr>", "192.0.2.1:5080"),
            ("<sip:198.51.100.9;lr>", "192.0.2.1:5080"),
            ("<sip:192.0.2.1;transport=tcp;lr>", "192.0.2.1:5080"),
        ] {
            assert_eq!(all(&binding("sip:101@10.0.0.7", "192.0.2.1:5080", Some(path))), [expected], "{path}");
        }
    }

    #[test]
    fn a_phone_on_a_connection_is_asked_over_no_socket() {
        let mut binding = binding("sip:101@192.0.2.7", "192.0.2.7:5060", None);
        for transport in [Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss] {
            binding.transport = transport;
            assert!(addresses(&binding).is_empty());
        }
    }
}
