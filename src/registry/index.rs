//! Which devices go by a key, when the key is too long to keep.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
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

/// Nearly every key has one device.
type Shard = HashMap<u64, SmallVec<[DeviceId; 1]>>;

impl Index {
    pub(super) fn insert(&self, key: &impl Hash, device: DeviceId) {
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shard(hash);
        let devices = shard.entry(hash).or_default();
        if !devices.contains(&device) {
            devices.push(device);
        }
    }

    pub(super) fn remove(&self, key: &impl Hash, device: DeviceId) {
        let hash = self.hasher.hash_one(key);
        if let Entry::Occupied(mut devices) = self.shard(hash).entry(hash) {
            devices.get_mut().retain(|other| *other != device);
            if devices.get().is_empty() {
                devices.remove();
            }
        }
    }

    /// Devices that may go by this key, in no order.
    pub(super) fn candidates(&self, key: &impl Hash) -> SmallVec<[DeviceId; 2]> {
        let hash = self.hasher.hash_one(key);
        self.shard(hash).get(&hash).into_iter().flatten().copied().collect()
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
        assert_eq!(index.candidates(&"x").as_slice(), [b]);
        index.remove(&"x", b);
        assert!(index.candidates(&"x").is_empty());
    }
}
