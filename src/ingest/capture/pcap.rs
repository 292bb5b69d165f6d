//! Capture files: libpcap's own format and pcapng, read by the `pcap-parser` crate a record at a time.

use std::io;

use pcap_parser::pcapng::{Block, parse_block_be, parse_block_le};
use pcap_parser::{
    PcapHeader, parse_pcap_frame, parse_pcap_frame_be, parse_pcap_frame_modified, parse_pcap_header,
    parse_sectionheaderblock,
};

use super::file::{Broken, Place};
use super::source::Source;

/// libpcap's format: one header, then records.
pub(super) struct Pcap {
    parse: ParseFrame,
    link: u32,
    has_nanoseconds: bool,
}

/// pcapng: sections of blocks; each section has its own byte order and interfaces.
#[derive(Default)]
pub(super) struct PcapNg {
    big_endian: bool,
    interfaces: Vec<Interface>,
}

type ParseFrame = for<'a> fn(
    &'a [u8],
) -> pcap_parser::nom::IResult<
    &'a [u8],
    pcap_parser::LegacyPcapBlock<'a>,
    pcap_parser::PcapError<&'a [u8]>,
>;

#[derive(Clone, Copy)]
struct Interface {
    link: u32,
    /// Units a second of its stamps.
    resolution: u64,
    /// Seconds to add to them.
    offset_s: i64,
}

impl Pcap {
    /// Reads the file's header, which its first bytes have shown to be there.
    pub(super) fn open(source: &mut Source) -> Result<Self, Broken> {
        let header = source.want(HEADER_LEN)?;
        let (_, header): (_, PcapHeader) = parse_pcap_header(header).map_err(|_| Broken::Off)?;
        source.pass(HEADER_LEN);
        let parse: ParseFrame = match (header.is_modified_format(), header.is_bigendian()) {
            (true, _) => parse_pcap_frame_modified,
            (false, true) => parse_pcap_frame_be,
            (false, false) => parse_pcap_frame,
        };
        // The upper bits say whether frames end in a checksum.
        let link = u32::from_ne_bytes(header.network.0.to_ne_bytes()) & 0xffff;
        Ok(Self { parse, link, has_nanoseconds: header.is_nanosecond_precision() })
    }

    /// Finds the next packet; its bytes stand at `place` of the source's data, which are passed with the next call.
    pub(super) fn advance(&mut self, source: &mut Source) -> Result<Option<Place>, Broken> {
        loop {
            let data = source.data();
            match (self.parse)(data) {
                Ok((rest, frame)) => {
                    let length = data.len() - rest.len();
                    let begin = length.saturating_sub(frame.data.len());
                    let fraction = i64::from(frame.ts_usec);
                    let micros = if self.has_nanoseconds { fraction / 1000 } else { fraction };
                    let at_us = i64::from(frame.ts_sec) * 1_000_000 + micros;
                    return Ok(Some(Place { at_us: Some(at_us), link: self.link, begin, end: length, length }));
                }
                Err(error) if error.is_incomplete() => {
                    if data.len() > RECORD_LEN_MAX {
                        return Err(Broken::Damaged("a packet that claims to be longer than a packet can be"));
                    }
                    if !source.fill()? {
                        return if source.data().is_empty() { Ok(None) } else { Err(Broken::Off) };
                    }
                }
                Err(_) => return Err(Broken::Damaged("no packet header")),
            }
        }
    }
}

