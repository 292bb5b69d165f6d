//! What a change of bindings means for a device's history.

use std::net::SocketAddr;

use smallvec::SmallVec;

use crate::model::{Binding, DeviceId, Transition, TransitionKind, UnixMillis};

/// The transitions between two states of a device's bindings; `cause` says why bindings ended, if any did. Refreshes
/// are none.
pub(crate) fn transitions(
    device: DeviceId,
    at: UnixMillis,
    before: &[Binding],
    after: &[Binding],
    cause: &'static str,
) -> SmallVec<[Transition; 1]> {
    let mut found = SmallVec::new();
    match (before, after) {
        ([], [first, ..]) => found.push(transition(device, at, TransitionKind::Up, first, "registered")),
        ([.., last], []) => found.push(transition(device, at, TransitionKind::Down, last, cause)),
        _ => {}
    }
    for binding in after {
        let Some(old) = predecessor(binding, before, after) else { continue };
        if address_changed(old.received, binding.received) {
            found.push(transition(device, at, TransitionKind::AddressChanged, binding, moved_by(old, binding)));
        }
        if old.user_agent.is_some() && binding.user_agent.is_some() && old.user_agent != binding.user_agent {
            found.push(transition(device, at, TransitionKind::UserAgentChanged, binding, moved_by(old, binding)));
        }
    }
    found
}

/// The binding that `binding` refreshes or replaces: the same instance, the same contact, the same Call-ID, or, when
/// one went as one came, the one that went.
fn predecessor<'a>(binding: &Binding, before: &'a [Binding], after: &[Binding]) -> Option<&'a Binding> {
    let same_instance =
        |old: &&Binding| binding.instance.is_some() && old.instance == binding.instance && old.reg_id == binding.reg_id;
    let named = before
        .iter()
        .find(same_instance)
        .or_else(|| before.iter().find(|old| old.contact == binding.contact))
        .or_else(|| before.iter().find(|old| old.call_id == binding.call_id));
    if named.is_some() {
        return named;
    }
    let mut gone = before.iter().filter(|old| after.iter().all(|new| new.contact != old.contact));
    let mut came = after.iter().filter(|new| before.iter().all(|old| old.contact != new.contact));
    let (gone_first, gone_more) = (gone.next(), gone.next());
    let (came_first, came_more) = (came.next(), came.next());
    (gone_more.is_none() && came_first.is_some() && came_more.is_none()).then_some(gone_first).flatten()
}

/// A NAT gives a phone a new port whenever it likes; only a new IP address is news.
fn address_changed(old: Option<SocketAddr>, new: Option<SocketAddr>) -> bool {
    matches!((old, new), (Some(old), Some(new)) if old.ip() != new.ip())
}

fn moved_by(old: &Binding, new: &Binding) -> &'static str {
    if old.contact == new.contact { "registered" } else { "replaced" }
}

fn transition(
    device: DeviceId,
    at: UnixMillis,
    kind: TransitionKind,
    binding: &Binding,
    cause: &'static str,
) -> Transition {
    Transition {
        device,
        at,
        kind,
        contact: Some(binding.contact.to_string()),
        address: binding.received.map(|received| received.ip()),
        user_agent: binding.user_agent.as_deref().map(Into::into),
        cause: cause.into(),
    }
}
