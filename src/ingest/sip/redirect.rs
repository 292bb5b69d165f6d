//! The contacts of a 302: those a PBX can reach without us, best first.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use crate::model::{Binding, Now, Transport};
use crate::sip::Uri;

/// Contact header values for a 302. Pure.
///
/// Behind NAT a UDP phone is reached where its REGISTER came from; one with a Path (RFC 3327) through the Route that
/// the URI then carries (RFC 3261 §19.1.1, headers of a URI). What only answers on a connection that we alone hold is
/// left out: the PBX could not use it.
pub(super) fn contacts(bindings: &[Binding], now: Now) -> Vec<String> {
    let mut live: Vec<&Binding> = bindings.iter().filter(|binding| binding.expires_at > now.tick).collect();
    live.sort_by_key(|binding| std::cmp::Reverse(binding.q));
    live.into_iter().filter_map(|binding| contact(binding, now)).collect()
}

fn contact(binding: &Binding, now: Now) -> Option<String> {
    let uri = Uri::parse(&binding.contact).ok()?;
    let target = match &binding.path {
        Some(path) => with_route(&binding.contact, path),
        None => reachable(binding, &uri)?,
    };
    let seconds = (binding.expires_at - now.tick).div_ceil(1000);
    let mut value = format!("<{target}>;expires={seconds}");
    if binding.q < 1000 {
        // Thousandths, three digits; writing to a String can't fail.
        let _ = write!(value, ";q=0.{:03}", binding.q);
    }
    Some(value)
}

/// The URI under which the phone is reached from elsewhere.
fn reachable(binding: &Binding, uri: &Uri<'_>) -> Option<String> {
    let host: Option<IpAddr> = uri.host.trim_start_matches('[').trim_end_matches(']').parse().ok();
    match (binding.transport, binding.received) {
        (Transport::Ws | Transport::Wss, _) => None,
        _ if binding.reg_id.is_some() || uri.host.ends_with(".invalid") => None,
        (_, None) => Some(binding.contact.to_string()),
        (Transport::Udp, Some(received)) => {
            let direct = host == Some(received.ip()) && uri.port.unwrap_or(5060) == received.port();
            Some(if direct { binding.contact.to_string() } else { at(uri, received) })
        }
        // The same port means that the phone named its end of our connection, another address that NAT is between.
        (Transport::Tcp | Transport::Tls, Some(received)) => match host {
            Some(host) if host != received.ip() => None,
            Some(_) if uri.port == Some(received.port()) => None,
            _ => Some(binding.contact.to_string()),
        },
    }
}

/// The same URI with the host and port of `address`.
fn at(uri: &Uri<'_>, address: SocketAddr) -> String {
    let user = uri.user.map(|user| format!("{user}@")).unwrap_or_default();
    let params = uri.params.as_str().trim_start_matches(';');
    let separator = if params.is_empty() { "" } else { ";" };
    format!("sip:{user}{address}{separator}{params}")
}

fn with_route(contact: &str, path: &str) -> String {
    let separator = if contact.contains('?') { '&' } else { '?' };
    format!("{contact}{separator}Route={}", escaped(path))
}

/// As a header value in a URI (RFC 3261 §25.1, hvalue).
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()[]/?:+$".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BindingSource, Tick, UnixMillis};

    const NOW: Now = Now { tick: Tick(10_000), unix: UnixMillis(0) };

    fn binding(contact: &str, transport: Transport, received: &str) -> Binding {
        Binding {
            contact: contact.into(),
            expires_at: Tick(70_000),
            q: 1000,
            transport,
            source: BindingSource::Registrar,
            cseq: 1,
            call_id: "a@phone.example".into(),
            received: received.parse().ok(),
            user_agent: None,
            path: None,
            instance: None,
            reg_id: None,
            refreshed_at: UnixMillis(0),
        }
    }

    fn one(binding: Binding) -> Option<String> {
        contacts(&[binding], NOW).pop()
    }

    #[test]
    fn a_phone_in_sight_is_named_as_it_named_itself() {
        let direct = binding("sip:101@192.0.2.7:5060;ob", Transport::Udp, "192.0.2.7:5060");
        assert_eq!(one(direct).unwrap(), "<sip:101@192.0.2.7:5060;ob>;expires=60");
        let unknown = binding("sip:101@192.0.2.7", Transport::Udp, "");
        assert_eq!(one(unknown).unwrap(), "<sip:101@192.0.2.7>;expires=60");
    }

    #[test]
    fn behind_nat_the_received_address_is_named() {
        let nat = binding("sip:101@10.0.0.5:5060;transport=udp", Transport::Udp, "203.0.113.9:40000");
        assert_eq!(one(nat).unwrap(), "<sip:101@203.0.113.9:40000;transport=udp>;expires=60");
        let v6 = binding("sip:101@phone.local", Transport::Udp, "[2001:db8::9]:40000");
        assert_eq!(one(v6).unwrap(), "<sip:101@[2001:db8::9]:40000>;expires=60");
    }

    #[test]
    fn a_path_becomes_the_route() {
        let mut behind = binding("sip:101@10.0.0.5", Transport::Ws, "203.0.113.9:40000");
        behind.path = Some("<sip:edge.example;lr>".into());
        assert_eq!(one(behind).unwrap(), "<sip:101@10.0.0.5?Route=%3Csip:edge.example%3Blr%3E>;expires=60");
    }

    #[test]
    fn what_only_our_connection_reaches_is_left_out() {
        assert_eq!(one(binding("sip:101@df7jal23ls0d.invalid", Transport::Ws, "203.0.113.9:40000")), None);
        assert_eq!(one(binding("sip:101@10.0.0.5;transport=tcp", Transport::Tcp, "203.0.113.9:40000")), None);
        assert_eq!(one(binding("sip:101@192.0.2.7:40000;transport=tcp", Transport::Tcp, "192.0.2.7:40000")), None);
        let mut outbound = binding("sip:101@192.0.2.7", Transport::Udp, "192.0.2.7:5060");
        outbound.reg_id = Some(1);
        assert_eq!(one(outbound), None);
        assert!(one(binding("sip:101@192.0.2.7:5060;transport=tcp", Transport::Tcp, "192.0.2.7:40000")).is_some());
    }

    #[test]
    fn the_preferred_contact_comes_first_and_ended_ones_not_at_all() {
        let mut second = binding("sip:101@192.0.2.8", Transport::Udp, "192.0.2.8:5060");
        second.q = 300;
        let mut ended = binding("sip:101@192.0.2.9", Transport::Udp, "192.0.2.9:5060");
        ended.expires_at = Tick(10_000);
        let first = binding("sip:101@192.0.2.7", Transport::Udp, "192.0.2.7:5060");
        assert_eq!(
            contacts(&[second, ended, first], NOW),
            ["<sip:101@192.0.2.7>;expires=60", "<sip:101@192.0.2.8>;expires=60;q=0.300"]
        );
    }
}
