//! TCP segments.

use std::net::SocketAddr;

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Flow {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
}

/// A TCP segment.
#[derive(Clone, Copy)]
pub(super) struct Segment<'a> {
    pub(super) sequence: u32,
    pub(super) begins: bool,
    pub(super) finishes: bool,
    pub(super) resets: bool,
    pub(super) payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// Reads a TCP header; none when it makes no sense.
    pub(super) fn read(bytes: &'a [u8]) -> Option<(u16, u16, Self)> {
        let header = bytes.first_chunk::<20>()?;
        let payload = bytes.get(usize::from(header[12] >> 4).max(5) * 4..)?;
        let flag = |bit: u8| header[13] & bit != 0;
        let segment = Self {
            sequence: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            begins: flag(2),
            finishes: flag(1),
            resets: flag(4),
            payload,
        };
        Some((u16::from_be_bytes([header[0], header[1]]), u16::from_be_bytes([header[2], header[3]]), segment))
    }
}
