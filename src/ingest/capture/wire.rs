//! From captured packets to the SIP messages in them.

use std::net::{IpAddr, SocketAddr};

use super::Skipped;
use super::file::Record;
use super::fragments::Fragments;
use super::ip;
use super::link::ip_packet;
use super::messages::Cut;
use super::payload::{Content, content};
use super::segment::{Flow, Segment};
use super::streams::Streams;
use crate::model::{FeedKind, Transport};
use crate::sip::hep;

/// Takes packets apart. Pieces of packets and of streams are kept until they make a whole, within bounds.
#[derive(Default)]
pub struct Wire {
    fragments: Fragments,
    streams: Streams,
    /// What was left out so far.
    pub skipped: Skipped,
}

/// A SIP message as it was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard<'a> {
    /// When, in microseconds since 1970.
    pub at_us: i64,
    /// Who sent it.
    pub source: Option<SocketAddr>,
    /// Who received it.
    pub destination: Option<SocketAddr>,
    /// Over what.
    pub transport: Transport,
    /// The IP packet's own number, which a packet captured twice has twice; none where there is none.
    pub packet: Option<u32>,
    /// As it is, or wrapped in HEP.
    pub feed: FeedKind,
    /// The message.
    pub bytes: &'a [u8],
}

/// What all messages of one packet share.
#[derive(Clone, Copy)]
struct Way {
    at_us: i64,
    source: SocketAddr,
    destination: SocketAddr,
    transport: Transport,
    packet: Option<u32>,
}

