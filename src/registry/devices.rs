//! Devices: listing and editing.

use std::collections::HashSet;

use dashmap::Entry;

use super::bound::Bound;
use super::edit::{check_version, refuse_nul};
use super::homes::Devices;
use super::order::OrderKey;
use super::record::Record;
use super::register::new_device;
use super::{ChangeError, Changed, DeviceView, Page, Registry, Target};
use crate::model::{
    AccountId, Binding, BindingSource, Device, DeviceId, DeviceState, Now, PbxId, UnixMillis, UserId, canonical_user,
};
use crate::store::{DirtyKey, Kind, Seq};

/// Which devices a listing wants; unset = any.
#[derive(Clone, Debug, Default)]
pub struct DeviceFilter {
    /// In this state.
    pub state: Option<DeviceState>,
    /// Had a call with the outside world.
    pub assignable: Option<bool>,
    /// Linked to somebody.
    pub linked: Option<bool>,
    /// Extension, label, last caller or user agent holds this, compared without case.
    pub text: Option<String>,
    /// On this PBX.
    pub pbx: Option<PbxId>,
    /// Reached by its PBX, or us, when it was last asked, or not reached.
    pub reachable: Option<bool>,
    /// Two phones use its address-of-record.
    pub duplicate: Option<bool>,
}

impl Registry {
    /// One device.
    #[must_use]
    pub fn device(&self, id: DeviceId) -> Option<DeviceView> {
        let now = self.clock.now();
        self.devices.records.get(&id).map(|record| record.view(now))
    }

    /// Its bindings, stale ones too.
    #[must_use]
    pub fn bindings(&self, id: DeviceId) -> Vec<Binding> {
        let now = self.clock.now();
        self.devices
            .records
            .get(&id)
            .map(|record| record.present(now).map(Bound::to_binding).collect())
            .unwrap_or_default()
    }

    /// Devices of these accounts that registered here. Looks at all devices.
    #[must_use]
    pub fn registered_here(&self, accounts: &HashSet<AccountId>) -> Vec<DeviceId> {
        let here = |record: &Record| record.bindings.iter().any(|bound| bound.source == BindingSource::Registrar);
        let wanted = |record: &Record| accounts.contains(&record.home.account) && here(record);
        self.devices.records.iter().filter(|record| wanted(record)).map(|record| record.id).collect()
    }

    /// The account's devices that `filter` wants, by extension, from after the cursor `after`. `limit` is taken as at
    /// least 1. The last page costs what the first one does.
    #[must_use]
    pub fn devices_page(
        &self,
        account: AccountId,
        filter: &DeviceFilter,
        after: Option<&str>,
        limit: usize,
    ) -> Page<DeviceView> {
        let (limit, now) = (limit.max(1), self.clock.now());
        let mut page = Page { items: Vec::new(), next: None, visited: 0 };
        let Some(devices) = self.devices.account(account) else { return page };
        let text = filter.text.as_ref().map(|text| text.to_lowercase());
        let mut from = after.map(OrderKey::from_cursor);
        let mut last = None;
        loop {
            let slice = devices.slice(from.as_ref(), (limit + 1).clamp(16, SLICE_MAX));
            let Some(end) = slice.last().cloned() else { return page };
            for key in slice {
                page.visited += 1;
                let Some(view) = self.devices.records.get(&key.id).map(|record| record.view(now)) else { continue };
                if !self.wanted(&view, filter, text.as_deref()) {
                    continue;
                }
                if page.items.len() == limit {
                    page.next = last.as_ref().map(OrderKey::to_cursor);
                    return page;
                }
                page.items.push(view);
                last = Some(key);
            }
            from = Some(end);
        }
    }

    /// The devices linked to this user now, by extension as in any listing, and the newest change of those links.
    #[must_use]
    pub fn devices_of_user(&self, user: UserId) -> (Vec<DeviceView>, Seq) {
        let links = self.links_of_user(user);
        let newest = links.iter().map(|link| link.seq).max().unwrap_or_default();
        let mut views: Vec<_> = links.iter().filter_map(|link| self.device(link.value.device)).collect();
        views.sort_by_cached_key(|view| OrderKey::of(&view.device));
        (views, newest)
    }

