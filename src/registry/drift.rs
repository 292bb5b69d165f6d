//! Where a PBX and what is set here differ (X11). Only what a feed has told since the start is compared: what nobody told
//! of is not missing.

use std::collections::BTreeSet;

use serde::Serialize;

use super::Registry;
use crate::model::{AccountId, DeviceId, MemberKind, PbxId, QueueId, UnixMillis, UserId, canonical_user};

/// One difference between a PBX and what is set here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Difference {
    /// What differs.
    pub kind: DriftKind,
    /// Which side has what the other has not.
    pub only: Side,
    /// The account it concerns.
    pub account: AccountId,
    /// The extension it is about.
    pub extension: Option<String>,
    /// The device it is about.
    pub device: Option<DeviceId>,
    /// The queue it is about.
    pub queue: Option<QueueId>,
    /// That queue's name.
    pub queue_name: Option<String>,
    /// The user it is about.
    pub user: Option<UserId>,
}

/// Kinds of difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DriftKind {
    /// An extension of the PBX has no device here: it never registered where a feed saw it.
    Extension,
    /// A device here is no extension of the PBX.
    Device,
    /// A queue here is none of the PBX's.
    Queue,
    /// A member put in by hand is not in the PBX's queue.
    Member,
    /// A user's phone is in a queue that is not among the queues set for the user, or the other way round.
    UserQueue,
}

/// One of two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The PBX has it.
    Pbx,
    /// It is set here.
    Here,
}

/// What there was to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Compared {
    /// When a feed last listed the PBX's extensions; none = not since the start, and none are compared.
    pub extensions_at: Option<UnixMillis>,
    /// When a feed last listed the PBX's queues.
    pub queues_at: Option<UnixMillis>,
}

impl Registry {
    /// Where the PBX and what is set here differ, ordered by kind.
    #[must_use]
    pub fn drift(&self, pbx: PbxId) -> (Vec<Difference>, Compared) {
        let mut found = Vec::new();
        let extensions_at = self.extension_drift(pbx, &mut found);
        let told = self.queues_told(pbx);
        for row in self.queues.referring_to(pbx.0).iter().filter(|row| row.value.pbx == pbx) {
            let queue = &row.value;
            let about = |kind, only| Difference {
                kind,
                only,
                account: queue.account,
                extension: None,
                device: None,
                queue: Some(queue.id),
                queue_name: Some(queue.name.clone()),
                user: None,
            };
            let unlisted = told.as_ref().is_some_and(|(_, names)| !names.contains(&queue.name.to_lowercase()));
            if queue.absent_since.is_some() || unlisted {
                found.push(about(DriftKind::Queue, Side::Here));
                continue;
            }
            if !queue.is_fed() {
                continue;
            }
            for member in queue.members.iter().filter(|member| member.kind == MemberKind::Manual) {
                let (device, extension) = (Some(member.device), self.extension_of(member.device));
                found.push(Difference { extension, device, ..about(DriftKind::Member, Side::Here) });
            }
            if !self.follows_pbx(queue.account) {
                self.user_drift(queue, &about, &mut found);
            }
        }
        found.sort_by(|a, b| {
            let key = |d: &Difference| (d.kind, d.queue_name.clone(), d.extension.clone(), d.user, d.device);
            key(a).cmp(&key(b))
        });
        (found, Compared { extensions_at, queues_at: told.map(|(at, _)| at) })
    }

    /// Extensions without a device, and devices without an extension.
    fn extension_drift(&self, pbx: PbxId, found: &mut Vec<Difference>) -> Option<UnixMillis> {
        let (at, endpoints) = self.endpoints_of(pbx)?;
        // Two tenants may each have a device of one name, which the PBX lists once.
        let mut missing = endpoints.clone();
        let own = self.pbxs.get(pbx)?.value.account;
        let about = |kind, only, account, extension: &str, device| Difference {
            kind,
            only,
            account,
            extension: Some(extension.to_owned()),
            device,
            queue: None,
            queue_name: None,
            user: None,
        };
        let here: Vec<_> =
            self.devices.records.iter().filter(|record| record.home.pbx == pbx).map(|r| r.device()).collect();
        for device in here {
            let user = canonical_user(&device.user);
            missing.remove(&*user);
            if !endpoints.contains(&*user) {
                found.push(about(DriftKind::Device, Side::Here, device.account, &device.user, Some(device.id)));
            }
        }
        for user in missing {
            found.push(about(DriftKind::Extension, Side::Pbx, own, &user, None));
        }
        Some(at)
    }

    fn user_drift(
        &self,
        queue: &crate::model::Queue,
        about: &impl Fn(DriftKind, Side) -> Difference,
        found: &mut Vec<Difference>,
    ) {
        let set: BTreeSet<UserId> = self.users.referring_to(queue.id.0).iter().map(|user| user.value.id).collect();
        let mut in_it = BTreeSet::new();
        for member in queue.members.iter().filter(|member| member.kind != MemberKind::Manual) {
            for user in self.links.users(member.device) {
                if in_it.insert(user) && !set.contains(&user) {
                    let (device, extension) = (Some(member.device), self.extension_of(member.device));
                    let user = Some(user);
                    found.push(Difference { extension, device, user, ..about(DriftKind::UserQueue, Side::Pbx) });
                }
            }
        }
        for user in set.difference(&in_it) {
            let mut on_pbx = self.links.devices(*user);
            on_pbx.retain(|device| self.devices.records.get(device).is_some_and(|record| record.home.pbx == queue.pbx));
            // With one phone there it is clear which one to put in.
            let device = on_pbx.first().copied().filter(|_| on_pbx.len() == 1);
            let extension = device.and_then(|device| self.extension_of(device));
            let user = Some(*user);
            found.push(Difference { extension, device, user, ..about(DriftKind::UserQueue, Side::Here) });
        }
    }

    fn extension_of(&self, device: DeviceId) -> Option<String> {
        self.devices.records.get(&device).map(|record| record.extension().to_owned())
    }
}
