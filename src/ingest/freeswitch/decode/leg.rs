//! The facts of a leg, read off any event that carries its channel's variables.

use std::net::SocketAddr;
use std::sync::Arc;

use super::super::event::{Event, short};
use super::contact;
use crate::model::{Caller, ContactKey, Endpoint, Hop, JoinHints, LegStart, canonical_host, canonical_user};
use crate::sip::uri::Uri;

/// What a leg began with. `call_key` is the caller's leg's.
pub(super) fn start(event: &Event, call_key: Arc<str>, outbound: bool) -> LegStart {
    let (target, to) = if outbound { called_by_pbx(event) } else { called_by_phone(event) };
    LegStart {
        call_key,
        hop: if outbound { Hop::FromPbx } else { Hop::ToPbx },
        downstream: false,
        target,
        to,
        from: key(event, "sip_from"),
        contact: (!outbound).then(|| key(event, "sip_contact")).filter(|contact| !contact.host.is_empty()),
        source: if outbound { None } else { source(event) },
        destination: None,
        caller: caller(event),
        joins: JoinHints::default(),
        headers: headers(event),
        endpoint: if outbound { called_endpoint(event) } else { calling_endpoint(event) },
        sip_call_id: call_id(event).map(str::to_owned),
        media_port: if outbound { media_port(event) } else { None },
        queue: agent_queue(event).map(|queue| short(queue, TEXT_MAX).to_owned()),
        under_way: false,
    }
}

/// The leg's SIP Call-ID. A leg towards a phone has none before the phone has answered with a 180.
pub(super) fn call_id(event: &Event) -> Option<&str> {
    event.variable("sip_call_id").filter(|id| id.len() <= CALL_ID_MAX)
}

/// Whether the PBX calls out on this channel.
pub(super) fn is_outbound(event: &Event) -> bool {
    event.find("Call-Direction").or_else(|| event.variable("direction")) == Some("outbound")
}

/// The queue an agent's leg is called for.
fn agent_queue(event: &Event) -> Option<&str> {
    (event.variable("cc_side") == Some("agent")).then(|| event.variable("cc_queue")).flatten()
}

/// What a phone or trunk dialled: the Request-URI it sent, whatever the dial plan made of it since.
fn called_by_phone(event: &Event) -> (ContactKey, ContactKey) {
    let mut target = key(event, "sip_req");
    if target.user.is_empty() {
        target.user = canonical_user(short(event.get("Caller-Destination-Number"), TEXT_MAX)).into();
    }
    let to = key(event, "sip_to");
    let to = if to.user.is_empty() { target.clone() } else { to };
    (target, to)
}

/// Where the PBX sends its INVITE, and whom it means by it.
fn called_by_pbx(event: &Event) -> (ContactKey, ContactKey) {
    let uri = event.variable("sip_req_uri").map(|uri| short(uri, CALL_ID_MAX));
    let target = uri.and_then(|uri| Uri::parse(&format!("sip:{uri}")).ok().map(|uri| uri.key()));
    let number = canonical_user(short(event.get("Caller-Destination-Number"), TEXT_MAX)).into();
    let target = target.unwrap_or(ContactKey { user: number, host: Box::default(), port: None });
    let to = match dialled_user(event) {
        Some(to) => ContactKey { user: to.user.into(), host: to.domain.unwrap_or_default().into(), port: None },
        None => target.clone(),
    };
    (target, to)
}

/// Whom the PBX calls: a user of its directory, or what is behind a gateway.
fn called_endpoint(event: &Event) -> Option<Endpoint> {
    if let Some(gateway) = event.variable("sip_gateway_name") {
        // No device can have this name: a user part holds no unescaped slash.
        return Some(Endpoint { user: format!("gateway/{}", short(gateway, TEXT_MAX)), domain: None });
    }
    let presence = || event.variable("presence_id").and_then(contact::aor).filter(|aor| aor.domain.is_some());
    let aor = dialled_user(event).or_else(presence)?;
    Some(Endpoint { user: aor.user, domain: aor.domain })
}

