//! Queues and their members, as connectors report them.

use std::sync::Arc;

use super::links::queue_id;
use super::news::{Origin, QueueEvent, QueueHappening};
use super::office::{ACCOUNT, Office, PBX};
use crate::model::{DeviceId, Member, Now, Queue, UnixMillis};
use crate::registry::{ReportedMember, ReportedQueue};
use crate::switchboard::View as _;

impl Office {
    /// The queue of this name, which appears if it is new.
    pub(super) fn ensure_queue(&mut self, name: &str) {
        self.queue_mut(name);
    }

    /// Takes what a connector says of a queue and all its members, and says what is new.
    pub(super) fn queue_reported(&mut self, queue: &ReportedQueue, now: Now) -> Vec<QueueEvent> {
        let Some(known) = self.queue_mut(&queue.name) else { return Vec::new() };
        known.number.clone_from(&queue.number);
        let before: Vec<DeviceId> = known.members.iter().map(|member| member.device).collect();
        let mut events = Vec::new();
        let mut there = Vec::new();
        for member in &queue.members {
            there.extend(self.appear(&member.user, Origin::Connector, Some(now.unix)));
            events.extend(self.member_reported(&queue.name, member, now));
        }
        let gone: Vec<DeviceId> = before.into_iter().filter(|device| !there.contains(device)).collect();
        for device in gone {
            events.extend(self.remove_member(&queue.name, device, now));
        }
        events
    }

    /// Takes what a connector says of one member, and says what is new.
    pub(super) fn member_reported(&mut self, queue: &str, member: &ReportedMember, now: Now) -> Vec<QueueEvent> {
        let Some(device) = self.appear(&member.user, Origin::Connector, Some(now.unix)) else { return Vec::new() };
        let user = self.user_of(device);
        let Some(queue) = self.queue_mut(queue) else { return Vec::new() };
        let new = Member {
            device,
            paused: member.paused,
            pause_reason: member.pause_reason.clone(),
            penalty: member.penalty,
            kind: member.kind,
            state: member.state,
            since: now.unix,
        };
        let happened = match queue.members.binary_search_by_key(&device, |member| member.device) {
            Err(at) => {
                queue.members.insert(at, new);
                Some(QueueHappening::MemberAdded)
            }
            Ok(at) => queue.members.get_mut(at).and_then(|known| {
                let was_paused = known.paused;
                *known = Member { since: known.since, ..new };
                match (was_paused, member.paused) {
                    (false, true) => Some(QueueHappening::MemberPaused),
                    (true, false) => Some(QueueHappening::MemberUnpaused),
                    _ => None,
                }
            }),
        };
        happened.map(|event| queue_event(queue, event, device, user, now)).into_iter().collect()
    }

    /// Takes a connector's word that a member left.
    pub(super) fn member_gone(&mut self, queue: &str, user: &str, now: Now) -> Vec<QueueEvent> {
        let device = self.by_user(user);
        device.map(|device| self.remove_member(queue, device, now)).unwrap_or_default()
    }

    fn remove_member(&mut self, queue: &str, device: DeviceId, now: Now) -> Vec<QueueEvent> {
        let user = self.user_of(device);
        let Some(queue) = self.queue_mut(queue) else { return Vec::new() };
        let Ok(at) = queue.members.binary_search_by_key(&device, |member| member.device) else { return Vec::new() };
        queue.members.remove(at);
        vec![queue_event(queue, QueueHappening::MemberRemoved, device, user, now)]
    }

    fn user_of(&self, device: DeviceId) -> Option<String> {
        self.phone(device).map(|phone| phone.user().to_owned())
    }

    /// None when there are too many queues, or this one has no name.
    fn queue_mut(&mut self, name: &str) -> Option<&mut Queue> {
        let known = self.queue_by_name(PBX, name);
        let id = match known {
            Some(id) => id,
            None if name.is_empty() || self.queues.len() >= QUEUES_MAX => return None,
            None => {
                let id = queue_id(self.queues.len() + 1);
                let (name, created_at) = (name.to_owned(), UnixMillis(0));
                let queue = Queue {
                    id,
                    account: ACCOUNT,
                    pbx: PBX,
                    name,
                    number: None,
                    members: Vec::new(),
                    created_at,
                    reported: true,
                    absent_since: None,
                };
                self.queues.insert(id, Arc::new(queue));
                id
            }
        };
        self.queues.get_mut(&id).map(Arc::make_mut)
    }
}

fn queue_event(queue: &Queue, event: QueueHappening, device: DeviceId, user: Option<String>, now: Now) -> QueueEvent {
    QueueEvent {
        at: now.unix,
        queue: Some(queue.id),
        name: queue.name.clone(),
        event,
        call: None,
        device: Some(device),
        user,
    }
}

const QUEUES_MAX: usize = 10_000;
