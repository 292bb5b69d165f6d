//! Which queue a call is in, as far as SIP shows it.

use super::View;
use crate::model::{AccountId, LegRole, LegStart, PbxId, QueueId, QueueRule};

/// What the rules of a PBX make of a leg.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Recognised {
    pub queue: Option<QueueId>,
    /// The caller dialled the queue's number on this very leg.
    pub joins: bool,
    /// The display name with a queue prefix taken off.
    pub name: Option<String>,
}

/// Tries the PBX's rules in their order, then the queue's own number.
pub(super) fn recognise(
    view: &dyn View,
    pbx: PbxId,
    role: LegRole,
    tenant: Option<AccountId>,
    start: &LegStart,
) -> Recognised {
    let Some(facts) = view.pbx(pbx) else { return Recognised::default() };
    let dialled = matches!(role, LegRole::TrunkIn | LegRole::FromDevice).then_some(&*start.target.user);
    // A queue of another PBX or tenant, or one that was deleted, is no answer.
    let known = |id: &QueueId| {
        let queue = view.queue(*id);
        queue.is_some_and(|queue| queue.pbx == pbx && tenant.is_none_or(|tenant| queue.account == tenant))
    };
    let named = start.queue.as_deref().and_then(|name| view.queue_by_name(pbx, name)).filter(known);
    let mut found = Recognised { queue: named, ..Recognised::default() };
    for rule in &facts.queue_rules {
        let queue = match rule {
            QueueRule::Dialled { number, queue } => (dialled == Some(number.as_str())).then_some(*queue),
            QueueRule::Header { name, value, queue } => by_header(view, pbx, start, name, value.as_deref(), *queue),
            QueueRule::NamePrefix { prefix, queue } => {
                let rest = start.caller.name.strip_prefix(prefix.as_str()).filter(|_| !prefix.is_empty());
                if let Some(rest) = rest {
                    found.name.get_or_insert_with(|| rest.trim().to_owned());
                }
                rest.map(|_| *queue)
            }
        };
        let queue = queue.filter(known);
        if found.queue.is_none() && queue.is_some() {
            found.queue = queue;
            found.joins = matches!(rule, QueueRule::Dialled { .. });
        }
    }
    if found.queue.is_none() {
        found.queue = dialled.and_then(|number| view.queue_by_number(pbx, number)).filter(known);
        found.joins = found.queue.is_some();
    }
    found
}

fn by_header(
    view: &dyn View,
    pbx: PbxId,
    start: &LegStart,
    name: &str,
    wanted: Option<&str>,
    queue: Option<QueueId>,
) -> Option<QueueId> {
    let mut values = start.headers.iter().filter(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, v)| v);
    values.find_map(|value| match (wanted, queue) {
        (Some(wanted), _) if !wanted.eq_ignore_ascii_case(value) => None,
        (_, Some(queue)) => Some(queue),
        (_, None) => view.queue_by_name(pbx, value),
    })
}