impl PcapNg {
    /// As [`Pcap::advance`]. Blocks that hold no packet are stepped over.
    pub(super) fn advance(&mut self, source: &mut Source) -> Result<Option<Place>, Broken> {
        loop {
            let data = source.data();
            let is_section = data.starts_with(&SECTION_HEADER);
            let parsed = if is_section {
                parse_sectionheaderblock(data).map(|(rest, section)| (rest, Block::SectionHeader(section)))
            } else if self.big_endian {
                parse_block_be(data)
            } else {
                parse_block_le(data)
            };
            match parsed {
                Ok((rest, block)) => {
                    let length = data.len() - rest.len();
                    if let Some(place) = self.take(&block, length)? {
                        return Ok(Some(place));
                    }
                    source.pass(length);
                }
                Err(error) if error.is_incomplete() => {
                    if data.len() > RECORD_LEN_MAX {
                        return Err(Broken::Damaged("a block that claims to be longer than a block can be"));
                    }
                    if !source.fill()? {
                        return if source.data().is_empty() { Ok(None) } else { Err(Broken::Off) };
                    }
                }
                Err(_) => return Err(Broken::Damaged("no block header")),
            }
        }
    }

    fn take(&mut self, block: &Block<'_>, length: usize) -> Result<Option<Place>, Broken> {
        match block {
            Block::SectionHeader(section) => {
                self.big_endian = section.big_endian();
                self.interfaces.clear();
            }
            Block::InterfaceDescription(description) => {
                if self.interfaces.len() >= INTERFACES_MAX {
                    return Err(Broken::Damaged("more interfaces than any machine has"));
                }
                let offset = description.if_tsoffset;
                self.interfaces.push(Interface {
                    link: u32::from_ne_bytes(description.linktype.0.to_ne_bytes()) & 0xffff,
                    resolution: resolution(description.if_tsresol)
                        .ok_or(Broken::Damaged("an interface whose clock has an impossible resolution"))?,
                    offset_s: if self.big_endian { offset.swap_bytes() } else { offset },
                });
            }
            Block::EnhancedPacket(packet) => {
                let interface = usize::try_from(packet.if_id).ok().and_then(|id| self.interfaces.get(id));
                let interface =
                    interface.ok_or(Broken::Damaged("a packet of an interface that was never described"))?;
                let at_us = interface.stamp(packet.ts_high, packet.ts_low);
                let claimed = usize::try_from(packet.caplen).unwrap_or(usize::MAX).min(packet.data.len());
                return Ok(Some(place(ENHANCED_AT, claimed, interface.link, Some(at_us), length)));
            }
            Block::SimplePacket(packet) => {
                let interface = self.interfaces.first();
                let interface =
                    interface.ok_or(Broken::Damaged("a packet of an interface that was never described"))?;
                let claimed = usize::try_from(packet.origlen).unwrap_or(usize::MAX).min(packet.data.len());
                return Ok(Some(place(SIMPLE_AT, claimed, interface.link, None, length)));
            }
            _ => {}
        }
        Ok(None)
    }
}

impl Interface {
    fn stamp(&self, high: u32, low: u32) -> i64 {
        let ticks = (u64::from(high) << 32) | u64::from(low);
        let micros = u128::from(ticks) * 1_000_000 / u128::from(self.resolution);
        i64::try_from(micros).unwrap_or(i64::MAX).saturating_add(self.offset_s.saturating_mul(1_000_000))
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn place(begin: usize, claimed: usize, link: u32, at_us: Option<i64>, length: usize) -> Place {
    Place { at_us, link, begin, end: (begin + claimed).min(length), length }
}

/// pcapng's `if_tsresol`: a power of ten, or of two with the top bit set.
fn resolution(code: u8) -> Option<u64> {
    let exponent = u32::from(code & 0x7f);
    if code & 0x80 == 0 { 10_u64.checked_pow(exponent) } else { 1_u64.checked_shl(exponent) }
}

/// First bytes of a pcapng section, in either byte order.
pub(super) const SECTION_HEADER: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
const HEADER_LEN: usize = 24;
/// Where the packet begins in an enhanced packet block, after type, length, interface, stamp and two lengths.
const ENHANCED_AT: usize = 28;
/// Where it begins in a simple packet block, after type and two lengths.
const SIMPLE_AT: usize = 12;
/// A packet may be as long as a datagram, jumbo frames of a loopback included; this is far above.
const RECORD_LEN_MAX: usize = 4 * 1024 * 1024;
const INTERFACES_MAX: usize = 65_536;
