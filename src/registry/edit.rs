//! What admins change: accounts, sites, PBXs, users, queues, tokens.
//!
//! One edit at a time ([`Registry::editing`]): checks across tables hold until the edit is made. Edits are few and take
//! microseconds; their commits are grouped all the same, since nobody waits for one in here.

use std::sync::{Arc, MutexGuard, PoisonError};

use serde_json::Value;
use uuid::Uuid;

use super::noun::{Kept, Noun};
use super::{ChangeError, Changed, Registry};
use crate::model::{
    Account, AccountId, DeviceId, Member, Pbx, PbxId, Queue, QueueId, Site, SiteId, Token, TokenId, User, UserId,
};
use crate::store::{Seq, Stored};

macro_rules! edits {
    ($($noun:ty, $id:ty, $create:ident, $update:ident, $delete:ident;)*) => {$(
        /// Adds a record. Wait for its number before telling anyone.
        ///
        /// # Errors
        /// [`ChangeError`] when it may not be added; nothing has changed then.
        pub fn $create(&self, value: $noun) -> Result<Arc<Stored<$noun>>, ChangeError> {
            self.create(value)
        }

        /// Edits a record; `expected` is the version the caller has seen. An edit that changes nothing answers the
        /// record as it is. Wait for its number before telling anyone.
        ///
        /// # Errors
        /// [`ChangeError`] of the check that failed or of `edit` itself; nothing has changed then.
        pub fn $update(
            &self,
            id: $id,
            expected: Option<Seq>,
            edit: impl FnOnce(&mut $noun) -> Result<(), ChangeError>,
        ) -> Result<Arc<Stored<$noun>>, ChangeError> {
            self.update(id, expected, edit)
        }

        /// Deletes a record, and with it what makes no sense without it. Wait for the number before telling anyone.
        ///
        /// # Errors
        /// [`ChangeError`] when it is not there, is not at `expected`, or is still needed.
        pub fn $delete(&self, id: $id, expected: Option<Seq>) -> Result<Seq, ChangeError> {
            self.delete::<$noun>(id, expected)
        }
    )*};
}

impl Registry {
    edits! {
        Account, AccountId, create_account, update_account, delete_account;
        Site, SiteId, create_site, update_site, delete_site;
        Pbx, PbxId, create_pbx, update_pbx, delete_pbx;
        User, UserId, create_user, update_user, delete_user;
        Queue, QueueId, create_queue, update_queue, delete_queue;
        Token, TokenId, create_token, update_token, delete_token;
    }

    /// Puts a device into a queue, or changes its membership.
    ///
    /// # Errors
    /// [`ChangeError`] when queue or device is not there.
    pub fn set_member(&self, queue: QueueId, member: Member) -> Result<Arc<Stored<Queue>>, ChangeError> {
        self.update_queue(queue, None, |queue| {
            match queue.members.iter_mut().find(|present| present.device == member.device) {
                Some(present) => *present = Member { since: present.since, ..member },
                None => queue.members.push(member),
            }
            Ok(())
        })
    }

    /// Takes a device out of a queue.
    ///
    /// # Errors
    /// [`ChangeError::NotFound`] when there is no such queue or the device is not in it.
    pub fn remove_member(&self, queue: QueueId, device: DeviceId) -> Result<Arc<Stored<Queue>>, ChangeError> {
        self.update_queue(queue, None, |queue| {
            let before = queue.members.len();
            queue.members.retain(|member| member.device != device);
            if queue.members.len() == before { Err(ChangeError::NotFound) } else { Ok(()) }
        })
    }

    /// Holds back other edits while it lives.
    pub(super) fn editing(&self) -> MutexGuard<'_, ()> {
        self.edit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn create<T: Noun>(&self, mut value: T) -> Result<Arc<Stored<T>>, ChangeError> {
        let _editing = self.editing();
        let table = T::table(self);
        if table.get(value.id()).is_some() {
            return Err(ChangeError::Conflict { detail: format!("id {} exists", value.id()) });
        }
        let (what, max) = T::limit(self);
        let present = if T::KIND == crate::store::Kind::Account { table.len() } else { table.count(value.account()) };
        if present >= max {
            super::count_dropped(what);
            return Err(ChangeError::Limit { what });
        }
        value.tidy();
        refuse_nul(&value)?;
        value.check(self)?;
        let row = table.put(value, &self.journal).map_err(conflict)?;
        self.edited(T::EVENTS[0], &row.value, row.seq);
        Ok(row)
    }

