//! Contact URIs as the contact index knows them.

use crate::model::{ContactKey, canonical_host, canonical_user};

/// User, host and port of a contact URI; none when it is not a SIP URI.
pub(super) fn contact_key(contact: &str) -> Option<ContactKey> {
    let rest = contact
        .split_once(':')
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("sip") || scheme.eq_ignore_ascii_case("sips"))?;
    let rest = rest.1.split([';', '?']).next().unwrap_or_default();
    let (user, host) = rest.rsplit_once('@').unwrap_or(("", rest));
    let user = user.split(':').next().unwrap_or_default();
    let port_at = host.rfind(':').filter(|at| !host[*at..].contains(']'));
    let (host, port) = port_at.map_or((host, None), |at| (&host[..at], host[at + 1..].parse().ok()));
    Some(ContactKey { user: canonical_user(user).into(), host: canonical_host(host).into(), port })
}
