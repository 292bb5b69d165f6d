//! Dry run: who would pop for this number through that queue, and why not the others (X9).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::route::{Question, Trigger, route};
use super::{CompiledPlan, View};
use crate::model::{AccountId, DeviceId, Direction, LegRole, Party, PbxId, QueueId, QueueNotice, Reason, UserId};

/// A call that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PreviewQuestion {
    /// The PBX it would cross.
    pub pbx: PbxId,
    /// The calling number; absent = withheld.
    #[serde(default)]
    pub caller: Option<String>,
    /// The queue it would come through.
    #[serde(default)]
    pub queue: Option<QueueId>,
    /// The devices it would ring; with a queue, its members are added.
    #[serde(default)]
    pub devices: Vec<DeviceId>,
    /// What would be dialled: an extension adds its device, a queue number its queue.
    #[serde(default)]
    pub dialled: Option<String>,
}

/// What would happen to one user (or, without one, to one device).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PreviewRow {
    /// The user; none for a device nobody is linked to.
    pub user: Option<UserId>,
    /// The device that would ring.
    pub device: Option<DeviceId>,
    /// When the call joins the queue: `offered`, or why not. None without a queue, and where the account tells nobody
    /// before a device rings (`queue_notice = ring`).
    pub on_join: Option<Reason>,
    /// When the device rings: `offered`, or why not. None when no device would ring.
    pub on_ring: Option<Reason>,
    /// When the device answers: `answered`, or why not. None when no device would ring.
    pub on_answer: Option<Reason>,
    /// The user's connected sessions.
    pub sessions: u32,
}

/// Answers for everybody in the call's audience, by the very rules that route real calls.
#[must_use]
pub fn preview(view: &dyn View, account: AccountId, question: &PreviewQuestion) -> (Direction, Vec<PreviewRow>) {
    let Some(account) = view.account(account) else { return (Direction::Internal, Vec::new()) };
    let plan = CompiledPlan::new(&account.number_plan);
    let caller = read_caller(view, &plan, account.id, question);
    let direction = if caller.external { Direction::Inbound } else { Direction::Internal };
    let dialled = question.dialled.as_deref();
    let queue = question.queue.or_else(|| dialled.and_then(|number| view.queue_by_number(question.pbx, number)));
    // Other tenants of the PBX may have the same numbers.
    let queue = queue.filter(|id| view.queue(*id).is_some_and(|queue| queue.account == account.id));
    let mut devices = devices(view, question, queue);
    devices.retain(|device| view.device(*device).is_some_and(|facts| facts.account == account.id));
    let ask = |trigger, user: &super::UserFacts, device: Option<DeviceId>| {
        let device_enabled = device.and_then(|d| view.device(d)).is_none_or(|facts| facts.enabled);
        let settings = &account.settings;
        route(&Question { trigger, direction, queue, device_enabled, user, settings })
    };
    let noticed = account.settings.queue_notice == QueueNotice::Join;
    let joins = queue.filter(|_| noticed);
    // No device has part in the join: one that is disabled does not stand against it.
    let joined =
        |user: &super::UserFacts| ask(Trigger::Join, user, None).map_or_else(|reason| reason, |()| Reason::Offered);
    let mut rows = Vec::new();
    for device in &devices {
        let users = view.linked_users(*device);
        if users.is_empty() {
            rows.push(unlinked(None, Some(*device)));
        }
        for user in users {
            let Some(facts) = view.user(user).filter(|facts| facts.account == account.id) else { continue };
            let said = |trigger, yes| ask(trigger, &facts, Some(*device)).map_or_else(|reason| reason, |()| yes);
            rows.push(PreviewRow {
                user: Some(user),
                device: Some(*device),
                on_join: joins.map(|_| joined(&facts)),
                on_ring: Some(said(Trigger::Ring, Reason::Offered)),
                on_answer: Some(said(Trigger::Answer, Reason::Answered)),
                sessions: view.sessions(user),
            });
        }
    }
    for user in queue.map(|queue| view.users_of_queue(queue)).unwrap_or_default() {
        if rows.iter().any(|row| row.user == Some(user)) {
            continue;
        }
        let Some(facts) = view.user(user).filter(|facts| facts.account == account.id) else { continue };
        let on_join = if noticed { joined(&facts) } else { Reason::NotLinked };
        rows.push(PreviewRow { on_join: Some(on_join), sessions: view.sessions(user), ..unlinked(Some(user), None) });
    }
    (direction, rows)
}

fn read_caller(view: &dyn View, plan: &CompiledPlan, account: AccountId, question: &PreviewQuestion) -> Arc<Party> {
    let start = crate::model::LegStart {
        caller: crate::model::Caller {
            number: question.caller.clone().unwrap_or_default(),
            name: String::new(),
            withheld: question.caller.is_none(),
        },
        ..crate::model::LegStart::default()
    };
    let identity = super::identity::Identity { role: LegRole::TrunkIn, device: None };
    super::party::read(view, plan, question.pbx, identity, Some(account), &start).caller
}

fn devices(view: &dyn View, question: &PreviewQuestion, queue: Option<QueueId>) -> Vec<DeviceId> {
    let members = queue.and_then(|queue| view.queue(queue));
    let members = members.iter().flat_map(|queue| &queue.members).filter(|m| !m.paused).map(|m| m.device);
    let dialled = question.dialled.as_deref().map(|number| view.devices_by_extension(question.pbx, number));
    let mut devices: Vec<DeviceId> =
        question.devices.iter().copied().chain(members).chain(dialled.unwrap_or_default()).collect();
    devices.sort_unstable();
    devices.dedup();
    devices
}

fn unlinked(user: Option<UserId>, device: Option<DeviceId>) -> PreviewRow {
    let said = device.map(|_| Reason::NotLinked);
    PreviewRow { user, device, on_join: None, on_ring: said, on_answer: said, sessions: 0 }
}
