//! What connectors report of a PBX's queues: who is in them and how they are. The PBX's word is applied at once and stored
//! when it can be (promise 4); the version of a queue that admins edit stays as it was.
//!
//! - A queue the PBX no longer lists is marked absent, never deleted: users and rules may refer to it.
//! - A member that was put in by hand stays beside those the PBX lists, so that nothing is lost silently; the drift report
//!   shows it. Once the PBX has listed it, it is the PBX's.
//! - A member whose device belongs to another account than the queue is left out and counted: tenants don't see each other.
//! - How a member is (`state`) is not stored: after a start it is unknown until the PBX tells.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use super::noun::queue_name_key;
use super::{Registry, ReportedMember, ReportedQueue, Target};
use crate::model::{
    AccountId, DeviceId, Member, MemberKind, MemberState, Now, PbxId, Queue, QueueId, UnixMillis, canonical_user,
};
use crate::store::Seq;

/// When extensions were told, and which they are.
pub type Endpoints = (UnixMillis, BTreeSet<Box<str>>);

/// What PBXs have, as far as their feeds tell. In memory only: they tell it again.
#[derive(Debug, Default)]
pub(super) struct Known {
    endpoints: RwLock<HashMap<PbxId, Endpoints>>,
    queues: RwLock<HashMap<PbxId, (UnixMillis, HashSet<String>)>>,
}

impl Registry {
    /// The PBX has these queues and no others.
    pub fn queues_reported(&self, pbx: PbxId, queues: Vec<ReportedQueue>, now: Now) {
        let names: HashSet<String> = queues.iter().map(|queue| queue.name.to_lowercase()).collect();
        for queue in queues {
            self.queue_reported(pbx, queue, now);
        }
        for row in self.queues.referring_to(pbx.0) {
            let gone = row.value.is_fed() && row.value.pbx == pbx && !names.contains(&row.value.name.to_lowercase());
            if gone {
                self.revise_queue(row.value.id, |queue| queue.absent_since = Some(now.unix));
            }
        }
        self.known.queues.write().unwrap_or_else(PoisonError::into_inner).insert(pbx, (now.unix, names));
    }

    /// All there is to know of one queue; it appears when it is new.
    pub fn queue_reported(&self, pbx: PbxId, queue: ReportedQueue, now: Now) {
        let Some(id) = self.ensure_queue(pbx, &queue.name, queue.number.as_deref(), &queue.members, now) else {
            return;
        };
        let Some(row) = self.queues.get(id) else { return };
        let mut members: Vec<Member> =
            queue.members.iter().filter_map(|member| self.to_member(&row.value, member, now)).collect();
        if members.len() > MEMBERS_MAX {
            super::count_dropped("queue_members");
            members.truncate(MEMBERS_MAX);
        }
        let number = queue.number.filter(|_| row.value.number.is_none());
        self.revise_queue(id, |queue| {
            let listed: HashSet<DeviceId> = members.iter().map(|member| member.device).collect();
            let before = std::mem::take(&mut queue.members);
            let since = |device| before.iter().find(|known| known.device == device).map(|known| known.since);
            queue.members =
                members.into_iter().map(|m| Member { since: since(m.device).unwrap_or(m.since), ..m }).collect();
            let by_hand = before.into_iter().filter(|m| m.kind == MemberKind::Manual && !listed.contains(&m.device));
            queue.members.extend(by_hand);
            queue.reported = true;
            queue.absent_since = None;
            queue.number = queue.number.take().or(number);
        });
    }

    /// A member came, or something about it changed.
    pub fn member_reported(&self, pbx: PbxId, queue: &str, member: ReportedMember, now: Now) {
        let reported = [member];
        let Some(id) = self.ensure_queue(pbx, queue, None, &reported, now) else { return };
        let Some(row) = self.queues.get(id) else { return };
        let Some(member) = reported.first().and_then(|member| self.to_member(&row.value, member, now)) else { return };
        self.revise_queue(id, |queue| {
            queue.reported = true;
            queue.absent_since = None;
            let full = queue.members.len() >= MEMBERS_MAX;
            match queue.members.iter_mut().find(|known| known.device == member.device) {
                Some(known) => *known = Member { since: known.since, ..member },
                None if full => super::count_dropped("queue_members"),
                None => queue.members.push(member),
            }
        });
    }

