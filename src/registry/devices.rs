//! Devices: the map, its indexes, listing and editing.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use dashmap::DashMap;
use uuid::Uuid;

use super::bucket::Bucket;
use super::edit::{check_version, refuse_nul};
use super::index::Index;
use super::record::Record;
use super::wheel::Wheel;
use super::{ChangeError, Changed, DeviceView, Page, Registry};
use crate::model::{AccountId, Binding, Device, DeviceId, DeviceState, PbxId, UnixMillis};
use crate::store::{DirtyKey, Kind, Seq};

/// Every device, and how to find it. Lock order: a record, then the leaves (order, indexes, wheel, journal).
#[derive(Debug, Default)]
pub(super) struct Devices {
    pub(super) records: DashMap<DeviceId, Record>,
    accounts: DashMap<AccountId, Arc<AccountDevices>>,
    /// By (PBX, contact URI).
    pub(super) contacts: Index,
    /// By (PBX, extension).
    pub(super) extensions: Index,
    pub(super) wheel: Wheel,
}

/// The devices of one account.
#[derive(Debug, Default)]
pub(super) struct AccountDevices {
    order: RwLock<BTreeSet<OrderKey>>,
    /// How many more may appear by themselves.
    pub(super) appearing: Mutex<Bucket>,
}

/// Listing order: 99 before 100, whatever the PBX.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OrderKey {
    length: u32,
    extension: Box<str>,
    pbx: PbxId,
    id: DeviceId,
}

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
        self.devices.records.get(&id).map(|record| record.present(now).cloned().collect()).unwrap_or_default()
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
        let Some(devices) = self.devices.existing_account(account) else { return page };
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

    /// How many devices the account has.
    #[must_use]
    pub fn device_count(&self, account: AccountId) -> usize {
        self.devices.count(account)
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
        let of_account = self.devices.account(before.device.account);
        let now = self.clock.now();
        let view = {
            // Phones and calls may have changed other fields meanwhile; only what admins edit is taken over.
            let mut record = self.devices.records.get_mut(&id).ok_or(ChangeError::NotFound)?;
            let record = &mut *record;
            let same = record.device.extension == edited.extension
                && record.device.label == edited.label
                && record.device.caller_id == edited.caller_id
                && record.device.enabled == edited.enabled;
            if same {
                return Ok(record.view(now));
            }
            self.devices.unfile(record, &of_account);
            record.device.extension = edited.extension;
            record.device.label = edited.label;
            record.device.caller_id = edited.caller_id;
            record.device.enabled = edited.enabled;
            self.devices.file(record, &of_account);
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
        let of_account = self.devices.account(view.device.account);
        let seq = {
            let dashmap::Entry::Occupied(entry) = self.devices.records.entry(id) else {
                return Err(ChangeError::NotFound);
            };
            self.devices.unfile(entry.get(), &of_account);
            self.unindex_contacts(entry.get(), &entry.get().bindings);
            self.devices.wheel.remove(entry.get().scheduled, id);
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
            let device = &mut record.device;
            let became_assignable = external && !device.assignable;
            device.assignable |= external;
            device.last_seen_at = device.last_seen_at.max(at);
            if let Some(number) = external_number.filter(|_| external) {
                device.last_caller = Some(number.replace('\0', "").into());
            }
            self.journal.mark(DirtyKey { kind: Kind::Device, id: id.0 });
            became_assignable.then(|| record.view(now))
        };
        if let Some(view) = became_assignable {
            self.announce_device("device.updated", &view, Seq(0));
        }
    }

    pub(super) fn account_of_device(&self, id: DeviceId) -> Option<AccountId> {
        self.devices.records.get(&id).map(|record| record.device.account)
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
            && filter.linked.is_none_or(|linked| linked != self.links.users(device.id).is_empty())
            && text.is_none_or(holds)
    }

    fn leave_queues(&self, device: DeviceId) {
        for queue in self.queues.referring_to(device.0) {
            let mut value = queue.value.clone();
            value.members.retain(|member| member.device != device);
            if let Ok(row) = self.queues.put(value, &self.journal) {
                self.edited("queue.updated", &row.value, row.seq);
            }
        }
    }
}

impl Devices {
    /// The account's devices; there may be none yet.
    pub(super) fn account(&self, account: AccountId) -> Arc<AccountDevices> {
        self.accounts.entry(account).or_default().value().clone()
    }

    pub(super) fn count(&self, account: AccountId) -> usize {
        self.existing_account(account).map_or(0, |devices| devices.count())
    }

    /// Whether any device is on this PBX. Looks at all of them.
    pub(super) fn any_on(&self, pbx: PbxId) -> bool {
        self.records.iter().any(|record| record.device.pbx == pbx)
    }

    /// Enters a device into the listing and the extension index.
    pub(super) fn file(&self, record: &Record, account: &AccountDevices) {
        account.order.write().unwrap_or_else(PoisonError::into_inner).insert(OrderKey::of(record));
        self.extensions.insert(&(record.device.pbx, record.extension()), record.device.id);
    }

    /// Undoes [`Devices::file`]; call it before the extension changes.
    pub(super) fn unfile(&self, record: &Record, account: &AccountDevices) {
        account.order.write().unwrap_or_else(PoisonError::into_inner).remove(&OrderKey::of(record));
        self.extensions.remove(&(record.device.pbx, record.extension()), record.device.id);
    }

    fn existing_account(&self, account: AccountId) -> Option<Arc<AccountDevices>> {
        self.accounts.get(&account).map(|devices| devices.value().clone())
    }
}

impl AccountDevices {
    pub(super) fn count(&self) -> usize {
        self.order.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn slice(&self, after: Option<&OrderKey>, length: usize) -> Vec<OrderKey> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let order = self.order.read().unwrap_or_else(PoisonError::into_inner);
        order.range((start, Bound::Unbounded)).take(length).cloned().collect()
    }
}

impl OrderKey {
    fn of(record: &Record) -> Self {
        Self::new(record.extension(), record.device.pbx, record.device.id)
    }

    fn new(extension: &str, pbx: PbxId, id: DeviceId) -> Self {
        let length = u32::try_from(extension.chars().count()).unwrap_or(u32::MAX);
        Self { length, extension: extension.into(), pbx, id }
    }

    /// The place as a text that any string can be read back from.
    fn to_cursor(&self) -> String {
        format!("{}~{}{}", self.extension, self.pbx.0.simple(), self.id.0.simple())
    }

    fn from_cursor(cursor: &str) -> Self {
        let parts = cursor.rsplit_once('~').and_then(|(extension, ids)| {
            let (pbx, id) = ids.split_at_checked(32)?;
            Some(Self::new(extension, PbxId(Uuid::try_parse(pbx).ok()?), DeviceId(Uuid::try_parse(id).ok()?)))
        });
        parts.unwrap_or_else(|| Self::new(cursor, PbxId(Uuid::nil()), DeviceId(Uuid::nil())))
    }
}

/// Most entries read under one hold of the lock.
const SLICE_MAX: usize = 512;
