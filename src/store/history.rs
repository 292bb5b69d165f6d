//! Questions about the past, answered by the database.

use super::{Store, StoreError};
use crate::model::{
    AccountId, Call, CallId, DeviceId, Direction, Link, Outcome, TrailEntry, Transition, UnixMillis, UserId,
};

/// One page of history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryPage<T> {
    /// Newest first.
    pub items: Vec<T>,
    /// Where the next page starts; none when this was the last.
    pub next: Option<String>,
}

/// Which calls a listing wants; unset = any.
#[derive(Clone, Debug, Default)]
pub struct CallFilter {
    /// The user had to do with it.
    pub user: Option<UserId>,
    /// One of its legs was this device's.
    pub device: Option<DeviceId>,
    /// It went this way.
    pub direction: Option<Direction>,
    /// It ended so.
    pub outcome: Option<Outcome>,
    /// It began at or after this.
    pub since: Option<UnixMillis>,
    /// It began before this.
    pub until: Option<UnixMillis>,
}

/// Whose links a listing wants.
#[derive(Clone, Copy, Debug)]
pub enum LinksOf {
    /// A device's.
    Device(DeviceId),
    /// A user's.
    User(UserId),
}

impl Store {
    /// The account's calls, newest first, from after `cursor`.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't answer, or the cursor is none of ours.
    pub async fn calls_page(
        &self,
        _account: AccountId,
        _filter: &CallFilter,
        _cursor: Option<&str>,
        _limit: u32,
    ) -> Result<HistoryPage<Call>, StoreError> {
        Ok(HistoryPage { items: Vec::new(), next: None })
    }

    /// One call.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't answer.
    pub async fn call(&self, _id: CallId) -> Result<Option<Call>, StoreError> {
        Ok(None)
    }

    /// Why who got or did not get a call's popup, in the order it was decided.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't answer.
    pub async fn trail(&self, _call: CallId) -> Result<Vec<TrailEntry>, StoreError> {
        Ok(Vec::new())
    }

    /// A device's ups and downs, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't answer, or the cursor is none of ours.
    pub async fn transitions(
        &self,
        _device: DeviceId,
        _cursor: Option<&str>,
        _limit: u32,
    ) -> Result<HistoryPage<Transition>, StoreError> {
        Ok(HistoryPage { items: Vec::new(), next: None })
    }

    /// Links of a device or a user, ended ones too, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't answer, or the cursor is none of ours.
    pub async fn links_page(
        &self,
        _of: LinksOf,
        _cursor: Option<&str>,
        _limit: u32,
    ) -> Result<HistoryPage<Link>, StoreError> {
        Ok(HistoryPage { items: Vec::new(), next: None })
    }

    /// The device's links that lasted at `at`.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't answer.
    pub async fn links_at(&self, _device: DeviceId, _at: UnixMillis) -> Result<Vec<Link>, StoreError> {
        Ok(Vec::new())
    }
}
