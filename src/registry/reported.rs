//! What connectors report of a PBX: contacts, queues, members, endpoints. The PBX's word is applied at once and stored
//! when it can be (promise 4).

use std::net::SocketAddr;
use std::sync::Arc;

use dashmap::Entry;

use super::contact::contact_key;
use super::homes::Devices;
use super::record::Record;
use super::register::new_device;
use super::{Change, Registry, Target};
use crate::model::{
    Binding, BindingSource, DeviceId, Member, MemberKind, MemberState, Now, PbxId, Queue, QueueId, Transport,
    UnixMillis,
};
use crate::store::{DirtyKey, Kind, Stored};

/// A contact as a connector lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedContact {
    /// The contact URI.
    pub uri: String,
    /// When the PBX lets it go; none where it does not say.
    pub expires_at: Option<UnixMillis>,
    /// The address the phone is behind.
    pub received: Option<SocketAddr>,
    /// Its User-Agent.
    pub user_agent: Option<String>,
    /// Call-ID of its REGISTER.
    pub call_id: Option<String>,
    /// Its transport.
    pub transport: Transport,
    /// Path header values (RFC 3327).
    pub path: Option<String>,
    /// Round trip of the PBX's last OPTIONS, in microseconds.
    pub rtt_us: Option<u32>,
    /// Whether that OPTIONS was answered; none where the PBX does not ask.
    pub reachable: Option<bool>,
}

/// A queue as a connector lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedQueue {
    /// Its name on the PBX.
    pub name: String,
    /// The number callers dial, where the PBX says.
    pub number: Option<String>,
    /// All that are in it.
    pub members: Vec<ReportedMember>,
}

/// A queue member as a connector lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportedMember {
    /// User part of the device.
    pub user: String,
    /// Its domain, when the PBX names one.
    pub domain: Option<String>,
    /// What the PBX calls it.
    pub name: Option<String>,
    /// Whether calls are held back from it.
    pub paused: bool,
    /// Why.
    pub pause_reason: Option<String>,
    /// Order of preference: lower ones are called first.
    pub penalty: u32,
    /// How it came into the queue.
    pub kind: MemberKind,
    /// What the PBX says of it.
    pub state: MemberState,
}

impl Registry {
    /// The PBX called `name`, compared without case; without a name the oldest one.
    #[must_use]
    pub fn pbx_named(&self, name: Option<&str>) -> Option<PbxId> {
        let pbxs = self.pbxs.all();
        let wanted = pbxs.iter().filter(|pbx| name.is_none_or(|name| pbx.value.name.eq_ignore_ascii_case(name)));
        wanted.min_by_key(|pbx| (pbx.value.created_at, pbx.value.id)).map(|pbx| pbx.value.id)
    }

    /// Makes a device appear that has not registered yet, or finds it. None when a limit forbids it (counted).
    pub fn ensure_device(&self, target: &Target<'_>, now: Now) -> Option<DeviceId> {
        let id = target.device();
        if self.devices.records.contains_key(&id) {
            return Some(id);
        }
        let home = self.devices.home(target.account, target.pbx);
        let view = match self.devices.records.entry(id) {
            Entry::Occupied(_) => return Some(id),
            Entry::Vacant(entry) => {
                self.may_not_appear(&home.devices, now).is_none().then_some(())?;
                let record = Box::new(Record::new(new_device(target, id, now), home));
                Devices::file(&record);
                self.journal.mark(DirtyKey { kind: Kind::Device, id: id.0 });
                let view = record.view(now);
                entry.insert(record);
                view
            }
        };
        self.announce_device("device.created", &view, crate::store::Seq(0));
        Some(id)
    }

    /// Takes over what a connector says the contacts of an address-of-record are: with `complete` these and no others.
    pub fn contacts_reported(&self, target: &Target<'_>, contacts: Vec<ReportedContact>, complete: bool, now: Now) {
        let max_s = self.pbxs.get(target.pbx).map_or(0, |pbx| pbx.value.passive_expires_max_s);
        self.register(target, BindingSource::Passive, now, |before| {
            let mut bindings: Vec<Binding> = if complete { Vec::new() } else { before.to_vec() };
            for contact in contacts {
                let key = contact_key(&contact.uri);
                let known = before.iter().find(|bound| key.is_some() && contact_key(&bound.contact) == key);
                bindings.retain(|bound| contact_key(&bound.contact) != key);
                bindings.push(to_binding(contact, known, u64::from(max_s) * 1000, now));
            }
            (Change::Set(bindings), ())
        });
    }

    /// A connector says that this contact is gone.
    pub fn contact_gone(&self, target: &Target<'_>, uri: &str, now: Now) {
        let key = contact_key(uri);
        self.register(target, BindingSource::Passive, now, |before| {
            let left = before.iter().filter(|bound| key.is_none() || contact_key(&bound.contact) != key);
            (Change::Set(left.cloned().collect()), ())
        });
    }

    /// What the PBX's own OPTIONS say of a contact.
    pub fn reachability(
        &self,
        _target: &Target<'_>,
        _uri: Option<&str>,
        _reachable: Option<bool>,
        _rtt_us: Option<u32>,
        _now: Now,
    ) {
    }