    /// A member left.
    pub fn member_gone(&self, pbx: PbxId, queue: &str, device: &str, _now: Now) {
        let Some(row) = self.queues.find(&queue_name_key(pbx, queue)) else { return };
        let user = canonical_user(device);
        let is_it = |member: &Member| {
            self.devices.records.get(&member.device).is_some_and(|record| *record.device().user == *user)
        };
        let Some(gone) = row.value.members.iter().find(|member| is_it(member)).map(|member| member.device) else {
            return;
        };
        self.revise_queue(row.value.id, |queue| queue.members.retain(|member| member.device != gone));
    }

    /// The extensions the PBX has, registered or not. Tell them before its queues: a member that is none of them, as a
    /// number outside, makes no device.
    pub fn endpoints_reported(&self, pbx: PbxId, users: Vec<String>, now: Now) {
        if users.len() > ENDPOINTS_MAX {
            super::count_dropped("reported_endpoints");
        }
        let users = users.into_iter().take(ENDPOINTS_MAX).filter(|user| !user.is_empty() && !user.contains('\0'));
        let users = users.map(|user| canonical_user(&user).into()).collect();
        self.known.endpoints.write().unwrap_or_else(PoisonError::into_inner).insert(pbx, (now.unix, users));
    }

    /// The extensions a feed of the PBX told of, and when; none where none did since the start.
    #[must_use]
    pub fn endpoints_of(&self, pbx: PbxId) -> Option<Endpoints> {
        self.known.endpoints.read().unwrap_or_else(PoisonError::into_inner).get(&pbx).cloned()
    }

    /// When a feed last listed the PBX's queues, and their names in lower case.
    pub(super) fn queues_told(&self, pbx: PbxId) -> Option<(UnixMillis, HashSet<String>)> {
        self.known.queues.read().unwrap_or_else(PoisonError::into_inner).get(&pbx).cloned()
    }

    /// Waits until `is_so` of the queue, as the PBX's events confirm it; false when that takes longer than `wait`.
    pub async fn queue_confirms(&self, id: QueueId, wait: Duration, is_so: impl Fn(&Queue) -> bool) -> bool {
        let mut moved = self.queues_moved.subscribe();
        let confirmed = async {
            loop {
                moved.borrow_and_update();
                if self.queues.get(id).is_some_and(|queue| is_so(&queue.value)) {
                    return true;
                }
                if moved.changed().await.is_err() {
                    return false;
                }
            }
        };
        tokio::time::timeout(wait, confirmed).await.unwrap_or(false)
    }

    /// Tells admins how the members of a queue changed.
    pub(super) fn tell_members(&self, before: &Queue, after: &Queue, seq: Seq) {
        let told = |event, member: &Member| {
            let extension = self.devices.records.get(&member.device).map(|record| record.extension().to_owned());
            let data = serde_json::json!({
                "queue": after.id, "name": after.name, "pbx": after.pbx, "extension": extension, "member": member,
            });
            self.announce(seq, after.account, event, data);
        };
        for member in &after.members {
            match before.member(member.device) {
                None => told("queue.member_added", member),
                Some(known) if known != member => told("queue.member_updated", member),
                Some(_) => {}
            }
        }
        for member in before.members.iter().filter(|member| after.member(member.device).is_none()) {
            told("queue.member_removed", member);
        }
    }

    fn ensure_queue(
        &self,
        pbx: PbxId,
        name: &str,
        number: Option<&str>,
        members: &[ReportedMember],
        now: Now,
    ) -> Option<QueueId> {
        if let Some(row) = self.queues.find(&queue_name_key(pbx, name)) {
            return Some(row.value.id);
        }
        if name.is_empty() || name.len() > NAME_MAX || name.contains('\0') {
            super::count_dropped("queue_name");
            return None;
        }
        let queue = Queue {
            id: QueueId(self.clock.uuid()),
            account: self.account_of_queue(pbx, name, members)?,
            pbx,
            name: name.to_owned(),
            number: number
                .filter(|number| self.queues.find(&super::noun::queue_number_key(pbx, number)).is_none())
                .map(str::to_owned),
            members: Vec::new(),
            reported: true,
            absent_since: None,
            created_at: now.unix,
        };
        let created =
            self.create_queue(queue).inspect_err(|error| tracing::warn!(%error, "a queue of a PBX can't be kept"));
        created.ok().map(|row| row.value.id)
    }

