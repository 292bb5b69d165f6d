//! IPv4 and IPv6 headers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// What the payload is; of a fragment, what the whole is.
    pub(super) protocol: u8,
    /// The sender's number of the packet, which its fragments share; none for IPv6 without fragments.
    pub(super) id: Option<u32>,
    /// Set when it is a part of a packet.
    pub(super) fragment: Option<Fragment>,
    pub(super) payload: &'a [u8],
    /// Less was captured than the packet had.
    pub(super) is_cut: bool,
}

/// Which part of a packet it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fragment {
    /// Where its payload belongs.
    pub(super) offset: usize,
    /// It is not the last one.
    pub(super) has_more: bool,
}

/// Reads the headers; none when they make no sense.
pub(super) fn read(bytes: &[u8]) -> Option<Packet<'_>> {
    match bytes.first()? >> 4 {
        4 => read_v4(bytes),
        6 => read_v6(bytes),
        _ => None,
    }
}

/// Steps over IPv6 extension headers in front of a payload of this protocol. Also of a packet whose fragments were put
/// together: what follows the fragment header came in pieces.
pub(super) fn without_extensions(mut protocol: u8, mut payload: &[u8]) -> Option<(u8, &[u8])> {
    for _ in 0..EXTENSIONS_MAX {
        let length = match protocol {
            HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY | HIP | SHIM6 => 8 + 8 * usize::from(*payload.get(1)?),
            AUTHENTICATION => 8 + 4 * usize::from(*payload.get(1)?),
            _ => return Some((protocol, payload)),
        };
        protocol = *payload.first()?;
        payload = payload.get(length..)?;
    }
    None
}

fn read_v4(bytes: &[u8]) -> Option<Packet<'_>> {
    let header = bytes.first_chunk::<20>()?;
    let header_len = usize::from(header[0] & 15) * 4;
    let claimed = usize::from(u16::from_be_bytes([header[2], header[3]]));
    // A packet that the network card will cut into segments has no length yet.
    let total = if claimed == 0 { bytes.len() } else { claimed };
    if header_len < 20 || total < header_len {
        return None;
    }
    let payload = bytes.get(header_len..total.min(bytes.len()))?;
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    let (offset, has_more) = (usize::from(fragment & 0x1fff) * 8, fragment & 0x2000 != 0);
    Some(Packet {
        source: Ipv4Addr::new(header[12], header[13], header[14], header[15]).into(),
        destination: Ipv4Addr::new(header[16], header[17], header[18], header[19]).into(),
        protocol: header[9],
        id: Some(u32::from(u16::from_be_bytes([header[4], header[5]]))),
        fragment: (offset > 0 || has_more).then_some(Fragment { offset, has_more }),
        payload,
        is_cut: total > bytes.len(),
    })
}

fn read_v6(bytes: &[u8]) -> Option<Packet<'_>> {
    let (header, rest) = bytes.split_first_chunk::<40>()?;
    let claimed = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let length = if claimed == 0 { rest.len() } else { claimed };
    let payload = rest.get(..length.min(rest.len()))?;
    let address = |at: usize| {
        let octets = header.get(at..)?.first_chunk::<16>()?;
        Some(IpAddr::V6(Ipv6Addr::from(*octets)))
    };
    let (mut protocol, mut payload) = without_extensions(header[6], payload)?;
    let (mut id, mut fragment) = (None, None);
    if protocol == FRAGMENT {
        let (header, rest) = payload.split_first_chunk::<8>()?;
        let place = u16::from_be_bytes([header[2], header[3]]);
        let (offset, has_more) = (usize::from(place & 0xfff8), place & 1 != 0);
        id = Some(u32::from_be_bytes([header[4], header[5], header[6], header[7]]));
        fragment = (offset > 0 || has_more).then_some(Fragment { offset, has_more });
        (protocol, payload) = (header[0], rest);
        if fragment.is_none() {
            (protocol, payload) = without_extensions(protocol, payload)?;
        }
    }
    let (source, destination) = (address(8)?, address(24)?);
    Some(Packet { source, destination, protocol, id, fragment, payload, is_cut: length > rest.len() })
}

pub(super) const IP_IN_IP: u8 = 4;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const IPV6_IN_IP: u8 = 41;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;
const HIP: u8 = 139;
const SHIM6: u8 = 140;
const EXTENSIONS_MAX: usize = 16;
