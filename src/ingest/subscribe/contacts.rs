//! From registration states to contacts of devices.

use std::net::SocketAddr;

use super::reginfo::{RegContact, RegInfo};
use crate::model::{Now, PbxId, Transport, UnixMillis};
use crate::registry::{Registry, ReportedContact};
use crate::sip::Uri;

/// Takes over what a document says of the contacts on `pbx`. How many addresses-of-record nobody here could be found for.
pub fn report(registry: &Registry, pbx: PbxId, info: &RegInfo, now: Now) -> usize {
    let mut strangers = 0;
    for registration in &info.registrations {
        let key = Uri::parse(&registration.aor).map(|uri| uri.key()).unwrap_or_default();
        let Some(target) = registry.resolve(pbx, &key.user, &key.host) else {
            strangers += 1;
            continue;
        };
        let (bound, gone): (Vec<_>, Vec<_>) =
            registration.contacts.iter().filter(|contact| !contact.uri.is_empty()).partition(|contact| contact.active);
        if !info.full {
            for contact in &gone {
                registry.contact_gone(&target, &contact.uri, now);
            }
        }
        if info.full || !bound.is_empty() {
            let bound = bound.into_iter().map(|contact| reported(contact, now)).collect();
            registry.contacts_reported(&target, bound, info.full, now);
        }
    }
    strangers
}

fn reported(contact: &RegContact, now: Now) -> ReportedContact {
    let left_ms = contact.expires_s.map(|seconds| seconds.saturating_mul(1000));
    ReportedContact {
        uri: contact.uri.clone(),
        expires_at: left_ms.map(|left| UnixMillis(now.unix.0.saturating_add_unsigned(left))),
        received: contact.received.as_deref().and_then(address),
        user_agent: contact.user_agent.clone(),
        call_id: contact.call_id.clone(),
        transport: transport(&contact.uri),
        path: contact.path.clone(),
        rtt_us: None,
        reachable: None,
    }
}

/// The address in a URI such as `sip:192.0.2.7:5060;transport=tcp`.
fn address(uri: &str) -> Option<SocketAddr> {
    let uri = Uri::parse(uri).ok()?;
    let ip = uri.host.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    Some(SocketAddr::new(ip, uri.port.unwrap_or(5060)))
}

fn transport(uri: &str) -> Transport {
    let word = Uri::parse(uri).ok().and_then(|uri| uri.param("transport").map(str::to_ascii_lowercase));
    match word.as_deref() {
        Some("tcp") => Transport::Tcp,
        Some("tls") => Transport::Tls,
        Some("ws") => Transport::Ws,
        Some("wss") => Transport::Wss,
        _ => Transport::Udp,
    }
}
