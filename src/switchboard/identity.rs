//! Whose leg is it? Contact, then address-of-record, then extension; never a guess between two.

use super::View;
use crate::model::{ContactKey, DeviceId, Endpoint, FeedKind, Hop, LegRole, LegStart, PbxId};

/// What a leg turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub role: LegRole,
    pub device: Option<DeviceId>,
}

/// Candidates for one end of a leg.
enum Found {
    None,
    One(DeviceId),
    Several,
}

/// Decides the role of a leg on `pbx` and the device at its far end.
pub(super) fn identify(view: &dyn View, pbx: PbxId, feed: FeedKind, start: &LegStart) -> Identity {
    if let Some(endpoint) = &start.endpoint {
        return by_endpoint(view, pbx, start.hop, endpoint);
    }
    let hop = if feed == FeedKind::Replica { Hop::FromPbx } else { hop_by_networks(view, pbx, start) };
    if hop != Hop::ToPbx {
        match by_bound_target(view, pbx, start) {
            Found::One(device) => return Identity { role: LegRole::ToDevice, device: Some(device) },
            Found::Several => return Identity { role: LegRole::Ambiguous, device: None },
            Found::None => {}
        }
    }
    if hop == Hop::FromPbx || (start.downstream && hop == Hop::Unknown) {
        return match by_called_name(view, pbx, start) {
            Found::One(device) => Identity { role: LegRole::ToDevice, device: Some(device) },
            Found::Several => Identity { role: LegRole::Ambiguous, device: None },
            Found::None => Identity { role: LegRole::TrunkOut, device: None },
        };
    }
    match by_sender(view, pbx, start) {
        Found::One(device) => Identity { role: LegRole::FromDevice, device: Some(device) },
        Found::Several => Identity { role: LegRole::Ambiguous, device: None },
        Found::None => match (hop == Hop::Unknown).then(|| at_its_address(view, pbx, start)).flatten() {
            Some(device) => Identity { role: LegRole::ToDevice, device: Some(device) },
            None => Identity { role: LegRole::TrunkIn, device: None },
        },
    }
}

/// A connector's word: its channel is a device's, or a trunk's.
fn by_endpoint(view: &dyn View, pbx: PbxId, hop: Hop, endpoint: &Endpoint) -> Identity {
    let device = view.device_by_aor(pbx, &endpoint.user, endpoint.domain.as_deref().unwrap_or_default());
    let role = match (hop, device) {
        (Hop::ToPbx, Some(_)) => LegRole::FromDevice,
        (Hop::ToPbx, None) => LegRole::TrunkIn,
        (_, Some(_)) => LegRole::ToDevice,
        (_, None) => LegRole::TrunkOut,
    };
    Identity { role, device }
}

/// The feed's word, else what the PBX's networks say about who sent it to whom.
fn hop_by_networks(view: &dyn View, pbx: PbxId, start: &LegStart) -> Hop {
    if start.hop != Hop::Unknown {
        return start.hop;
    }
    let Some(pbx) = view.pbx(pbx) else { return Hop::Unknown };
    let of_pbx = |address: Option<std::net::SocketAddr>| address.is_some_and(|a| pbx.has_address(a.ip()));
    match (of_pbx(start.source), of_pbx(start.destination)) {
        (true, false) => Hop::FromPbx,
        (false, true) => Hop::ToPbx,
        _ => Hop::Unknown,
    }
}

/// The Request-URI is a contact somebody bound. Two offices behind NAT may bind the same private address: then the
/// address it was really sent to decides, then the To.
fn by_bound_target(view: &dyn View, pbx: PbxId, start: &LegStart) -> Found {
    let bound = view.devices_by_contact(pbx, &start.target);
    narrow(view, pbx, &bound, start.destination.map(|d| d.ip()), &start.to)
}

/// The sender's Contact is one that somebody bound; else its From names a device that is not known to be elsewhere.
fn by_sender(view: &dyn View, pbx: PbxId, start: &LegStart) -> Found {
    let source = start.source.map(|s| s.ip());
    let bound = start.contact.as_ref().map(|contact| view.devices_by_contact(pbx, contact)).unwrap_or_default();
    match narrow(view, pbx, &bound, source, &start.from) {
        Found::None => {}
        found => return found,
    }
    let elsewhere = |device: DeviceId| source.is_some_and(|ip| view.device_is_at(device, ip) == Some(false));
    if let Some(device) = view.device_by_aor(pbx, &start.from.user, &start.from.host) {
        return if elsewhere(device) { Found::None } else { Found::One(device) };
    }
    Found::None
}

/// A request that a PBX sent on: its Request-URI names a device by address-of-record or extension. A phone may have
/// registered a contact whose user part is no number at all; then the To names it.
fn by_called_name(view: &dyn View, pbx: PbxId, start: &LegStart) -> Found {
    match by_name(view, pbx, &start.target) {
        Found::None if !is_dialable(&start.target.user) => by_name(view, pbx, &start.to),
        found => found,
    }
}

fn by_name(view: &dyn View, pbx: PbxId, name: &ContactKey) -> Found {
    if name.user.is_empty() {
        return Found::None;
    }
    if let Some(device) = view.device_by_aor(pbx, &name.user, &name.host) {
        return Found::One(device);
    }
    match *view.devices_by_extension(pbx, &name.user) {
        [] => Found::None,
        [device] => Found::One(device),
        _ => Found::Several,
    }
}

/// Nothing says which way it went, but it is addressed to where that very device lives.
fn at_its_address(view: &dyn View, pbx: PbxId, start: &LegStart) -> Option<DeviceId> {
    let Found::One(device) = by_name(view, pbx, &start.target) else { return None };
    let host = start.target.host.trim_start_matches('[').trim_end_matches(']').parse().ok();
    let address = start.destination.map(|d| d.ip()).or(host)?;
    (view.device_is_at(device, address) == Some(true)).then_some(device)
}

fn narrow(
    view: &dyn View,
    pbx: PbxId,
    candidates: &[DeviceId],
    address: Option<std::net::IpAddr>,
    name: &ContactKey,
) -> Found {
    match candidates {
        [] => return Found::None,
        [device] => return Found::One(*device),
        _ => {}
    }
    if let Some(address) = address {
        let mut there = candidates.iter().filter(|device| view.device_is_at(**device, address) == Some(true));
        if let (Some(device), None) = (there.next(), there.next()) {
            return Found::One(*device);
        }
    }
    match by_name(view, pbx, name) {
        Found::One(device) if candidates.contains(&device) => Found::One(device),
        _ => Found::Several,
    }
}

/// Digits with an optional `+`, or a feature code: what is dialled, as opposed to what a phone calls itself.
fn is_dialable(user: &str) -> bool {
    user.bytes().all(|b| b.is_ascii_digit() || b"+*#".contains(&b))
}
