//! What a payload is, told by its first bytes: SIP and HEP are found on any port.

use crate::sip::hep;

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Sip,
    Hep,
}

/// What a datagram holds.
pub(super) fn content(bytes: &[u8]) -> Option<Content> {
    match bytes.first()? {
        b'H' | b'E' if hep::is_hep(bytes) => Some(Content::Hep),
        // Versions 1 and 2 begin with a 1 or 2, as much else does; what they hold decides.
        1 | 2 => hep::decode(bytes).is_ok_and(|packet| begins_sip(packet.payload)).then_some(Content::Hep),
        _ => begins_sip(bytes).then_some(Content::Sip),
    }
}

/// Whether these bytes begin with a SIP message, line breaks before it left out: a first line that ends in `SIP/2.0` or
/// begins with it.
pub(super) fn begins_sip(bytes: &[u8]) -> bool {
    let breaks = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let bytes = bytes.get(breaks..).unwrap_or_default();
    if !bytes.first().is_some_and(u8::is_ascii_alphabetic) {
        return false;
    }
    if is_version(bytes) {
        return bytes.get(7) == Some(&b' ');
    }
    let line = bytes.get(..bytes.len().min(LINE_LEN_MAX)).unwrap_or_default();
    let Some(end) = memchr::memchr(b'\n', line) else { return false };
    let line = line.get(..end).unwrap_or_default().trim_ascii_end();
    let Some(at) = line.len().checked_sub(8) else { return false };
    line.get(at) == Some(&b' ') && line.get(at + 1..).is_some_and(is_version)
}

/// Where in a piece of a stream the first message begins, looked for at the start and after each line break.
pub(super) fn find_sip(bytes: &[u8]) -> Option<usize> {
    if begins_sip(bytes) {
        return Some(0);
    }
    memchr::memmem::find_iter(bytes, b"SIP/2.0").find_map(|at| {
        let line_at = memchr::memrchr(b'\n', bytes.get(..at)?)? + 1;
        begins_sip(bytes.get(line_at..)?).then_some(line_at)
    })
}

/// Whether a message may begin here that goes on in the next piece: part of a first line, and nothing else yet.
pub(super) fn may_begin_sip(bytes: &[u8]) -> bool {
    let is_first = bytes.first().is_some_and(|byte| byte.is_ascii_uppercase() || matches!(byte, b'\r' | b'\n'));
    is_first
        && bytes.len() < LINE_LEN_MAX
        && (begins_like_a_break(bytes) || !bytes.contains(&b'\n'))
        && bytes.is_ascii()
}

fn begins_like_a_break(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n'))
}

fn is_version(bytes: &[u8]) -> bool {
    bytes.get(..7).is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/2.0"))
}

/// Longest first line looked through.
const LINE_LEN_MAX: usize = 2_100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sip_and_hep_are_told_from_everything_else_on_a_wire() {
        assert_eq!(content(b"INVITE sip:101@pbx.example SIP/2.0\r\nVia: x\r\n"), Some(Content::Sip));
        assert_eq!(content(b"\r\nTICKLE sip:101@pbx.example SIP/2.0\nVia: x\r\n"), Some(Content::Sip));
        assert_eq!(content(b"SIP/2.0 200 OK\r\n"), Some(Content::Sip));
        assert_eq!(content(b"HEP3\0\x10"), Some(Content::Hep));
        for other in
            [&b""[..], b"\r\n\r\n", b"GET / HTTP/1.1\r\n", b"\x80\0\x01", b"\x01\x01\0\0", b"SIP/2.0", b"jaK\0"]
        {
            assert_eq!(content(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_message_is_found_within_a_stream() {
        let stream = b"...;branch=SIP/2.0\r\nv=0\r\nBYE sip:a@b SIP/2.0\r\nTo: x\r\n";
        assert_eq!(find_sip(stream), Some(25));
        assert_eq!(find_sip(b"Via: SIP/2.0/UDP h\r\nTo: x\r\n"), None);
    }
}
