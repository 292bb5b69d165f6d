//! HEP, the Homer encapsulation protocol: copies of messages with the addresses they went between, as PBXs and capture
//! agents send them. Version 3 (`HEP3`, formerly `EEP3`) is a list of chunks, versions 1 and 2 a fixed header.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Bytes, BytesMut};
use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_zlib_with_limit};

use super::scan::MESSAGE_LEN_MAX;

/// One packet. What it does not say, or says in a way that can't be so, is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// 1, 2 or 3.
    pub version: u8,
    /// Who sent the message inside.
    pub source: Option<SocketAddr>,
    /// Who received it.
    pub destination: Option<SocketAddr>,
    /// IP protocol number between them: 17 UDP, 6 TCP, 132 SCTP; FreeSWITCH says 22 for TLS.
    pub protocol: Option<u8>,
    /// When it was captured, by the clock of whoever did: seconds since 1970 and microseconds.
    pub captured: Option<(u32, u32)>,
    /// What the payload is.
    pub content: Content,
    /// Which capture agent this is, by its own account.
    pub capture_id: Option<u32>,
    /// The password, in clear text as HEP has it.
    pub key: Option<&'a [u8]>,
    /// What the agent thinks belongs together; for Asterisk's `uuid_type=call-id` the leg's own Call-ID.
    pub correlation: Option<&'a [u8]>,
    /// The message inside.
    pub payload: &'a [u8],
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A SIP message.
    Sip,
    /// A SIP message compressed by zlib; the bytes as they came, for [`inflate`].
    Compressed,
    /// Something else, by its payload type: 5 RTCP as JSON, 34 RTP statistics, 100 a log line.
    Other(u8),
}

/// Why bytes are no HEP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum HepError {
    /// They begin like no version of it.
    #[error("not HEP")]
    NotHep,
    /// They end before the packet does.
    #[error("breaks off")]
    Truncated,
    /// A length that can't be: shorter than its own header, or not that of what it holds.
    #[error("impossible length")]
    Length,
    /// Versions 1 and 2: an address family other than IPv4 and IPv6.
    #[error("unknown address family")]
    Family,
    /// There is nothing in it.
    #[error("no payload")]
    Empty,
    /// What says that it is compressed is not, or not whole.
    #[error("no zlib stream")]
    Zlib,
    /// Inflated it is longer than a message may be.
    #[error("inflates to too much")]
    Inflated,
}

impl HepError {
    /// A metric label: a few stable words.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NotHep => "not_hep",
            Self::Truncated => "truncated",
            Self::Length => "length",
            Self::Family => "family",
            Self::Empty => "empty",
            Self::Zlib => "zlib",
            Self::Inflated => "inflated",
        }
    }
}

/// Whether a datagram is meant to be HEP. SIP begins with a letter, and never with `HEP3` or `EEP3` and a binary length.
#[must_use]
pub fn is_hep(bytes: &[u8]) -> bool {
    MAGIC.iter().any(|magic| bytes.starts_with(magic)) || matches!(bytes.first(), Some(1 | 2))
}

/// The message in a compressed payload. However well it was compressed, no more memory is taken than the longest message
/// has.
///
/// # Errors
/// When it is no whole zlib stream (RFC 1950), or longer inside than [`MESSAGE_LEN_MAX`].
pub fn inflate(payload: &[u8]) -> Result<Vec<u8>, HepError> {
    match decompress_to_vec_zlib_with_limit(payload, MESSAGE_LEN_MAX) {
        Ok(message) if message.is_empty() => Err(HepError::Empty),
        Ok(message) => Ok(message),
        Err(error) if error.status == TINFLStatus::HasMoreOutput => Err(HepError::Inflated),
        Err(_) => Err(HepError::Zlib),
    }
}

/// Reads one packet, a whole datagram or what [`length`] cut from a stream.
///
/// # Errors
/// When it is none, or not all of one. Bytes after its end are left alone.
pub fn decode(bytes: &[u8]) -> Result<Packet<'_>, HepError> {
    match bytes.first() {
        Some(version @ (1 | 2)) => decode_fixed(bytes, *version),
        _ => decode_chunks(bytes),
    }
}

