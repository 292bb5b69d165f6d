//! From the link layer to the IP packet in it.

use super::Skipped;

/// The IP packet in a captured frame; none, counted, when there is none or it can't be found.
pub(super) fn ip_packet<'a>(link: u32, frame: &'a [u8], skipped: &mut Skipped) -> Option<&'a [u8]> {
    let found = match link {
        ETHERNET => after_ethernet(frame),
        LINUX_SLL => u16_at(frame, 14).and_then(|ethertype| after_ethertype(ethertype, frame.get(16..)?)),
        LINUX_SLL2 => u16_at(frame, 0).and_then(|ethertype| after_ethertype(ethertype, frame.get(20..)?)),
        NULL | LOOP => after_family(frame),
        RAW | RAW_OLD | RAW_BSD | IPV4 | IPV6 => Some(frame),
        PPP => after_ppp(frame.strip_prefix(&[0xff, 0x03]).unwrap_or(frame)),
        PPPOE => after_pppoe(frame),
        _ => {
            skipped.link_type += 1;
            return None;
        }
    };
    let packet = found.filter(|packet| matches!(packet.first().map(|byte| byte >> 4), Some(4 | 6)));
    if packet.is_none() {
        skipped.not_ip += 1;
    }
    packet
}

/// Destination, source, then an ethertype or, below 1536, the length of an LLC frame.
fn after_ethernet(frame: &[u8]) -> Option<&[u8]> {
    let ethertype = u16_at(frame, 12)?;
    let rest = frame.get(14..)?;
    match (ethertype, rest) {
        (0..1536, [0xaa, 0xaa, 0x03, _, _, _, high, low, rest @ ..]) => {
            after_ethertype(u16::from_be_bytes([*high, *low]), rest)
        }
        _ => after_ethertype(ethertype, rest),
    }
}

/// Steps over VLAN tags (one, or two as in Q-in-Q), MPLS labels and a session of `PPPoE`.
fn after_ethertype(mut ethertype: u16, mut rest: &[u8]) -> Option<&[u8]> {
    for _ in 0..TAGS_MAX {
        match ethertype {
            IP4 | IP6 => return Some(rest),
            VLAN | QINQ | QINQ_OLD | QINQ_OLDER => {
                ethertype = u16_at(rest, 2)?;
                rest = rest.get(4..)?;
            }
            MPLS | MPLS_MULTICAST => {
                let is_last = rest.get(2)? & 1 == 1;
                rest = rest.get(4..)?;
                if is_last {
                    return Some(rest);
                }
            }
            PPPOE_SESSION => return after_pppoe(rest),
            _ => return None,
        }
    }
    None
}

/// Version and type, code, session, length; then PPP.
fn after_pppoe(frame: &[u8]) -> Option<&[u8]> {
    let session = frame.get(1) == Some(&0);
    after_ppp(frame.get(6..).filter(|_| session)?)
}

/// A protocol number, which may be shortened to one byte.
fn after_ppp(frame: &[u8]) -> Option<&[u8]> {
    match frame {
        [0x00, 0x21 | 0x57, rest @ ..] | [0x21 | 0x57, rest @ ..] => Some(rest),
        _ => None,
    }
}

/// An address family as the machine it was captured on numbers it, in that machine's byte order.
fn after_family(frame: &[u8]) -> Option<&[u8]> {
    let (family, rest) = frame.split_first_chunk::<4>()?;
    let families = [u32::from_le_bytes(*family), u32::from_be_bytes(*family)];
    families.iter().any(|family| FAMILIES.contains(family)).then_some(rest)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_be_bytes)
}

const NULL: u32 = 0;
const ETHERNET: u32 = 1;
const PPP: u32 = 9;
const RAW_OLD: u32 = 12;
const RAW_BSD: u32 = 14;
const PPPOE: u32 = 51;
const RAW: u32 = 101;
const LOOP: u32 = 108;
const LINUX_SLL: u32 = 113;
const IPV4: u32 = 228;
const IPV6: u32 = 229;
const LINUX_SLL2: u32 = 276;

const IP4: u16 = 0x0800;
const IP6: u16 = 0x86dd;
const VLAN: u16 = 0x8100;
const QINQ: u16 = 0x88a8;
const QINQ_OLD: u16 = 0x9100;
const QINQ_OLDER: u16 = 0x9200;
const MPLS: u16 = 0x8847;
const MPLS_MULTICAST: u16 = 0x8848;
const PPPOE_SESSION: u16 = 0x8864;
/// Tags and labels one within the other.
const TAGS_MAX: usize = 8;
/// `AF_INET`, and `AF_INET6` on Linux, NetBSD, FreeBSD and macOS.
const FAMILIES: [u32; 5] = [2, 10, 24, 28, 30];
