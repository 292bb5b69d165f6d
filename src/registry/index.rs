//! Which devices go by a key, when the key is too long to keep.

use std::collections::hash_map::{Entry, RandomState};
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, Hash};
use std::sync::{Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;

use crate::model::DeviceId;

/// From the hash of a key to devices. Two keys may share a hash, so a finder looks at what it found. Its locks are
/// leaves: nothing else is locked while one is held, so it may be changed with a record's own lock held.
#[derive(Debug)]
pub(super) struct Index {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

type Shard = HashMap<u64, Devices>;

/// Nearly every key has one device. Phones choose their contacts, so a key may have all of them, and adding or removing
/// one must stay cheap.
#[derive(Debug)]
enum Devices {
    One(DeviceId),
    /// Boxed, to keep the map of the others small.
    #[expect(clippy::box_collection, reason = "as above")]
    Many(Box<BTreeSet<DeviceId>>),
}

impl Index {
    pub(super) fn insert(&self, key: &impl Hash, device: DeviceId) {
        let hash = self.hasher.hash_one(key);
        match self.shard(hash).entry(hash) {
            Entry::Vacant(free) => {
                free.insert(Devices::One(device));
            }
            Entry::Occupied(mut devices) => match devices.get_mut() {
                Devices::One(only) if *only == device => {}
                Devices::One(only) => {
                    let both = Box::new(BTreeSet::from([*only, device]));
                    devices.insert(Devices::Many(both));
                }
                Devices::Many(many) => {
                    many.insert(device);
                }
            },
        }
    }

    pub(super) fn remove(&self, key: &impl Hash, device: DeviceId) {
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shard(hash);
        let Entry::Occupied(mut devices) = shard.entry(hash) else { return };
        match devices.get_mut() {
            Devices::One(only) if *only == device => {
                devices.remove();
            }
            Devices::One(_) => {}
            Devices::Many(many) => {
                many.remove(&device);
                if let (Some(only), 1) = (many.first().copied(), many.len()) {
                    devices.insert(Devices::One(only));
                }
            }
        }
    }

    /// Devices that may go by this key, ordered; a few of them when there are very many, which is as ambiguous.
    pub(super) fn candidates(&self, key: &impl Hash) -> SmallVec<[DeviceId; 2]> {
        let hash = self.hasher.hash_one(key);
        match self.shard(hash).get(&hash) {
            None => SmallVec::new(),
            Some(Devices::One(only)) => SmallVec::from_slice(&[*only]),
            Some(Devices::Many(many)) => many.iter().copied().take(CANDIDATES_MAX).collect(),
        }
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        // The map below uses the low bits again, after hashing them anew.
        let at = usize::try_from(hash % SHARDS as u64).unwrap_or(0);
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Index {
    fn default() -> Self {
        Self { hasher: RandomState::new(), shards: std::array::from_fn(|_| Mutex::default()) }
    }
}

const SHARDS: usize = 64;

const CANDIDATES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_key_finds_every_device_that_goes_by_it_until_it_is_taken_out() {
        let (index, a, b) = (Index::default(), DeviceId(Uuid::from_u128(1)), DeviceId(Uuid::from_u128(2)));
        index.insert(&"x", a);
        index.insert(&"x", b);
        index.insert(&"x", b);
        assert_eq!(index.candidates(&"x").as_slice(), [a, b]);
        index.remove(&"x", a);
        index.remove(&"x", a);
        assert_eq!(index.candidates(&"x").as_slice(), [b]);
        index.remove(&"x", b);
        assert!(index.candidates(&"x").is_empty());
    }
}
