//! Header values as feeds write them, for bindings we are told of.

use std::net::{IpAddr, SocketAddr};

use crate::model::Transport;
use crate::sip::{Message, Name, Uri};

/// All Path values of a message as one comma list, as received; none when there is none or it is too long to keep.
pub(super) fn path(message: &Message<'_>) -> Option<String> {
    let values: Vec<&str> = message.headers(Name::Path).collect();
    Some(values.join(", ")).filter(|path| !path.is_empty() && path.len() <= PATH_LEN_MAX)
}

/// The `transport` parameter of a URI.
pub(super) fn transport(text: &str) -> Option<Transport> {
    match text.to_ascii_lowercase().as_str() {
        "udp" => Some(Transport::Udp),
        "tcp" => Some(Transport::Tcp),
        "tls" => Some(Transport::Tls),
        "ws" => Some(Transport::Ws),
        "wss" => Some(Transport::Wss),
        _ => None,
    }
}

/// Kamailio's `received` parameter of a Contact: a quoted URI that holds the address the REGISTER came from.
pub(super) fn received(text: &str) -> Option<SocketAddr> {
    let uri = Uri::parse(text.trim_matches('"')).ok()?;
    let host = uri.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(uri.host);
    let address: IpAddr = host.parse().ok()?;
    Some(SocketAddr::new(address, uri.port.unwrap_or(5060)))
}

/// `+sip.instance` without quotes and angle brackets.
pub(super) fn instance(text: &str) -> &str {
    text.trim_matches('"').trim_start_matches('<').trim_end_matches('>')
}

const PATH_LEN_MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kamailios_received_parameter_is_an_address() {
        assert_eq!(received("\"sip:192.0.2.7:5066;transport=TCP\""), Some("192.0.2.7:5066".parse().unwrap()));
        assert_eq!(received("\"sip:[2001:db8::1]:5066\""), Some("[2001:db8::1]:5066".parse().unwrap()));
        assert_eq!(received("sip:192.0.2.7"), Some("192.0.2.7:5060".parse().unwrap()));
        assert_eq!(received("sip:phone.example"), None);
        assert_eq!(received(""), None);
    }

    #[test]
    fn an_instance_loses_its_wrapping() {
        assert_eq!(
            instance("\"<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>\""),
            "urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF"
        );
    }
}
