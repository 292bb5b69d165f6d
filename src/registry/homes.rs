//! Where devices live: the map of records, and the accounts and PBXs that share them.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use dashmap::DashMap;
use smallvec::SmallVec;

use super::bucket::Bucket;
use super::index::Index;
use super::lead::Lead;
use super::order::OrderKey;
use super::record::Record;
use super::wheel::Wheel;
use crate::model::{AccountId, DeviceId, PbxId};

/// Every device, and how to find it. Lock order: a record, then the leaves (listing, contacts, wheel, journal).
#[derive(Debug)]
pub(super) struct Devices {
    pub(super) records: DashMap<DeviceId, Box<Record>>,
    accounts: DashMap<AccountId, Arc<AccountDevices>>,
    /// By PBX: an account each. Nearly always one; a PBX that serves many accounts has as many.
    homes: DashMap<PbxId, Vec<Arc<Home>>>,
    /// By (PBX, contact URI).
    pub(super) contacts: Index,
    pub(super) wheel: Wheel,
}

/// One account on one PBX: what its devices have in common.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) account: AccountId,
    pub(super) pbx: PbxId,
    pub(super) devices: Arc<AccountDevices>,
    /// Which connectors of the PBX are up.
    pub(super) lead: Arc<Lead>,
}

/// The devices of one account.
#[derive(Debug, Default)]
pub(super) struct AccountDevices {
    order: RwLock<BTreeSet<OrderKey>>,
    /// How many more may appear by themselves.
    pub(super) appearing: Mutex<Bucket>,
}

impl Default for Devices {
    fn default() -> Self {
        Self {
            records: DashMap::with_shard_amount(SHARDS),
            accounts: DashMap::default(),
            homes: DashMap::default(),
            contacts: Index::default(),
            wheel: Wheel::default(),
        }
    }
}

impl Devices {
    /// The home of an account's devices on a PBX.
    pub(super) fn home(&self, account: AccountId, pbx: PbxId, lead: impl FnOnce() -> Arc<Lead>) -> Arc<Home> {
        if let Some(home) = self.homes.get(&pbx).and_then(|homes| find(&homes, account)) {
            return home;
        }
        let devices = self.accounts.entry(account).or_default().value().clone();
        let mut homes = self.homes.entry(pbx).or_default();
        find(&homes, account).unwrap_or_else(|| {
            let home = Arc::new(Home { account, pbx, devices, lead: lead() });
            homes.push(home.clone());
            home
        })
    }

    /// The account's devices, if it ever had any.
    pub(super) fn account(&self, account: AccountId) -> Option<Arc<AccountDevices>> {
        self.accounts.get(&account).map(|devices| devices.value().clone())
    }

    pub(super) fn count(&self, account: AccountId) -> usize {
        self.account(account).map_or(0, |devices| devices.count())
    }

    /// Whether any device is on this PBX. Looks at all of them.
    pub(super) fn any_on(&self, pbx: PbxId) -> bool {
        self.records.iter().any(|record| record.home.pbx == pbx)
    }

    /// Devices on this PBX with this extension, in no order.
    pub(super) fn by_extension(&self, pbx: PbxId, extension: &str) -> SmallVec<[DeviceId; 2]> {
        let homes: SmallVec<[Arc<Home>; 1]> =
            self.homes.get(&pbx).map(|homes| homes.iter().cloned().collect()).unwrap_or_default();
        let mut found = SmallVec::new();
        for home in homes {
            found.extend(home.devices.with_extension(extension));
        }
        // The account may have devices of that extension on other PBXs as well.
        found.retain(|id| self.records.get(id).is_some_and(|record| record.home.pbx == pbx));
        found
    }

    /// Enters a device into the listing.
    pub(super) fn file(record: &Record) {
        record.home.devices.order.write().unwrap_or_else(PoisonError::into_inner).insert(place(record));
    }

    /// Undoes [`Devices::file`]; call it before the extension changes.
    pub(super) fn unfile(record: &Record) {
        record.home.devices.order.write().unwrap_or_else(PoisonError::into_inner).remove(&place(record));
    }
}

impl AccountDevices {
    pub(super) fn count(&self) -> usize {
        self.order.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// [`Devices::file`] for many at once, which costs a fraction.
    pub(super) fn file_all(&self, places: Vec<OrderKey>) {
        let mut places: BTreeSet<_> = places.into_iter().collect();
        self.order.write().unwrap_or_else(PoisonError::into_inner).append(&mut places);
    }

    /// Up to `length` places after one, or from the first.
    pub(super) fn slice(&self, after: Option<&OrderKey>, length: usize) -> Vec<OrderKey> {
        let start = after.map_or(Unbounded, Excluded);
        let order = self.order.read().unwrap_or_else(PoisonError::into_inner);
        order.range((start, Unbounded)).take(length).cloned().collect()
    }

    fn with_extension(&self, extension: &str) -> SmallVec<[DeviceId; 2]> {
        let first = OrderKey::first(extension);
        let order = self.order.read().unwrap_or_else(PoisonError::into_inner);
        order.range(&first..).take_while(|place| place.same_extension(&first)).map(|place| place.id).collect()
    }
}

fn find(homes: &[Arc<Home>], account: AccountId) -> Option<Arc<Home>> {
    homes.iter().find(|home| home.account == account).cloned()
}

/// Where the listing has it.
pub(super) fn place(record: &Record) -> OrderKey {
    OrderKey::new(record.extension(), record.id)
}

/// Who goes through all records has one part after the other to themselves, and a REGISTER may wait for that: of a million
/// devices a part then takes a millisecond.
const SHARDS: usize = 256;