    /// The PBX has these queues and no others.
    pub fn queues_reported(&self, pbx: PbxId, queues: Vec<ReportedQueue>, now: Now) {
        for queue in queues {
            self.queue_reported(pbx, queue, now);
        }
    }

    /// All there is to know of one queue; it appears when it is new.
    pub fn queue_reported(&self, pbx: PbxId, queue: ReportedQueue, now: Now) {
        let Some(id) = self.ensure_queue(pbx, &queue.name, queue.number, now) else { return };
        let members: Vec<Member> =
            queue.members.into_iter().filter_map(|member| self.to_member(pbx, member, now)).collect();
        self.change_queue(id, |queue| {
            queue.members = members
                .into_iter()
                .map(|member| match queue.members.iter().find(|known| known.device == member.device) {
                    Some(known) => Member { since: known.since, ..member },
                    None => member,
                })
                .collect();
        });
    }

    /// A member came, or something about it changed.
    pub fn member_reported(&self, pbx: PbxId, queue: &str, member: ReportedMember, now: Now) {
        let Some(id) = self.ensure_queue(pbx, queue, None, now) else { return };
        let Some(member) = self.to_member(pbx, member, now) else { return };
        self.change_queue(id, |queue| match queue.members.iter_mut().find(|known| known.device == member.device) {
            Some(known) => *known = Member { since: known.since, ..member },
            None => queue.members.push(member),
        });
    }

    /// A member left.
    pub fn member_gone(&self, pbx: PbxId, queue: &str, user: &str, _now: Now) {
        let Some(row) = self.queues.find(&super::noun::queue_name_key(pbx, queue)) else { return };
        let Some(device) = self.resolve(pbx, user, "").map(|target| target.device()) else { return };
        self.change_queue(row.value.id, |queue| queue.members.retain(|member| member.device != device));
    }

    /// The extensions the PBX has, registered or not.
    pub fn endpoints_reported(&self, _pbx: PbxId, _users: Vec<String>, _now: Now) {}

    fn ensure_queue(&self, pbx: PbxId, name: &str, number: Option<String>, now: Now) -> Option<QueueId> {
        if let Some(row) = self.queues.find(&super::noun::queue_name_key(pbx, name)) {
            return Some(row.value.id);
        }
        let account = self.pbxs.get(pbx)?.value.account;
        let queue = Queue {
            id: QueueId(self.clock.uuid()),
            account,
            pbx,
            name: name.to_owned(),
            number,
            members: Vec::new(),
            created_at: now.unix,
        };
        match self.create_queue(queue) {
            Ok(row) => Some(row.value.id),
            Err(error) => {
                tracing::warn!(%error, "a queue of the PBX can't be kept");
                None
            }
        }
    }

    fn to_member(&self, pbx: PbxId, member: ReportedMember, now: Now) -> Option<Member> {
        let target = self.resolve(pbx, &member.user, member.domain.as_deref().unwrap_or_default())?;
        let device = self.ensure_device(&target, now)?;
        Some(Member {
            device,
            paused: member.paused,
            pause_reason: member.pause_reason.filter(|reason| !reason.is_empty()),
            since: now.unix,
            penalty: member.penalty,
            kind: member.kind,
            state: member.state,
        })
    }

    /// Changes a queue when the change is one at all.
    fn change_queue(&self, id: QueueId, change: impl FnOnce(&mut Queue)) -> Option<Arc<Stored<Queue>>> {
        let before = self.queues.get(id)?;
        let mut after = (*before.value).clone();
        change(&mut after);
        after.members.sort_by_key(|member| member.device);
        if after == *before.value {
            return None;
        }
        let changed = self.update_queue(id, None, |queue| {
            queue.members = after.members;
            Ok(())
        });
        changed.inspect_err(|error| tracing::warn!(%error, "a queue's members can't be kept")).ok()
    }
}

fn to_binding(contact: ReportedContact, known: Option<&Binding>, max_ms: u64, now: Now) -> Binding {
    let left =
        contact.expires_at.and_then(|at| u64::try_from(at - now.unix).ok()).filter(|_| contact.expires_at.is_some());
    let expires_at = match (left, known) {
        (Some(left), _) => now.tick + left,
        (None, Some(known)) => known.expires_at,
        (None, None) => now.tick + max_ms,
    };
    Binding {
        contact: contact.uri.into(),
        expires_at,
        q: known.map_or(1000, |known| known.q),
        transport: contact.transport,
        source: BindingSource::Passive,
        cseq: known.map_or(0, |known| known.cseq),
        call_id: contact
            .call_id
            .map(Into::into)
            .or_else(|| known.map(|known| known.call_id.clone()))
            .unwrap_or_default(),
        received: contact.received.or_else(|| known.and_then(|known| known.received)),
        user_agent: contact.user_agent.map(Into::into).or_else(|| known.and_then(|known| known.user_agent.clone())),
        path: contact.path.map(Into::into).or_else(|| known.and_then(|known| known.path.clone())),
        instance: known.and_then(|known| known.instance.clone()),
        reg_id: known.and_then(|known| known.reg_id),
        refreshed_at: known.map_or(now.unix, |known| known.refreshed_at),
    }
}
