//! One kind of record: by id, in order, by unique key, by what it refers to.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use uuid::Uuid;

use super::noun::{Noun, UniqueKey};
use crate::model::AccountId;
use crate::store::{DirtyKey, Journal, Seq, Stored};

/// All records of one kind. Reads hold the lock for a look-up or a slice of a page, never across a callback.
#[derive(Debug)]
pub struct Table<T: Noun> {
    inner: RwLock<Inner<T>>,
    version: AtomicU64,
}

/// One page of a listing.
#[derive(Clone, Debug)]
pub struct Page<I> {
    /// What was found, in order.
    pub items: Vec<I>,
    /// Where the next page starts; none when this was the last.
    pub next: Option<String>,
    /// How many entries were looked at for it.
    pub visited: usize,
}

#[derive(Debug)]
struct Inner<T> {
    rows: HashMap<Uuid, Arc<Stored<T>>>,
    order: BTreeSet<(AccountId, String, Uuid)>,
    /// How many are filed under each account.
    counts: HashMap<AccountId, usize>,
    unique: HashMap<UniqueKey, Uuid>,
    /// (what is referred to, who refers to it).
    references: BTreeSet<(Uuid, Uuid)>,
}

impl<T: Noun> Table<T> {
    /// The record with this id.
    #[must_use]
    pub fn get(&self, id: T::Id) -> Option<Arc<Stored<T>>> {
        self.read().rows.get(&T::uuid(id)).cloned()
    }

    /// The account's records that `keep` wants, by name, from after the cursor `after`. `limit` is taken as at least 1.
    pub fn page(
        &self,
        account: AccountId,
        after: Option<&str>,
        limit: usize,
        mut keep: impl FnMut(&T) -> bool,
    ) -> Page<Arc<Stored<T>>> {
        let limit = limit.max(1);
        let mut page = Page { items: Vec::new(), next: None, visited: 0 };
        let mut from = after.map_or((String::new(), Uuid::nil()), from_cursor);
        let mut last = from.clone();
        loop {
            let (slice, end) = self.slice(account, &from, limit.clamp(16, SLICE_MAX));
            for (name, row) in slice {
                page.visited += 1;
                if !keep(&row.value) {
                    continue;
                }
                if page.items.len() == limit {
                    page.next = Some(to_cursor(&last));
                    return page;
                }
                last = (name, T::uuid(row.value.id()));
                page.items.push(row);
            }
            match end {
                Some(end) => from = end,
                None => return page,
            }
        }
    }

