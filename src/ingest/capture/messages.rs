//! The bytes of one direction of a connection in their order, and the messages cut out of them. A capture may begin in the
//! middle: then the next place where a message begins is looked for, and what lies before it is counted.

use super::Skipped;
use super::payload::{begins_sip, find_sip, may_begin_sip};
use crate::sip::hep::{self, Packets};
use crate::sip::{Frame, Framer};

/// What was cut out of a stream.
pub(super) enum Cut<'a> {
    Sip(&'a [u8]),
    Hep(&'a [u8]),
}

/// What the bytes are, as far as they have shown it.
#[derive(Default)]
pub(super) enum Messages {
    /// No message begins in what was seen.
    #[default]
    Unknown,
    /// The bytes may be the start of a first line.
    Begun(Vec<u8>),
    Sip(Framer),
    Hep(Packets),
}

impl Messages {
    /// Takes the bytes that follow and hands out the messages that are whole by now. True when one was found to begin in
    /// them. `may_begin` = part of a first line is kept to be looked at with what follows.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        may_begin: bool,
        skipped: &mut Skipped,
        out: &mut impl FnMut(Cut<'_>),
    ) -> bool {
        match self {
            Self::Unknown => return self.look(bytes, may_begin, skipped, out),
            Self::Begun(begun) => {
                let mut whole = std::mem::take(begun);
                whole.extend_from_slice(bytes);
                *self = Self::Unknown;
                return self.look(&whole, may_begin, skipped, out);
            }
            Self::Sip(framer) => framer.push(bytes),
            Self::Hep(packets) => packets.push(bytes),
        }
        self.drain(skipped, out);
        false
    }

    /// Whether the connection carries what is looked for.
    pub(super) fn are_found(&self) -> bool {
        matches!(self, Self::Sip(_) | Self::Hep(_))
    }

    /// Looks for the beginning of a message.
    fn look(&mut self, bytes: &[u8], may_begin: bool, skipped: &mut Skipped, out: &mut impl FnMut(Cut<'_>)) -> bool {
        if hep::is_hep(bytes) && matches!(hep::length(bytes), Ok(Some(_))) {
            let mut packets = Packets::default();
            packets.push(bytes);
            *self = Self::Hep(packets);
        } else if let Some(at) = find_sip(bytes) {
            skipped.tcp_other_bytes += count(at);
            let mut framer = Framer::new();
            framer.push(bytes.get(at..).unwrap_or_default());
            *self = Self::Sip(framer);
        } else {
            if may_begin && may_begin_sip(bytes) {
                *self = Self::Begun(bytes.to_vec());
            } else {
                skipped.tcp_other_bytes += count(bytes.len());
            }
            return false;
        }
        self.drain(skipped, out);
        true
    }

    fn drain(&mut self, skipped: &mut Skipped, out: &mut impl FnMut(Cut<'_>)) {
        let broken = match self {
            Self::Sip(framer) => loop {
                match framer.next() {
                    Some(Ok(Frame::Message(bytes))) if begins_sip(&bytes) => out(Cut::Sip(&bytes)),
                    Some(Ok(Frame::Message(bytes))) => skipped.tcp_other_bytes += count(bytes.len()),
                    Some(Ok(Frame::Ping)) => {}
                    Some(Err(_)) => break true,
                    None => break false,
                }
            },
            Self::Hep(packets) => loop {
                match packets.next() {
                    Some(Ok(bytes)) => out(Cut::Hep(&bytes)),
                    Some(Err(_)) => break true,
                    None => break false,
                }
            },
            Self::Unknown | Self::Begun(_) => false,
        };
        if broken {
            skipped.tcp_broken += 1;
            *self = Self::Unknown;
        }
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