    fn update<T: Noun>(
        &self,
        id: T::Id,
        expected: Option<Seq>,
        edit: impl FnOnce(&mut T) -> Result<(), ChangeError>,
    ) -> Result<Arc<Stored<T>>, ChangeError> {
        let _editing = self.editing();
        let table = T::table(self);
        let before = table.get(id).ok_or(ChangeError::NotFound)?;
        check_version(expected, before.seq)?;
        let mut value = (*before.value).clone();
        edit(&mut value)?;
        value.tidy();
        if value == *before.value {
            return Ok(before);
        }
        if value.id() != id || value.account() != before.value.account() {
            return Err(ChangeError::Invalid { detail: "id and account can't be changed".into() });
        }
        refuse_nul(&value)?;
        value.check(self)?;
        let row = table.put(value, &self.journal).map_err(conflict)?;
        self.edited(T::EVENTS[1], &row.value, row.seq);
        T::updated(self, &before.value, &row.value, row.seq);
        Ok(row)
    }

    fn delete<T: Noun>(&self, id: T::Id, expected: Option<Seq>) -> Result<Seq, ChangeError> {
        let _editing = self.editing();
        let table = T::table(self);
        let before = table.get(id).ok_or(ChangeError::NotFound)?;
        check_version(expected, before.seq)?;
        self.let_go(T::KIND, T::uuid(id), before.value.account())?;
        let (row, seq) = table.take(id, &self.journal).ok_or(ChangeError::NotFound)?;
        self.edited(T::EVENTS[2], &row.value, seq);
        Ok(seq)
    }

    /// Refuses when others need the record; otherwise undoes what only makes sense with it.
    fn let_go(&self, kind: crate::store::Kind, id: Uuid, account: AccountId) -> Result<(), ChangeError> {
        use crate::store::Kind;

        match kind {
            Kind::Account => {
                let needed = !self.accounts.referring_to(id).is_empty()
                    || !self.sites.referring_to(id).is_empty()
                    || !self.users.referring_to(id).is_empty()
                    || !self.tokens.referring_to(id).is_empty()
                    || !self.queues.referring_to(id).is_empty()
                    || self.devices.count(account) > 0;
                refuse_if(needed, "the account is not empty")
            }
            Kind::Site => refuse_if(!self.pbxs.referring_to(id).is_empty(), "the site has PBXs"),
            Kind::Pbx => {
                refuse_if(!self.queues.referring_to(id).is_empty(), "the PBX has queues")?;
                refuse_if(self.devices.any_on(PbxId(id)), "the PBX has devices")?;
                self.delete_tokens_of(id);
                Ok(())
            }
            Kind::User => {
                self.unlink_user(UserId(id), self.clock.now().unix);
                self.delete_tokens_of(id);
                Ok(())
            }
            Kind::Queue => {
                refuse_if(!self.pbxs.referring_to(id).is_empty(), "a rule of its PBX names the queue")?;
                for user in self.users.referring_to(id) {
                    let mut value = (*user.value).clone();
                    value.queues.retain(|queue| queue.0 != id);
                    if let Ok(row) = self.users.put(value, &self.journal) {
                        self.edited(User::EVENTS[1], &row.value, row.seq);
                    }
                }
                Ok(())
            }
            Kind::Token | Kind::Device | Kind::Bindings | Kind::Secret | Kind::Link => Ok(()),
        }
    }

    fn delete_tokens_of(&self, id: Uuid) {
        for token in self.tokens.referring_to(id) {
            if let Some((row, seq)) = self.tokens.take(token.value.id, &self.journal) {
                self.edited(Token::EVENTS[2], &row.value, seq);
            }
        }
    }

    /// Tells those who watch that a record was edited.
    pub(super) fn edited<T: Noun>(&self, event: &'static str, value: &Arc<T>, seq: Seq) {
        if T::KIND == crate::store::Kind::User {
            self.changed(Changed::User(UserId(T::uuid(value.id()))));
        }
        self.announce(seq, value.account(), event, value.shown());
    }
}

/// Refuses an edit of an older version.
pub(super) fn check_version(expected: Option<Seq>, current: Seq) -> Result<(), ChangeError> {
    match expected {
        Some(expected) if expected != current => Err(ChangeError::Stale { current }),
        _ => Ok(()),
    }
}

/// Refuses text that Postgres can't keep.
pub(super) fn refuse_nul(value: &impl serde::Serialize) -> Result<(), ChangeError> {
    fn has_nul(value: &Value) -> bool {
        match value {
            Value::String(text) => text.contains('\0'),
            Value::Array(items) => items.iter().any(has_nul),
            Value::Object(fields) => fields.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
            _ => false,
        }
    }
    if serde_json::to_value(value).is_ok_and(|value| has_nul(&value)) {
        return Err(ChangeError::Invalid { detail: "text must not contain NUL".into() });
    }
    Ok(())
}

fn refuse_if(needed: bool, detail: &str) -> Result<(), ChangeError> {
    if needed { Err(ChangeError::InUse { detail: detail.into() }) } else { Ok(()) }
}

fn conflict((what, _, text): super::noun::UniqueKey) -> ChangeError {
    ChangeError::Conflict { detail: format!("{what} {text} is taken") }
}
