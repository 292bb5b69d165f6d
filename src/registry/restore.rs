//! From the database into memory, at start.
//!
//! One commit may hold a record without another that it refers to; after a crash between the two the reference leads
//! nowhere. Whatever would make later edits fail is set right here and written back.

use std::collections::HashMap;
use std::panic::resume_unwind;
use std::sync::{Arc, PoisonError};

use super::homes::{Home, place};
use super::order::OrderKey;
use super::record::{Grace, Record};
use super::{Noun, Registry, Table, lower_half};
use crate::model::{AccountId, Device, MemberState, Now, PbxId, Queue};
use crate::store::{DirtyKey, Kind, Loaded, LoadedBindings, StoreError, Stored};

impl Registry {
    /// Takes over what the database had.
    ///
    /// # Errors
    /// [`StoreError`] when bindings make no sense.
    pub(super) fn restore(&self, loaded: Loaded, now: Now) -> Result<(), StoreError> {
        put(&self.accounts, loaded.accounts);
        put(&self.sites, loaded.sites);
        put(&self.pbxs, loaded.pbxs);
        put(&self.users, loaded.users);
        put(&self.queues, loaded.queues.into_iter().map(without_states).collect());
        put(&self.tokens, loaded.tokens);
        self.restore_devices(loaded.devices);
        self.restore_bindings_of_all(loaded.bindings, now)?;
        for secret in loaded.secrets {
            self.restore_secret(secret);
        }
        for link in loaded.links {
            let whole =
                self.users.get(link.value.user).is_some() && self.account_of_device(link.value.device).is_some();
            let id = link.value.id;
            self.links.restore(link);
            if !whole {
                tracing::warn!(link = %id, "a link leads nowhere; it is ended");
                self.links.end(id, now.unix, &self.journal);
            }
        }
        for (call, _) in &loaded.calls {
            self.live.remember(&Arc::new(call.clone()));
        }
        *self.calls_at_start.lock().unwrap_or_else(PoisonError::into_inner) = loaded.calls;
        self.repair_references();
        Ok(())
    }

    /// There may be a million: what sorted lists need of them is put in at once, and neighbours share a look-up.
    fn restore_devices(&self, rows: Vec<Stored<Device>>) {
        let mut places: HashMap<AccountId, (Arc<Home>, Vec<OrderKey>)> = HashMap::new();
        let mut latest: Option<Arc<Home>> = None;
        for row in rows {
            let (id, account, pbx) = (row.value.id, row.value.account, row.value.pbx);
            let known = latest.take().filter(|home| home.account == account && home.pbx == pbx);
            let Some(home) = known.or_else(|| self.home_of(account, pbx)) else {
                tracing::warn!(device = %id, "a device without an account or PBX; it is deleted");
                self.journal.mark(DirtyKey { kind: Kind::Device, id: id.0 });
                continue;
            };
            let mut record = Box::new(Record::new(Arc::unwrap_or_clone(row.value), home.clone()));
            record.seq = row.seq;
            places.entry(account).or_insert_with(|| (home.clone(), Vec::new())).1.push(place(&record));
            self.devices.records.insert(id, record);
            latest = Some(home);
        }
        for (home, places) in places.into_values() {
            home.devices.file_all(places);
        }
    }

    fn home_of(&self, account: AccountId, pbx: PbxId) -> Option<Arc<Home>> {
        let whole = self.accounts.get(account).is_some() && self.pbxs.get(pbx).is_some();
        whole.then(|| self.devices.home(account, pbx, || self.feeds.lead(pbx)))
    }

    /// On as many threads as there are processors: a start waits for nothing else.
    fn restore_bindings_of_all(&self, mut loaded: Vec<LoadedBindings>, now: Now) -> Result<(), StoreError> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let share = loaded.len().div_ceil(threads).max(SHARE_MIN);
        std::thread::scope(|scope| {
            let mut others = Vec::new();
            while loaded.len() > share {
                let some = loaded.split_off(loaded.len() - share);
                others.push(scope.spawn(move || self.restore_bindings_of(some, now)));
            }
            self.restore_bindings_of(loaded, now)?;
            others.into_iter().try_for_each(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)))
        })
    }

    fn restore_bindings_of(&self, some: Vec<LoadedBindings>, now: Now) -> Result<(), StoreError> {
        let mut latest: Option<(PbxId, Grace)> = None;
        let mut deadlines = Vec::with_capacity(some.len());
        for loaded in some {
            let device = loaded.device;
            let Some(mut record) = self.devices.records.get_mut(&device) else {
                self.journal.mark(DirtyKey { kind: Kind::Bindings, id: device.0 });
                continue;
            };
            record.bindings_seq = loaded.seq;
            record.logged = lower_half(loaded.commit);
            // Neighbours share a look-up.
            let pbx = record.home.pbx;
            let known = latest.filter(|(of, _)| *of == pbx);
            let (_, grace) = *latest.insert(known.unwrap_or_else(|| (pbx, self.grace(pbx))));
            self.restore_bindings(&mut record, loaded.contacts(now)?, now, grace);
            deadlines.push((record.scheduled, device));
        }
        self.devices.wheel.insert_all(deadlines);
        Ok(())
    }

    /// Takes references out that lead nowhere.
    fn repair_references(&self) {
        for user in self.users.all() {
            let mut value = (*user.value).clone();
            value.queues.retain(|queue| self.queues.get(*queue).is_some());
            self.repaired(&*user.value, value);
        }
        for queue in self.queues.all() {
            let mut value = (*queue.value).clone();
            value.members.retain(|member| self.account_of_device(member.device).is_some());
            self.repaired(&*queue.value, value);
        }
        for pbx in self.pbxs.all() {
            let mut value = (*pbx.value).clone();
            value
                .queue_rules
                .retain(|rule| super::nouns::rule_queue(rule).is_none_or(|queue| self.queues.get(queue).is_some()));
            self.repaired(&*pbx.value, value);
        }
        for token in self.tokens.all() {
            if token.value.user.is_some_and(|user| self.users.get(user).is_none()) {
                tracing::warn!(token = %token.value.id, "a token without its user; it is deleted");
                self.tokens.take(token.value.id, &self.journal);
            }
        }
    }

    fn repaired<T: Noun>(&self, before: &T, after: T) {
        if *before == after {
            return;
        }
        tracing::warn!(kind = ?T::KIND, id = %before.id(), "a reference leads nowhere; it is taken out");
        // It only lost references; what was unique still is.
        let _ = T::table(self).put(after, &self.journal);
    }
}

/// How members were when they were last written says nothing of now.
fn without_states(mut queue: Stored<Queue>) -> Stored<Queue> {
    for member in &mut Arc::make_mut(&mut queue.value).members {
        member.state = MemberState::default();
    }
    queue
}

fn put<T: Noun>(table: &Table<T>, rows: Vec<Stored<T>>) {
    for row in rows {
        table.restore(row);
    }
}

/// Fewer devices than this are not worth a thread.
const SHARE_MIN: usize = 10_000;