    /// User parts of at most `max` devices of a PBX, in order. Looks at all devices.
    #[must_use]
    pub fn users_on(&self, pbx: PbxId, max: usize) -> Vec<String> {
        let on_it = self.devices.records.iter().filter(|record| record.home.pbx == pbx);
        let mut users: Vec<String> = on_it.map(|record| record.user().to_owned()).collect();
        users.sort_unstable();
        users.dedup();
        if users.len() > max {
            super::count_dropped("users_on_pbx");
            users.truncate(max);
        }
        users
    }

    /// How many devices the account has.
    #[must_use]
    pub fn device_count(&self, account: AccountId) -> usize {
        self.devices.count(account)
    }

    /// Makes a device that has not shown itself yet.
    ///
    /// # Errors
    /// [`ChangeError::Conflict`] when it is there, [`ChangeError::Limit`] when the account has as many as it may.
    pub fn create_device(
        &self,
        account: AccountId,
        pbx: PbxId,
        user: &str,
        now: Now,
    ) -> Result<DeviceView, ChangeError> {
        let _editing = self.editing();
        let target = Target::new(account, pbx, canonical_user(user));
        let id = target.device();
        let home = self.devices.home(account, pbx, || self.feeds.lead(pbx));
        let view = match self.devices.records.entry(id) {
            Entry::Occupied(_) => return Err(ChangeError::Conflict { detail: format!("device {id} is there") }),
            Entry::Vacant(entry) => {
                if home.devices.count() >= self.limits.load().devices_max {
                    super::count_dropped("devices_max");
                    return Err(ChangeError::Limit { what: "devices_max" });
                }
                let mut record = Box::new(Record::new(new_device(&target, id, now), home));
                Devices::file(&record);
                record.seq = self.journal.mark(DirtyKey { kind: Kind::Device, id: id.0 });
                let view = record.view(now);
                entry.insert(record);
                view
            }
        };
        self.announce_device("device.created", &view, view.seq);
        Ok(view)
    }

    /// Edits a device: its extension, label, caller id and switch; other fields are not the admin's and stay. `expected`
    /// is the version the caller has seen.
    ///
    /// # Errors
    /// [`ChangeError`] of the check that failed or of `edit` itself; nothing has changed then.
    pub fn update_device(
        &self,
        id: DeviceId,
        expected: Option<Seq>,
        edit: impl FnOnce(&mut Device) -> Result<(), ChangeError>,
    ) -> Result<DeviceView, ChangeError> {
        let _editing = self.editing();
        let before = self.device(id).ok_or(ChangeError::NotFound)?;
        check_version(expected, before.seq)?;
        let mut edited = before.device.clone();
        edit(&mut edited)?;
        refuse_nul(&edited)?;
        let now = self.clock.now();
        let view = {
            // Phones and calls may have changed other fields meanwhile; only what admins edit is taken over.
            let mut record = self.devices.records.get_mut(&id).ok_or(ChangeError::NotFound)?;
            let record = &mut *record;
            let mut device = record.device();
            let same = device.extension == edited.extension
                && device.label == edited.label
                && device.caller_id == edited.caller_id
                && device.enabled == edited.enabled;
            if same {
                return Ok(record.view(now));
            }
            device.extension = edited.extension;
            device.label = edited.label;
            device.caller_id = edited.caller_id;
            device.enabled = edited.enabled;
            Devices::unfile(record);
            record.set_device(device);
            Devices::file(record);
            record.seq = self.journal.mark(DirtyKey { kind: Kind::Device, id: id.0 });
            record.view(now)
        };
        self.changed(Changed::Device(id));
        self.announce_device("device.updated", &view, view.seq);
        Ok(view)
    }

