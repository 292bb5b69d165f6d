//! What the switchboard asks.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use super::Registry;
use super::contact::contact_key;
use super::noun::{queue_name_key, queue_number_key};
use crate::model::{Account, AccountId, ContactKey, DeviceId, Pbx, PbxId, Queue, QueueId, User, UserId, UserQueues};
use crate::switchboard::{DeviceFacts, UserFacts, View};

impl View for Registry {
    fn pbx(&self, id: PbxId) -> Option<Arc<Pbx>> {
        self.pbxs.get(id).map(|row| row.value.clone())
    }

    fn is_led(&self, pbx: PbxId) -> bool {
        self.feeds.is_led(pbx)
    }

    fn account(&self, id: AccountId) -> Option<Arc<Account>> {
        self.accounts.get(id).map(|row| row.value.clone())
    }

    fn devices_by_contact(&self, pbx: PbxId, contact: &ContactKey) -> SmallVec<[DeviceId; 2]> {
        let mut devices = self.devices.contacts.candidates(&(pbx, contact));
        devices.retain(|id| {
            self.devices.records.get(id).is_some_and(|record| {
                record.home.pbx == pbx
                    && record.present(self.clock.now()).any(|b| contact_key(b.contact()).as_ref() == Some(contact))
            })
        });
        devices
    }

    fn device_by_aor(&self, pbx: PbxId, user: &str, host: &str) -> Option<DeviceId> {
        let id = self.resolve(pbx, user, host)?.device();
        self.devices.records.contains_key(&id).then_some(id)
    }

    fn devices_by_extension(&self, pbx: PbxId, extension: &str) -> SmallVec<[DeviceId; 2]> {
        self.devices.by_extension(pbx, extension)
    }

    fn device(&self, id: DeviceId) -> Option<DeviceFacts> {
        self.devices.records.get(&id).map(|record| DeviceFacts {
            account: record.home.account,
            pbx: record.home.pbx,
            extension: record.extension().into(),
            label: record.label().map(Into::into),
            enabled: record.enabled,
        })
    }

    fn device_is_at(&self, id: DeviceId, address: IpAddr) -> Option<bool> {
        let record = self.devices.records.get(&id)?;
        let mut known = false;
        for binding in record.present(self.clock.now()) {
            let named = contact_key(binding.contact()).and_then(|key| host_address(&key.host));
            for at in binding.received().map(|received| received.ip()).into_iter().chain(named) {
                if at.to_canonical() == address.to_canonical() {
                    return Some(true);
                }
                known = true;
            }
        }
        known.then_some(false)
    }

    fn linked_users(&self, device: DeviceId) -> SmallVec<[UserId; 4]> {
        self.links.users(device)
    }

    fn linked_devices(&self, user: UserId) -> SmallVec<[DeviceId; 4]> {
        self.links.devices(user)
    }

    fn is_queue_member(&self, device: DeviceId) -> bool {
        !self.queues.referring_to(device.0).is_empty()
    }

    fn user(&self, id: UserId) -> Option<UserFacts> {
        let row = self.users.get(id)?;
        let user = &row.value;
        Some(UserFacts {
            account: user.account,
            enabled: user.enabled,
            dnd: user.dnd,
            pop_on: user.pop_on,
            queues: self.queues_of(user),
        })
    }

    fn users_of_queue(&self, queue: QueueId) -> SmallVec<[UserId; 4]> {
        let Some(row) = self.queues.get(queue) else { return SmallVec::new() };
        if self.follows_pbx(row.value.account) {
            let users: BTreeSet<UserId> =
                row.value.members.iter().flat_map(|member| self.links.users(member.device)).collect();
            users.into_iter().collect()
        } else {
            self.users.referring_to(queue.0).iter().map(|user| user.value.id).collect()
        }
    }

    fn queue(&self, id: QueueId) -> Option<Arc<Queue>> {
        self.queues.get(id).map(|row| row.value.clone())
    }

    fn queue_by_name(&self, pbx: PbxId, name: &str) -> Option<QueueId> {
        self.queues.find(&queue_name_key(pbx, name)).map(|row| row.value.id)
    }

    fn queue_by_number(&self, pbx: PbxId, number: &str) -> Option<QueueId> {
        self.queues.find(&queue_number_key(pbx, number)).map(|row| row.value.id)
    }

    fn sessions(&self, user: UserId) -> u32 {
        self.streams.sessions(user)
    }
}

impl Registry {
    /// The queues whose calls notify this user: as an admin set them, or those one of the user's devices is in.
    #[must_use]
    pub fn queues_of(&self, user: &User) -> SmallVec<[QueueId; 4]> {
        if !self.follows_pbx(user.account) {
            return user.queues.iter().copied().collect();
        }
        let devices = self.links.devices(user.id);
        let queues: BTreeSet<QueueId> =
            devices.iter().flat_map(|device| self.queues.referring_to(device.0)).map(|queue| queue.value.id).collect();
        queues.into_iter().collect()
    }

    pub(super) fn follows_pbx(&self, account: AccountId) -> bool {
        let account = self.accounts.get(account);
        account.is_some_and(|account| account.value.settings.user_queues == UserQueues::FollowPbx)
    }
}

fn host_address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}