    /// Whose a new queue is: of the domain in its name (`sales@tenant.example`), else of the one account all its members
    /// name, else of the PBX's own.
    fn account_of_queue(&self, pbx: PbxId, name: &str, members: &[ReportedMember]) -> Option<AccountId> {
        let own = self.pbxs.get(pbx)?.value.account;
        let of = |domain: &str| self.account_by_domain(domain).map(|account| account.value.id);
        let within = |account: &AccountId| self.account_within(*account, own);
        if let Some(account) = name.rsplit_once('@').and_then(|(_, domain)| of(domain)).filter(within) {
            return Some(account);
        }
        let mut accounts: Vec<Option<AccountId>> =
            members.iter().map(|member| member.domain.as_deref().and_then(of)).collect();
        accounts.dedup();
        match accounts.as_slice() {
            [Some(account)] if within(account) => Some(*account),
            _ => Some(own),
        }
    }

    fn to_member(&self, queue: &Queue, member: &ReportedMember, now: Now) -> Option<Member> {
        let user = canonical_user(&member.user);
        let target = match member.domain.as_deref().filter(|domain| !domain.is_empty()) {
            Some(domain) => self.resolve(queue.pbx, &member.user, domain)?,
            // Whom nobody places elsewhere is at home where the queue is.
            None if user.is_empty() || user.contains('\0') => return None,
            None => Target::new(queue.account, queue.pbx, user),
        };
        if target.account != queue.account {
            super::count_dropped("member_of_another_account");
            return None;
        }
        if !self.devices.records.contains_key(&target.device()) && !self.may_be_endpoint(queue.pbx, &target.user) {
            super::count_dropped("member_without_device");
            return None;
        }
        let device = self.ensure_device(&target, now)?;
        Some(Member {
            device,
            paused: member.paused,
            pause_reason: member.pause_reason.as_deref().filter(|_| member.paused).and_then(short),
            since: now.unix,
            penalty: member.penalty,
            kind: member.kind,
            state: member.state,
        })
    }

    fn may_be_endpoint(&self, pbx: PbxId, user: &str) -> bool {
        let endpoints = self.known.endpoints.read().unwrap_or_else(PoisonError::into_inner);
        endpoints.get(&pbx).is_none_or(|(_, users)| users.contains(user))
    }

    /// Changes a queue as the PBX says, when it is a change at all.
    fn revise_queue(&self, id: QueueId, change: impl FnOnce(&mut Queue)) {
        let _editing = self.editing();
        let Some(before) = self.queues.get(id) else { return };
        let mut after = (*before.value).clone();
        change(&mut after);
        after.members.sort_by_key(|member| member.device);
        after.members.dedup_by_key(|member| member.device);
        if after == *before.value {
            return;
        }
        if let Some(number) = after.number.as_ref().filter(|number| before.value.number.as_ref() != Some(number))
            && self.queues.find(&super::noun::queue_number_key(after.pbx, number)).is_some()
        {
            after.number.clone_from(&before.value.number);
        }
        let durable = stateless(&after) != stateless(&before.value);
        let Ok(row) = self.queues.revise(after, &self.journal, durable) else { return };
        let (before, after) = (&before.value, &row.value);
        self.tell_members(before, after, Seq(0));
        let plain = |queue: &Queue| (queue.reported, queue.absent_since, queue.number.clone());
        if plain(before) != plain(after) {
            self.announce(Seq(0), after.account, "queue.updated", serde_json::to_value(after).unwrap_or_default());
        }
        self.queues_moved.send_modify(|moved| *moved += 1);
    }
}

/// The queue as it is stored.
fn stateless(queue: &Queue) -> Queue {
    let mut queue = queue.clone();
    for member in &mut queue.members {
        member.state = MemberState::Unknown;
    }
    queue
}

/// A PBX's text as far as it is kept.
fn short(text: &str) -> Option<String> {
    let text: String = text.chars().filter(|c| !c.is_control()).take(REASON_MAX).collect();
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Members of one queue.
const MEMBERS_MAX: usize = 5_000;
/// Extensions of one PBX.
const ENDPOINTS_MAX: usize = 100_000;
/// Bytes of a queue's name.
const NAME_MAX: usize = 200;
/// Characters of a pause reason.
const REASON_MAX: usize = 200;
