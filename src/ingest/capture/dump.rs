//! HEP packets in a file: each after its length, or back to back.

use super::file::{Broken, Place};
use super::source::Source;
use crate::sip::hep;

/// `[u32 big-endian length][packet]` over and over.
pub(super) struct Lengths;

/// Version 3 packets with nothing between them, as a capture agent writes them to a TCP connection.
pub(super) struct Plain;

impl Lengths {
    pub(super) fn advance(source: &mut Source) -> Result<Option<Place>, Broken> {
        let &[a, b, c, d, ..] = source.want(LENGTH_LEN)? else {
            return if source.data().is_empty() { Ok(None) } else { Err(Broken::Off) };
        };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > PACKET_LEN_MAX {
            return Err(Broken::Damaged("the length of no HEP packet"));
        }
        packet(source, LENGTH_LEN, LENGTH_LEN + length)
    }
}

impl Plain {
    pub(super) fn advance(source: &mut Source) -> Result<Option<Place>, Broken> {
        let begun = source.want(hep::HEADER_LEN)?;
        if begun.is_empty() {
            return Ok(None);
        }
        match hep::length(begun) {
            Ok(Some(length)) => packet(source, 0, length),
            Ok(None) => Err(Broken::Off),
            Err(_) => Err(Broken::Damaged("no HEP packet")),
        }
    }
}

fn packet(source: &mut Source, begin: usize, end: usize) -> Result<Option<Place>, Broken> {
    let bytes = source.want(end)?.get(begin..end).ok_or(Broken::Off)?;
    // What can't be decoded has no time of its own, and is counted where it is taken apart.
    let captured = hep::decode(bytes).ok().and_then(|packet| packet.captured);
    let at_us = captured.map(|(seconds, micros)| i64::from(seconds) * 1_000_000 + i64::from(micros));
    Ok(Some(Place { at_us, link: 0, begin, end, length: end }))
}

const LENGTH_LEN: usize = 4;
/// What a HEP packet's own length field can say, and what fits a datagram.
const PACKET_LEN_MAX: usize = 65_535;