    /// Deletes a device with its bindings, its links and its queue memberships. A phone that registers again makes a
    /// new one.
    ///
    /// # Errors
    /// [`ChangeError::NotFound`], or [`ChangeError::Stale`] when it is not at `expected`.
    pub fn delete_device(&self, id: DeviceId, expected: Option<Seq>) -> Result<Seq, ChangeError> {
        let _editing = self.editing();
        let view = self.device(id).ok_or(ChangeError::NotFound)?;
        check_version(expected, view.seq)?;
        let now = self.clock.now();
        self.unlink_device(id, now.unix);
        self.leave_queues(id);
        self.drop_secret(id);
        let seq = {
            let Entry::Occupied(entry) = self.devices.records.entry(id) else {
                return Err(ChangeError::NotFound);
            };
            Devices::unfile(entry.get());
            self.unindex(entry.get(), entry.get().bindings.iter().map(Bound::contact));
            self.devices.wheel.remove(entry.get().scheduled, id);
            self.health.forget(id);
            // Still locked: whoever finds it gone finds the number to wait for.
            self.journal.mark(DirtyKey { kind: Kind::Bindings, id: id.0 });
            let seq = self.journal.mark_gone(DirtyKey { kind: Kind::Device, id: id.0 });
            entry.remove();
            seq
        };
        self.changed(Changed::Device(id));
        self.announce_device("device.deleted", &view, seq);
        Ok(seq)
    }

    /// Notes that a device rang or placed a call: it was seen, and after a call with the outside world it is
    /// assignable (`external_number` none = the other side was withheld).
    pub fn device_in_call(&self, id: DeviceId, at: UnixMillis, external: bool, external_number: Option<&str>) {
        let now = self.clock.now();
        let became_assignable = {
            let Some(mut record) = self.devices.records.get_mut(&id) else { return };
            let mut device = record.device();
            let became_assignable = external && !device.assignable;
            device.assignable |= external;
            device.last_seen_at = device.last_seen_at.max(at);
            if let Some(number) = external_number.filter(|_| external) {
                device.last_caller = Some(number.replace('\0', "").into());
            }
            record.set_device(device);
            self.journal.mark(DirtyKey { kind: Kind::Device, id: id.0 });
            became_assignable.then(|| record.view(now))
        };
        self.proved_alive(id, now);
        if let Some(view) = became_assignable {
            self.announce_device("device.updated", &view, Seq(0));
        }
    }

    /// Whose device it is.
    #[must_use]
    pub fn account_of_device(&self, id: DeviceId) -> Option<AccountId> {
        self.devices.records.get(&id).map(|record| record.home.account)
    }

    /// Tells admins about a device once `seq` is stored.
    pub(super) fn announce_device(&self, event: &'static str, view: &DeviceView, seq: Seq) {
        let device = &view.device;
        let data = serde_json::json!({
            "id": device.id, "pbx": device.pbx, "user": device.user,
            "extension": device.extension.as_deref().unwrap_or(&device.user), "label": device.label,
            "enabled": device.enabled, "assignable": device.assignable, "state": view.state,
        });
        self.announce(seq, device.account, event, data);
    }

    fn wanted(&self, view: &DeviceView, filter: &DeviceFilter, text: Option<&str>) -> bool {
        let device = &view.device;
        let holds = |text: &str| {
            let fields = [
                Some(&*device.user),
                device.extension.as_deref(),
                device.label.as_deref(),
                device.last_caller.as_deref(),
                view.bindings.user_agent.as_deref(),
            ];
            fields.into_iter().flatten().any(|field| field.to_lowercase().contains(text))
        };
        filter.state.is_none_or(|state| state == view.state)
            && filter.assignable.is_none_or(|assignable| assignable == device.assignable)
            && filter.pbx.is_none_or(|pbx| pbx == device.pbx)
            && filter.reachable.is_none_or(|reachable| self.is_reachable(device.id) == Some(reachable))
            && filter.duplicate.is_none_or(|duplicate| duplicate == self.is_duplicate(device.id))
            && filter.linked.is_none_or(|linked| linked != self.links.users(device.id).is_empty())
            && text.is_none_or(holds)
    }

    fn leave_queues(&self, device: DeviceId) {
        for queue in self.queues.referring_to(device.0) {
            let mut value = (*queue.value).clone();
            value.members.retain(|member| member.device != device);
            if let Ok(row) = self.queues.put(value, &self.journal) {
                self.edited("queue.updated", &row.value, row.seq);
            }
        }
    }
}

/// Most entries read under one hold of the lock.
const SLICE_MAX: usize = 512;