/// Who calls, when it has shown that it is a user of the directory. Otherwise its addresses tell.
fn calling_endpoint(event: &Event) -> Option<Endpoint> {
    let user = event.variable("user_name").or_else(|| event.variable("sip_auth_username"))?;
    let domain = event.variable("domain_name").or_else(|| event.variable("sip_auth_realm"));
    let text = |text: &str| short(text, TEXT_MAX).to_owned();
    Some(Endpoint { user: text(user), domain: domain.map(text) })
}

fn dialled_user(event: &Event) -> Option<super::Aor> {
    let user = short(event.variable("dialed_user")?, TEXT_MAX).to_owned();
    let domain = event.variable("dialed_domain").map(|domain| short(domain, TEXT_MAX).to_owned());
    Some(super::Aor { user, domain })
}

fn caller(event: &Event) -> Caller {
    let hides = |name: &str| matches!(event.get(name), "true" | "yes");
    let number = short(event.get("Caller-Caller-ID-Number"), TEXT_MAX);
    let name = short(event.get("Caller-Caller-ID-Name"), TEXT_MAX);
    let anonymous = ["anonymous", "unknown", "restricted", "unavailable"];
    let withheld =
        hides("Caller-Privacy-Hide-Number") || anonymous.iter().any(|word| number.eq_ignore_ascii_case(word));
    if withheld {
        return Caller { withheld: true, ..Caller::default() };
    }
    let shown = !hides("Caller-Privacy-Hide-Name") && name != number;
    Caller {
        number: if number == NO_NUMBER { String::new() } else { number.to_owned() },
        name: if shown { name.to_owned() } else { String::new() },
        withheld: false,
    }
}

/// `PREFIX_user`, `PREFIX_host` and `PREFIX_port`.
fn key(event: &Event, prefix: &str) -> ContactKey {
    let part = |what: &str| event.variable(&format!("{prefix}_{what}")).map_or("", |text| short(text, TEXT_MAX));
    let host = part("host");
    // Some versions write the port into the host.
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => (host, port),
        _ => (host, part("port")),
    };
    ContactKey {
        user: canonical_user(part("user")).into(),
        host: canonical_host(host).into(),
        port: port.parse().ok().filter(|&port| port != 0),
    }
}

fn source(event: &Event) -> Option<SocketAddr> {
    let ip = event.variable("sip_network_ip").or_else(|| event.variable("sip_received_ip"))?.parse().ok()?;
    let port = event.variable("sip_network_port").or_else(|| event.variable("sip_received_port"))?.parse().ok()?;
    Some(SocketAddr::new(ip, port))
}

/// The port the PBX offers its audio on, as its INVITE says.
fn media_port(event: &Event) -> Option<u16> {
    let offered = || {
        let line = event.variable("rtp_local_sdp_str")?.lines().find_map(|line| line.strip_prefix("m=audio "))?;
        line.split(' ').next()
    };
    offered().or_else(|| event.variable("local_media_port"))?.parse().ok().filter(|&port| port != 0)
}

/// `X-…` headers of the INVITE.
fn headers(event: &Event) -> Vec<(String, String)> {
    let named = event.iter().filter_map(|(name, value)| Some((name.strip_prefix("variable_sip_h_")?, value)));
    let extensions = named.filter(|(name, _)| name.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("x-")));
    extensions
        .take(HEADERS_MAX)
        .map(|(name, value)| (name.to_ascii_lowercase(), short(value, TEXT_MAX).to_owned()))
        .collect()
}

/// What the core calls a caller without a number.
const NO_NUMBER: &str = "0000000000";
const TEXT_MAX: usize = 256;
const CALL_ID_MAX: usize = 512;
const HEADERS_MAX: usize = 32;