/// The length of the version 3 packet that `bytes` begin with; none while too few bytes are there to tell. It is at least
/// [`HEADER_LEN`] and at most 65 535.
///
/// # Errors
/// When they begin no such packet, after which a stream can't be followed any more.
pub fn length(bytes: &[u8]) -> Result<Option<usize>, HepError> {
    let begun = bytes.get(..bytes.len().min(4)).unwrap_or_default();
    if !MAGIC.iter().any(|magic| magic.starts_with(begun)) {
        return Err(HepError::NotHep);
    }
    let Ok(length) = u16_at(bytes, 4).map(usize::from) else { return Ok(None) };
    if length < HEADER_LEN { Err(HepError::Length) } else { Ok(Some(length)) }
}

/// Cuts a stream into packets, which follow one another without anything between them. Push what was read, then take
/// packets until there is none; after an error the stream can't be followed.
#[derive(Debug, Default)]
pub struct Packets {
    buffer: BytesMut,
}

impl Packets {
    /// Adds bytes that were read. The caller takes all packets before it reads on, so what is held stays below the
    /// longest packet and one read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes held that make no whole packet yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }
}

impl Iterator for Packets {
    type Item = Result<Bytes, HepError>;

    /// The next whole packet, for [`decode`].
    fn next(&mut self) -> Option<Self::Item> {
        if self.buffer.is_empty() {
            return None;
        }
        match length(&self.buffer) {
            Ok(Some(length)) if self.buffer.len() >= length => Some(Ok(self.buffer.split_to(length).freeze())),
            Ok(_) => None,
            Err(error) => {
                self.buffer.clear();
                Some(Err(error))
            }
        }
    }
}

fn decode_chunks(bytes: &[u8]) -> Result<Packet<'_>, HepError> {
    let length = length(bytes)?.ok_or(HepError::Truncated)?;
    let mut rest = bytes.get(HEADER_LEN..length).ok_or(HepError::Truncated)?;
    let mut chunks = Chunks::default();
    while !rest.is_empty() {
        let (vendor, kind, length) = (u16_at(rest, 0)?, u16_at(rest, 2)?, usize::from(u16_at(rest, 4)?));
        if length < HEADER_LEN {
            return Err(HepError::Length);
        }
        let body = rest.get(HEADER_LEN..length).ok_or(HepError::Truncated)?;
        rest = rest.get(length..).unwrap_or_default();
        // Other vendors number their own chunks.
        if vendor == 0 {
            chunks.take(kind, body)?;
        }
    }
    chunks.packet()
}

/// What has been read of a version 3 packet.
#[derive(Default)]
struct Chunks<'a> {
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    ports: (Option<u16>, Option<u16>),
    protocol: Option<u8>,
    seconds: Option<u32>,
    microseconds: Option<u32>,
    kind: Option<u8>,
    capture_id: Option<u32>,
    key: Option<&'a [u8]>,
    correlation: Option<&'a [u8]>,
    payload: Option<&'a [u8]>,
    compressed: Option<&'a [u8]>,
}

impl<'a> Chunks<'a> {
    fn take(&mut self, kind: u16, body: &'a [u8]) -> Result<(), HepError> {
        match kind {
            2 => self.protocol = Some(u8::from_be_bytes(exact(body)?)),
            3 => self.source = Some(Ipv4Addr::from(exact::<4>(body)?).into()),
            4 => self.destination = Some(Ipv4Addr::from(exact::<4>(body)?).into()),
            5 => self.source = Some(Ipv6Addr::from(exact::<16>(body)?).into()),
            6 => self.destination = Some(Ipv6Addr::from(exact::<16>(body)?).into()),
            7 => self.ports.0 = Some(u16::from_be_bytes(exact(body)?)),
            8 => self.ports.1 = Some(u16::from_be_bytes(exact(body)?)),
            9 => self.seconds = Some(u32::from_be_bytes(exact(body)?)),
            10 => self.microseconds = Some(u32::from_be_bytes(exact(body)?)),
            11 => self.kind = Some(u8::from_be_bytes(exact(body)?)),
            12 => self.capture_id = Some(u32::from_be_bytes(exact(body)?)),
            14 => self.key = Some(body),
            15 => self.payload = Some(body),
            16 => self.compressed = Some(body),
            17 => self.correlation = Some(body),
            _ => {}
        }
        Ok(())
    }

