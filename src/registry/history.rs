//! The past: what the database remembers, and what it has not been told yet.

use std::collections::BTreeMap;

use super::Registry;
use crate::model::{AccountId, Call, CallId, DeviceId, Link, LinkId, TrailEntry, Transition, UnixMillis};
use crate::store::{CallFilter, HistoryPage, LinksOf, StoreError};

impl Registry {
    /// The account's calls, newest first, from after `cursor`.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't answer, or the cursor is none of ours.
    pub async fn calls_page(
        &self,
        account: AccountId,
        filter: &CallFilter,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<HistoryPage<Call>, StoreError> {
        self.settle().await;
        self.store.calls_page(account, filter, cursor, limit).await
    }

    /// One call, live or past.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't answer.
    pub async fn call(&self, id: CallId) -> Result<Option<Call>, StoreError> {
        if let Some(call) = self.live.call(id) {
            return Ok(Some((*call).clone()));
        }
        self.settle().await;
        self.store.call(id).await
    }

    /// Why who got or did not get a call's popup, in the order it was decided.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't answer.
    pub async fn trail(&self, call: CallId) -> Result<Vec<TrailEntry>, StoreError> {
        self.settle().await;
        self.store.trail(call).await
    }

    /// A device's ups and downs, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't answer, or the cursor is none of ours.
    pub async fn transitions(
        &self,
        device: DeviceId,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<HistoryPage<Transition>, StoreError> {
        self.settle().await;
        self.store.transitions(device, cursor, limit).await
    }

    /// Links of a device or a user, ended ones too, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't answer, or the cursor is none of ours.
    pub async fn links_history(
        &self,
        of: LinksOf,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<HistoryPage<Link>, StoreError> {
        self.store.links_page(of, cursor, limit).await
    }

    /// Who held the device at that moment (X5).
    ///
    /// # Errors
    /// [`StoreError`] when the database can't answer.
    pub async fn holders_at(&self, device: DeviceId, at: UnixMillis) -> Result<Vec<Link>, StoreError> {
        let stored = self.store.links_at(device, at).await?;
        let mut links: BTreeMap<LinkId, Link> = stored.into_iter().map(|link| (link.id, link)).collect();
        // What memory has is newer than what was stored.
        for link in self.links.of_device(device).into_iter().chain(self.links.ended_of_device(device)) {
            links.insert(link.value.id, (*link.value).clone());
        }
        links.retain(|_, link| link.began_at <= at && link.ended_at.is_none_or(|ended| ended > at));
        Ok(links.into_values().collect())
    }

    /// Gives what was just recorded the time to be stored, so that whoever saw a call end finds it. With the database
    /// behind, the answer is what it has.
    pub(super) async fn settle(&self) {
        let wait = self.limits.load().commit_wait;
        self.journal.history_committed(wait).await;
    }
}