impl Wire {
    /// Takes one record and hands the messages that are whole by now to `out`.
    pub fn take(&mut self, at_us: i64, record: Record<'_>, out: &mut impl FnMut(Heard<'_>)) {
        match record {
            Record::Packet { link, bytes } => {
                if let Some(packet) = ip_packet(link, bytes, &mut self.skipped) {
                    self.ip(at_us, packet, 0, out);
                }
            }
            Record::Hep(bytes) => self.hep(at_us, None, bytes, out),
            Record::Text { .. } => {}
        }
    }

    /// The capture is over: hands out what only waited for packets that did not come.
    pub fn finish(&mut self, at_us: i64, out: &mut impl FnMut(Heard<'_>)) {
        let Self { streams, skipped, .. } = self;
        let mut left = Vec::new();
        streams.finish(skipped, &mut |flow, cut| left.push((flow, own(&cut))));
        for (flow, (content, bytes)) in left {
            self.cut(at_us, flow, content, &bytes, out);
        }
    }

    fn ip(&mut self, at_us: i64, bytes: &[u8], depth: usize, out: &mut impl FnMut(Heard<'_>)) {
        let Some(packet) = ip::read(bytes) else {
            self.skipped.broken_ip += 1;
            return;
        };
        self.skipped.cut_short += u64::from(packet.is_cut);
        let Some(fragment) = packet.fragment else {
            return self.transport(at_us, &packet, packet.protocol, packet.payload, depth, out);
        };
        let Some((protocol, whole)) = self.fragments.add(at_us, &packet, fragment, &mut self.skipped) else { return };
        match ip::without_extensions(protocol, &whole).filter(|_| packet.source.is_ipv6()) {
            Some((protocol, payload)) => self.transport(at_us, &packet, protocol, payload, depth, out),
            None => self.transport(at_us, &packet, protocol, &whole, depth, out),
        }
    }

    fn transport(
        &mut self,
        at_us: i64,
        packet: &ip::Packet<'_>,
        protocol: u8,
        payload: &[u8],
        depth: usize,
        out: &mut impl FnMut(Heard<'_>),
    ) {
        match protocol {
            ip::UDP => self.udp(at_us, packet, payload, out),
            ip::TCP => self.tcp(at_us, packet, payload, out),
            ip::IP_IN_IP | ip::IPV6_IN_IP if depth < TUNNELS_MAX => self.ip(at_us, payload, depth + 1, out),
            _ => self.skipped.other_protocols += 1,
        }
    }

    fn udp(&mut self, at_us: i64, packet: &ip::Packet<'_>, bytes: &[u8], out: &mut impl FnMut(Heard<'_>)) {
        let Some((header, rest)) = bytes.split_first_chunk::<8>() else {
            self.skipped.broken_ip += 1;
            return;
        };
        let claimed = usize::from(u16::from_be_bytes([header[4], header[5]])).saturating_sub(8);
        let payload = rest.get(..claimed).filter(|payload| !payload.is_empty()).unwrap_or(rest);
        let at = |ip: IpAddr, port: [u8; 2]| SocketAddr::new(ip, u16::from_be_bytes(port));
        let way = Way {
            at_us,
            source: at(packet.source, [header[0], header[1]]),
            destination: at(packet.destination, [header[2], header[3]]),
            transport: Transport::Udp,
            packet: packet.id.filter(|id| *id != 0),
        };
        match content(payload) {
            Some(Content::Sip) => way.say(payload, out),
            Some(Content::Hep) => self.hep(at_us, Some(way), payload, out),
            None => self.skipped.other_datagrams += 1,
        }
    }

    fn tcp(&mut self, at_us: i64, packet: &ip::Packet<'_>, bytes: &[u8], out: &mut impl FnMut(Heard<'_>)) {
        let Some((source, destination, segment)) = Segment::read(bytes) else {
            self.skipped.broken_ip += 1;
            return;
        };
        let flow = Flow {
            source: SocketAddr::new(packet.source, source),
            destination: SocketAddr::new(packet.destination, destination),
        };
        let Self { streams, skipped, .. } = self;
        let mut heps = Vec::new();
        streams.take(at_us, flow, &segment, skipped, &mut |flow, cut| match cut {
            Cut::Sip(bytes) => Way::of(at_us, flow).say(bytes, out),
            Cut::Hep(bytes) => heps.push((flow, bytes.to_vec())),
        });
        for (flow, bytes) in heps {
            self.cut(at_us, flow, Content::Hep, &bytes, out);
        }
    }

    fn cut(&mut self, at_us: i64, flow: Flow, content: Content, bytes: &[u8], out: &mut impl FnMut(Heard<'_>)) {
        let way = Way::of(at_us, flow);
        match content {
            Content::Sip => way.say(bytes, out),
            Content::Hep => self.hep(at_us, Some(way), bytes, out),
        }
    }

    /// A HEP packet says where its message went; where it does not, the way of its own says nothing about that.
    fn hep(&mut self, at_us: i64, way: Option<Way>, bytes: &[u8], out: &mut impl FnMut(Heard<'_>)) {
        let Ok(packet) = hep::decode(bytes) else {
            self.skipped.broken_hep += 1;
            return;
        };
        let inflated;
        let message = match packet.content {
            hep::Content::Sip => packet.payload,
            hep::Content::Compressed => match hep::inflate(packet.payload) {
                Ok(message) => {
                    inflated = message;
                    &inflated
                }
                Err(_) => return self.skipped.broken_hep += 1,
            },
            hep::Content::Other(_) => return self.skipped.other_hep += 1,
        };
        let transport = match packet.protocol {
            Some(6) => Transport::Tcp,
            // What FreeSWITCH writes for TLS.
            Some(22) => Transport::Tls,
            _ => Transport::Udp,
        };
        out(Heard {
            at_us,
            source: packet.source,
            destination: packet.destination,
            transport,
            packet: way.and_then(|way| way.packet),
            feed: FeedKind::Hep,
            bytes: message,
        });
    }
}

impl Way {
    fn of(at_us: i64, flow: Flow) -> Self {
        let Flow { source, destination } = flow;
        Self { at_us, source, destination, transport: Transport::Tcp, packet: None }
    }

    fn say(self, bytes: &[u8], out: &mut impl FnMut(Heard<'_>)) {
        let Self { at_us, source, destination, transport, packet } = self;
        out(Heard {
            at_us,
            source: Some(source),
            destination: Some(destination),
            transport,
            packet,
            feed: FeedKind::Mirror,
            bytes,
        });
    }
}

fn own(cut: &Cut<'_>) -> (Content, Vec<u8>) {
    match cut {
        Cut::Sip(bytes) => (Content::Sip, bytes.to_vec()),
        Cut::Hep(bytes) => (Content::Hep, bytes.to_vec()),
    }
}

/// Tunnels one within the other.
const TUNNELS_MAX: usize = 4;
