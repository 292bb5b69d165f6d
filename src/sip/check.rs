//! What every request must have before anyone looks at what it wants (RFC 3261 §8.1.1, §8.2).

use super::fault::{HeaderError, HeaderFault};
use super::name::Name;
use super::refusal::Refusal;
use super::scan::Message;
use super::syntax::has_empty_parts;
use super::uri::{Scheme, Uri, UriError};

/// Checks version, Request-URI, Via, From, To, Call-ID, `CSeq`, Max-Forwards and Content-Length of a request.
///
/// A missing Max-Forwards or From tag is let pass: RFC 2543 elements leave them out.
///
/// # Errors
/// The answer it deserves: 505, 416, 414, or a 400 whose reason phrase names the header.
pub fn check(message: &Message<'_>) -> Result<(), Refusal> {
    if !message.is_version_2() {
        return Err(Refusal::new(505, "Version Not Supported", "version"));
    }
    check_vias(message)?;
    message.from()?;
    message.to()?;
    message.try_call_id()?;
    let cseq = message.cseq()?;
    if message.method().is_some_and(|method| method != cseq.method) {
        return Err(HeaderError::new(Name::CSeq.text(), HeaderFault::Malformed).into());
    }
    if let Some(fault) = message.fault() {
        return Err(fault.into());
    }
    check_max_forwards(message)?;
    match Uri::parse(message.request_uri().unwrap_or_default()) {
        Ok(Uri { scheme: Scheme::Other, .. }) => Err(Refusal::new(416, "Unsupported URI Scheme", "uri_scheme")),
        // RFC 3261 §19.1.1: a Request-URI has no headers.
        Ok(uri) if !uri.headers.is_empty() => Err(Refusal::new(400, "Bad Request-URI", "request_uri")),
        Ok(_) => Ok(()),
        Err(UriError::TooLong) => Err(Refusal::new(414, "Request-URI Too Long", "request_uri_too_long")),
        Err(_) => Err(Refusal::new(400, "Bad Request-URI", "request_uri")),
    }
}

/// The top field must be of our version and without separators that separate nothing (RFC 4475 §3.1.2.1).
fn check_vias(message: &Message<'_>) -> Result<(), HeaderError> {
    let via = message.top_via()?;
    let field = message.header(Name::Via).unwrap_or_default();
    if via.is_version_2 && !has_empty_parts(field) {
        return Ok(());
    }
    Err(HeaderError::new(Name::Via.text(), HeaderFault::Malformed))
}

fn check_max_forwards(message: &Message<'_>) -> Result<(), HeaderError> {
    match message.only(Name::MaxForwards) {
        Err(HeaderError { fault: HeaderFault::Missing, .. }) => Ok(()),
        Ok(value) if value.bytes().all(|b| b.is_ascii_digit()) => Ok(()),
        Ok(_) => Err(HeaderError::new(Name::MaxForwards.text(), HeaderFault::Malformed)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::scan::scan;
    use super::super::uri::URI_LEN_MAX;
    use super::*;

    const GOOD: &str = "OPTIONS sip:pbx.example SIP/2.0\r\nVia: SIP/2.0/UDP h\r\nFrom: <sip:a@b>\r\n\
        To: <sip:a@b>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n";

    fn answer(text: &str) -> Option<String> {
        check(&scan(text.as_bytes()).unwrap()).err().map(|refusal| format!("{} {}", refusal.status, refusal.reason))
    }

    #[test]
    fn each_fault_is_answered_with_a_reason_that_names_its_header() {
        assert_eq!(answer(GOOD), None);
        let long = format!("sip:{}@pbx.example", "a".repeat(URI_LEN_MAX));
        for (from, to, expected) in [
            ("Via: SIP/2.0/UDP h\r\n", "", "400 Missing Via"),
            ("SIP/2.0/UDP h", "UDP", "400 Bad Via Header"),
            ("SIP/2.0/UDP h", "SIP/3.0/UDP h", "400 Bad Via Header"),
            ("SIP/2.0/UDP h", "SIP/2.0/UDP h;;rport", "400 Bad Via Header"),
            ("sip:pbx.example", "sip:pbx.example?Subject=x", "400 Bad Request-URI"),
            ("From: <sip:a@b>", "From: <sip:a@", "400 Bad From Header"),
            ("To: <sip:a@b>\r\n", "", "400 Missing To"),
            ("To: <sip:a@b>", "To: <sip:a@b>\r\nt: <sip:c@d>", "400 Multiple To Headers"),
            ("Call-ID: x\r\n", "", "400 Missing Call-ID"),
            ("Call-ID: x", "Call-ID: x y", "400 Bad Call-ID Header"),
            ("1 OPTIONS", "one OPTIONS", "400 Bad CSeq Header"),
            ("1 OPTIONS", "1 INVITE", "400 Bad CSeq Header"),
            ("70", "many", "400 Bad Max-Forwards Header"),
            ("Content-Length: 0", "Content-Length: 9", "400 Bad Content-Length Header"),
            ("Call-ID: x", "Call-ID: x\r\nnonsense", "400 Bad Header Line"),
            ("sip:pbx.example", "sip:pbx.example extra", "400 Bad Request-URI"),
            ("sip:pbx.example", &*long, "414 Request-URI Too Long"),
            ("sip:pbx.example", "http://pbx.example", "416 Unsupported URI Scheme"),
            ("example SIP/2.0", "example SIP/7.0", "505 Version Not Supported"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            assert_eq!(answer(&GOOD.replacen(from, to, 1)).as_deref(), Some(expected));
        }
    }
}
