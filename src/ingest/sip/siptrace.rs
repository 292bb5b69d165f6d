//! What Kamailio's siptrace writes into a plain copy (`xheaders_write`): where the original came from and went.

use std::net::SocketAddr;

use crate::model::Hop;
use crate::sip::Message;

/// The original's way. Everything is absent from a copy without these headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Original {
    pub source: Option<SocketAddr>,
    pub destination: Option<SocketAddr>,
    pub hop: Hop,
}

impl Original {
    /// Reads `X-Siptrace-Fromip`, `-Toip` (`udp:192.0.2.1:5060`) and `-Dir` (`in`, `out`, seen from the PBX).
    pub(super) fn of(message: &Message<'_>) -> Self {
        let mut original = Self { source: None, destination: None, hop: Hop::Unknown };
        for (name, value) in message.extensions() {
            let Some(field) = name.get(..PREFIX.len()).filter(|start| start.eq_ignore_ascii_case(PREFIX)) else {
                continue;
            };
            match name.get(field.len()..).unwrap_or_default().to_ascii_lowercase().as_str() {
                "fromip" => original.source = address(value),
                "toip" => original.destination = address(value),
                "dir" if value.eq_ignore_ascii_case("in") => original.hop = Hop::ToPbx,
                "dir" if value.eq_ignore_ascii_case("out") => original.hop = Hop::FromPbx,
                _ => {}
            }
        }
        original
    }
}

fn address(value: &str) -> Option<SocketAddr> {
    let (_, address) = value.trim().split_once(':')?;
    address.parse().ok()
}

const PREFIX: &str = "X-Siptrace-";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::scan;

    fn original(headers: &str) -> Original {
        let text = format!("OPTIONS sip:a SIP/2.0\r\n{headers}\r\n");
        Original::of(&scan(text.as_bytes()).unwrap())
    }

    #[test]
    fn the_original_addresses_and_direction_are_read() {
        let read = original(
            "X-Siptrace-Fromip: udp:192.0.2.7:5060\r\nX-Siptrace-Toip: tcp:[2001:db8::1]:5070\r\nX-Siptrace-Dir: in\r\n",
        );
        assert_eq!(read.source, Some("192.0.2.7:5060".parse().unwrap()));
        assert_eq!(read.destination, Some("[2001:db8::1]:5070".parse().unwrap()));
        assert_eq!(read.hop, Hop::ToPbx);
        assert_eq!(original("x-siptrace-dir: OUT\r\n").hop, Hop::FromPbx);
    }

    #[test]
    fn nothing_is_made_up_from_nonsense() {
        let nothing = Original { source: None, destination: None, hop: Hop::Unknown };
        assert_eq!(original(""), nothing);
        assert_eq!(original("X-Siptrace-Fromip: nowhere\r\nX-Siptrace-Dir: up\r\nX-Sip: a\r\n"), nothing);
    }
}