    fn packet(self) -> Result<Packet<'a>, HepError> {
        let payload = self.payload.or(self.compressed).filter(|payload| !payload.is_empty()).ok_or(HepError::Empty)?;
        let content = match self.kind {
            Some(SIP) if self.payload.is_some() => Content::Sip,
            Some(SIP) => Content::Compressed,
            kind => Content::Other(kind.unwrap_or_default()),
        };
        let address = |ip: Option<IpAddr>, port: Option<u16>| Some(SocketAddr::new(ip?, port?));
        Ok(Packet {
            version: 3,
            source: address(self.source, self.ports.0),
            destination: address(self.destination, self.ports.1),
            protocol: self.protocol,
            captured: self.seconds.map(|seconds| (seconds, self.microseconds.unwrap_or_default())),
            content,
            capture_id: self.capture_id,
            key: self.key,
            correlation: self.correlation,
            payload,
        })
    }
}

/// Versions 1 and 2: version, header length, family, IP protocol, ports, addresses; version 2 adds time and capture id.
fn decode_fixed(bytes: &[u8], version: u8) -> Result<Packet<'_>, HepError> {
    let family = u8_at(bytes, 2)?;
    let address_len = match family {
        AF_INET => 4,
        AF_INET6_LINUX | AF_INET6_FREEBSD | AF_INET6_MACOS => 16,
        _ => return Err(HepError::Family),
    };
    let ip = |at: usize| -> Result<IpAddr, HepError> {
        let octets = bytes.get(at..at + address_len).ok_or(HepError::Truncated)?;
        if address_len == 4 {
            Ok(Ipv4Addr::from(exact::<4>(octets)?).into())
        } else {
            Ok(Ipv6Addr::from(exact::<16>(octets)?).into())
        }
    };
    let (source, destination) = (ip(8)?, ip(8 + address_len)?);
    let fixed_len = 8 + 2 * address_len;
    // Kamailio leaves the time out of the header's length, FreeSWITCH counts it in.
    let claimed_len = usize::from(u8_at(bytes, 1)?);
    if claimed_len != fixed_len && (version == 1 || claimed_len != fixed_len + TIME_LEN) {
        return Err(HepError::Length);
    }
    let (captured, capture_id, payload_at) = if version == 2 {
        let time = bytes.get(fixed_len..fixed_len + TIME_LEN).ok_or(HepError::Truncated)?;
        let captured = (u32_at_host(time, 0)?, u32_at_host(time, 4)?);
        (Some(captured), Some(u32::from(u16_at(time, 8)?.swap_bytes())), fixed_len + TIME_LEN)
    } else {
        (None, None, fixed_len)
    };
    let payload = bytes.get(payload_at..).filter(|payload| !payload.is_empty()).ok_or(HepError::Empty)?;
    Ok(Packet {
        version,
        source: Some(SocketAddr::new(source, u16_at(bytes, 4)?)),
        destination: Some(SocketAddr::new(destination, u16_at(bytes, 6)?)),
        protocol: Some(u8_at(bytes, 3)?),
        captured,
        content: Content::Sip,
        capture_id,
        key: None,
        correlation: None,
        payload,
    })
}

fn u8_at(bytes: &[u8], at: usize) -> Result<u8, HepError> {
    bytes.get(at).copied().ok_or(HepError::Truncated)
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, HepError> {
    bytes.get(at..at + 2).ok_or(HepError::Truncated).and_then(exact).map(u16::from_be_bytes)
}

/// In the byte order of the hosts that send it, which are little-endian.
fn u32_at_host(bytes: &[u8], at: usize) -> Result<u32, HepError> {
    bytes.get(at..at + 4).ok_or(HepError::Truncated).and_then(exact).map(u32::from_le_bytes)
}

fn exact<const N: usize>(body: &[u8]) -> Result<[u8; N], HepError> {
    body.try_into().map_err(|_| HepError::Length)
}

/// Bytes of a version 3 packet's header, and of a chunk's.
pub const HEADER_LEN: usize = 6;
const MAGIC: [&[u8]; 2] = [b"HEP3", b"EEP3"];
/// Payload type of SIP.
const SIP: u8 = 1;
const TIME_LEN: usize = 12;
const AF_INET: u8 = 2;
const AF_INET6_LINUX: u8 = 10;
const AF_INET6_FREEBSD: u8 = 28;
const AF_INET6_MACOS: u8 = 30;
