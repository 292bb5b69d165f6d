//! From an initial INVITE to the facts the switchboard asks for.

use std::sync::Arc;

use smallvec::SmallVec;

use super::Sighting;
use crate::model::{Caller, ContactKey, JoinHints, LegStart, canonical_host, canonical_user};
use crate::sip::{HeaderError, Message, Name, NameAddr, Uri};

/// Reads what an initial INVITE says. Headers that only help (Contact, identities, hints) are left out when broken.
///
/// # Errors
/// The header that makes the INVITE unusable: To or From.
pub(super) fn leg_start(
    sighting: &Sighting<'_>,
    call_key: Arc<str>,
    target: &ContactKey,
    downstream: bool,
) -> Result<LegStart, HeaderError> {
    let message = sighting.message;
    let from = message.from()?;
    let to = message.to()?;
    let contact = message.contacts().find_map(|contact| contact.ok()?.uri().map(Uri::key));
    Ok(LegStart {
        call_key,
        hop: sighting.hop,
        downstream,
        target: target.clone(),
        to: to.uri.key(),
        from: from.uri.key(),
        contact,
        source: sighting.source,
        destination: sighting.destination,
        caller: caller(message, &from),
        joins: join_hints(message),
        headers: extension_headers(message),
        media_port: media_port(message.body()),
        ..LegStart::default()
    })
}

/// Port of the first audio line of an SDP body (RFC 8866 §5.14).
fn media_port(body: &[u8]) -> Option<u16> {
    let at = memchr::memmem::find(body, b"m=audio ")? + b"m=audio ".len();
    let digits = body.get(at..)?.iter().take(6).take_while(|b| b.is_ascii_digit()).count();
    std::str::from_utf8(body.get(at..at + digits)?).ok()?.parse().ok()
}

/// P-Asserted-Identity (RFC 3325), else Remote-Party-ID, else From; nothing of it when the caller asked for privacy.
fn caller(message: &Message<'_>, from: &NameAddr<'_>) -> Caller {
    let rpid = message.header(Name::RemotePartyId);
    if asks_privacy(message) || rpid.is_some_and(rpid_asks_privacy) {
        return Caller { withheld: true, ..Caller::default() };
    }
    let asserted =
        message.values(Name::PAssertedIdentity).find_map(|value| NameAddr::parse(value, "P-Asserted-Identity").ok());
    let remote = || rpid.and_then(|value| NameAddr::parse(value, "Remote-Party-ID").ok());
    let identity = asserted.or_else(remote);
    let identity = identity.as_ref().unwrap_or(from);
    // A trunk may assert a number and leave the anonymous From in place without Privacy: the From says what was asked.
    if is_anonymous(identity) || is_anonymous(from) {
        return Caller { withheld: true, ..Caller::default() };
    }
    let name = identity.display.as_deref().or(from.display.as_deref()).unwrap_or_default();
    Caller { number: identity.uri.user_key().into_string(), name: bounded(name.trim()), withheld: false }
}

/// RFC 3323 §4.2: any privacy but `none` hides who calls.
fn asks_privacy(message: &Message<'_>) -> bool {
    let hides = |word: &str| ["id", "user", "header"].iter().any(|hidden| word.trim().eq_ignore_ascii_case(hidden));
    message.headers(Name::Privacy).any(|value| value.split([';', ',']).any(hides))
}

fn rpid_asks_privacy(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    lower.split(';').any(|p| matches!(p.trim(), "privacy=full" | "privacy=name" | "privacy=uri"))
}

fn is_anonymous(identity: &NameAddr<'_>) -> bool {
    let user = canonical_user(identity.uri.user.unwrap_or_default());
    user.eq_ignore_ascii_case("anonymous")
        || canonical_host(identity.uri.host).eq_ignore_ascii_case("anonymous.invalid")
}

fn join_hints(message: &Message<'_>) -> JoinHints {
    let other_leg = OTHER_LEG_HEADERS.iter().flat_map(|name| message.named(name)).map(str::trim);
    JoinHints {
        other_leg: other_leg
            .filter(|v| !v.is_empty() && v.len() <= VALUE_BYTES_MAX)
            .map(str::to_owned)
            .take(4)
            .collect(),
        session_id: message.headers(Name::SessionId).find_map(session_id),
        replaces: message.headers(Name::Replaces).find_map(|value| Some(value.split(';').next()?.trim().to_owned())),
    }
}

/// The Call-ID that a REFER wants replaced, from the Replaces header in its Refer-To URI (RFC 3891, RFC 5589 §7).
pub(super) fn replaced_by_refer(message: &Message<'_>) -> Option<Box<str>> {
    let value = message.header(Name::ReferTo)?;
    let (_, headers) = value.split_once('?')?;
    let headers = headers.split(['>', ' ']).next()?;
    let replaces = headers.split('&').find_map(|header| {
        let (name, value) = header.split_once('=')?;
        name.eq_ignore_ascii_case("Replaces").then_some(value)
    })?;
    let replaces = percent_encoding::percent_decode_str(replaces).decode_utf8_lossy();
    let call_id = replaces.split(';').next()?.trim();
    (!call_id.is_empty()).then(|| call_id.into())
}

/// RFC 7989 §5: `local-uuid;remote=remote-uuid`, 32 hex digits each.
fn session_id(value: &str) -> Option<(String, String)> {
    let is_uuid = |half: &str| half.len() == 32 && half.bytes().all(|b| b.is_ascii_hexdigit());
    let mut parts = value.split(';').map(str::trim);
    let local = parts.next().filter(|half| is_uuid(half))?.to_ascii_lowercase();
    let remote = parts.find_map(|p| p.strip_prefix("remote=")).filter(|half| is_uuid(half));
    Some((local, remote.map_or_else(|| "0".repeat(32), str::to_ascii_lowercase)))
}

/// Extension headers for queue rules. Tracing headers are the feed's, not the call's.
fn extension_headers(message: &Message<'_>) -> Vec<(String, String)> {
    let kept: SmallVec<[(&str, &str); 8]> = message
        .extensions()
        .filter(|(name, value)| {
            value.len() <= VALUE_BYTES_MAX && !name.get(..11).is_some_and(|n| n.eq_ignore_ascii_case("x-siptrace-"))
        })
        .take(EXTENSION_HEADERS_MAX)
        .collect();
    kept.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect()
}

fn bounded(text: &str) -> String {
    text.chars().take(NAME_CHARS_MAX).collect()
}

/// Headers by which PBXs name the other leg's Call-ID or call.
const OTHER_LEG_HEADERS: [&str; 3] = ["X-CID", "X-Call-ID", "X-Linkedid"];
const EXTENSION_HEADERS_MAX: usize = 16;
const VALUE_BYTES_MAX: usize = 256;
const NAME_CHARS_MAX: usize = 128;