    /// How many records the account has.
    #[must_use]
    pub fn count(&self, account: AccountId) -> usize {
        self.read().counts.get(&account).copied().unwrap_or(0)
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read().rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All records of all accounts, in no order. For small tables that somebody keeps a digest of.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Stored<T>>> {
        self.read().rows.values().cloned().collect()
    }

    /// Grows with every change, so that a digest of this table can tell whether it is still true. Read it *before* the
    /// rows the digest is made of.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The record with the lowest id, which is the first that was made; of one account, or of all.
    #[must_use]
    pub fn oldest(&self, of: Option<AccountId>) -> Option<Arc<Stored<T>>> {
        let inner = self.read();
        let rows = inner.rows.values().filter(|row| of.is_none_or(|account| row.value.account() == account));
        rows.min_by_key(|row| T::uuid(row.value.id())).cloned()
    }

    /// The record that owns this unique key.
    #[must_use]
    pub fn find(&self, key: &UniqueKey) -> Option<Arc<Stored<T>>> {
        let inner = self.read();
        inner.unique.get(key).and_then(|id| inner.rows.get(id)).cloned()
    }

    /// The records that refer to `target`, ordered by id.
    #[must_use]
    pub fn referring_to(&self, target: Uuid) -> Vec<Arc<Stored<T>>> {
        let inner = self.read();
        let ids = inner.references.range((target, Uuid::nil())..).take_while(|(to, _)| *to == target);
        ids.filter_map(|(_, id)| inner.rows.get(id).cloned()).collect()
    }

    /// Puts in what the database had.
    pub(super) fn restore(&self, row: Stored<T>) {
        self.write().insert(Arc::new(row));
    }

    /// Puts in a new or changed record and notes it as changed. Whoever owns one of its unique keys is the error.
    pub(super) fn put(&self, value: T, journal: &Journal) -> Result<Arc<Stored<T>>, UniqueKey> {
        let id = T::uuid(value.id());
        let mut inner = self.write();
        if let Some(taken) =
            value.unique_keys().into_iter().find(|key| inner.unique.get(key).is_some_and(|owner| *owner != id))
        {
            return Err(taken);
        }
        inner.remove(id);
        let seq = journal.mark(DirtyKey { kind: T::KIND, id });
        let row = Arc::new(Stored { value: value.into(), seq });
        inner.insert(row.clone());
        Ok(row)
    }

    /// Puts in what a feed reports. The version that admins edit, and so its entity tag, stays; with `durable` it is noted
    /// as changed. Whoever owns one of its unique keys is the error.
    pub(super) fn revise(&self, value: T, journal: &Journal, durable: bool) -> Result<Arc<Stored<T>>, UniqueKey> {
        let id = T::uuid(value.id());
        let mut inner = self.write();
        if let Some(taken) =
            value.unique_keys().into_iter().find(|key| inner.unique.get(key).is_some_and(|owner| *owner != id))
        {
            return Err(taken);
        }
        let seq = inner.remove(id).map_or_else(Seq::default, |before| before.seq);
        if durable {
            journal.mark(DirtyKey { kind: T::KIND, id });
        }
        let row = Arc::new(Stored { value: Arc::new(value), seq });
        inner.insert(row.clone());
        Ok(row)
    }

    /// Takes a record out and notes it as changed.
    pub(super) fn take(&self, id: T::Id, journal: &Journal) -> Option<(Arc<Stored<T>>, Seq)> {
        let mut inner = self.write();
        let row = inner.remove(T::uuid(id))?;
        Some((row, journal.mark_gone(DirtyKey { kind: T::KIND, id: T::uuid(id) })))
    }

    /// Up to `length` records of the account after `from`, and where to go on if there may be more.
    #[expect(clippy::type_complexity, reason = "private, and a name would say no more")]
    fn slice(
        &self,
        account: AccountId,
        from: &(String, Uuid),
        length: usize,
    ) -> (Vec<(String, Arc<Stored<T>>)>, Option<(String, Uuid)>) {
        let inner = self.read();
        let start = Bound::Excluded((account, from.0.clone(), from.1));
        let mut slice = Vec::with_capacity(length);
        for (_, name, id) in inner.order.range((start, Bound::Unbounded)).take_while(|(of, ..)| *of == account) {
            if slice.len() == length {
                let end =
                    slice.last().map(|(name, row): &(String, Arc<Stored<T>>)| (name.clone(), T::uuid(row.value.id())));
                return (slice, end);
            }
            slice.extend(inner.rows.get(id).map(|row| (name.clone(), row.clone())));
        }
        (slice, None)
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner<T>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner<T>> {
        let inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        // With the lock held: who reads the new version waits for the new rows.
        self.version.fetch_add(1, Ordering::AcqRel);
        inner
    }
}

impl<T: Noun> Default for Table<T> {
    fn default() -> Self {
        let inner = Inner {
            rows: HashMap::new(),
            order: BTreeSet::new(),
            counts: HashMap::new(),
            unique: HashMap::new(),
            references: BTreeSet::new(),
        };
        Self { inner: RwLock::new(inner), version: AtomicU64::new(0) }
    }
}

impl<T: Noun> Inner<T> {
    fn insert(&mut self, row: Arc<Stored<T>>) {
        let id = T::uuid(row.value.id());
        for account in row.value.filed_under() {
            self.order.insert((account, row.value.sort_name(), id));
            *self.counts.entry(account).or_default() += 1;
        }
        self.unique.extend(row.value.unique_keys().into_iter().map(|key| (key, id)));
        self.references.extend(row.value.references().into_iter().map(|target| (target, id)));
        self.rows.insert(id, row);
    }

    fn remove(&mut self, id: Uuid) -> Option<Arc<Stored<T>>> {
        let row = self.rows.remove(&id)?;
        for account in row.value.filed_under() {
            self.order.remove(&(account, row.value.sort_name(), id));
            if let Entry::Occupied(mut count) = self.counts.entry(account) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
        for key in row.value.unique_keys() {
            self.unique.remove(&key);
        }
        for target in row.value.references() {
            self.references.remove(&(target, id));
        }
        Some(row)
    }
}

/// A place in the order as a text that any string can be read back from.
fn to_cursor((name, id): &(String, Uuid)) -> String {
    format!("{name}~{}", id.simple())
}

fn from_cursor(cursor: &str) -> (String, Uuid) {
    let parts = cursor.rsplit_once('~').and_then(|(name, id)| Some((name, Uuid::try_parse(id).ok()?)));
    parts.map_or_else(|| (cursor.to_owned(), Uuid::nil()), |(name, id)| (name.to_owned(), id))
}

/// Most entries read under one hold of the lock.
const SLICE_MAX: usize = 512;
