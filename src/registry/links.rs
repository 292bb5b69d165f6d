//! Who has which phone: links, indexed from both ends.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use smallvec::SmallVec;

use super::{ChangeError, Changed, Registry};
use crate::model::{AccountId, DeviceId, Link, LinkId, UnixMillis, UserId};
use crate::store::{DirtyKey, Journal, Kind, Seq, Stored};

/// Links that last, and ended ones until their end is stored.
#[derive(Debug, Default)]
pub(super) struct Links {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    rows: HashMap<LinkId, Arc<Stored<Link>>>,
    by_device: HashMap<DeviceId, SmallVec<[(UserId, LinkId); 1]>>,
    by_user: HashMap<UserId, SmallVec<[(DeviceId, LinkId); 1]>>,
    /// Ended links, by the number of their end.
    ended: VecDeque<(Seq, LinkId)>,
}

impl Registry {
    /// Links a device to a user. Linking again answers the link there is, and `false`.
    ///
    /// # Errors
    /// [`ChangeError::NotFound`] unless both are there and of one account; [`ChangeError::Limit`] when either has too
    /// many.
    pub fn link(
        &self,
        user: UserId,
        device: DeviceId,
        now: UnixMillis,
    ) -> Result<(Arc<Stored<Link>>, bool), ChangeError> {
        let _editing = self.editing();
        let account = self.users.get(user).ok_or(ChangeError::NotFound)?.value.account;
        if self.account_of_device(device) != Some(account) {
            return Err(ChangeError::NotFound);
        }
        if let Some(link) = self.links.between(user, device) {
            return Ok((link, false));
        }
        if self.links.of_user(user).len().max(self.links.of_device(device).len()) >= self.limits.load().links_max {
            super::count_dropped("links_max");
            return Err(ChangeError::Limit { what: "links_max" });
        }
        let id = LinkId(self.clock.uuid());
        let link = Link { id, account, device, user, began_at: now, ended_at: None };
        let link = self.links.begin(link, &self.journal);
        self.link_changed("device.linked", &link);
        Ok((link, true))
    }

    /// Ends the link between a device and a user.
    ///
    /// # Errors
    /// [`ChangeError::NotFound`] when there is none.
    pub fn unlink(&self, user: UserId, device: DeviceId, now: UnixMillis) -> Result<Arc<Stored<Link>>, ChangeError> {
        let _editing = self.editing();
        let link = self.links.between(user, device).ok_or(ChangeError::NotFound)?;
        let link = self.links.end(link.value.id, now, &self.journal).ok_or(ChangeError::NotFound)?;
        self.link_changed("device.unlinked", &link);
        Ok(link)
    }

    /// The user's links that last, ordered by device.
    #[must_use]
    pub fn links_of_user(&self, user: UserId) -> Vec<Arc<Stored<Link>>> {
        self.links.of_user(user)
    }

    /// The device's links that last, ordered by user.
    #[must_use]
    pub fn links_of_device(&self, device: DeviceId) -> Vec<Arc<Stored<Link>>> {
        self.links.of_device(device)
    }

    /// What an answer waits for that shows who has the device: the last change of each of its links, those that have
    /// ended and so are not shown included.
    #[must_use]
    pub fn links_await(&self, device: DeviceId) -> Seq {
        let links = self.links.of_device(device).into_iter().chain(self.links.ended_of_device(device));
        links.map(|link| link.seq).max().unwrap_or_default()
    }

    /// Ends every link of a user. Call it while editing.
    pub(super) fn unlink_user(&self, user: UserId, now: UnixMillis) {
        self.end_all(&self.links.of_user(user), now);
    }

    /// Ends every link of a device. Call it while editing.
    pub(super) fn unlink_device(&self, device: DeviceId, now: UnixMillis) {
        self.end_all(&self.links.of_device(device), now);
    }

    fn end_all(&self, links: &[Arc<Stored<Link>>], now: UnixMillis) {
        for link in links {
            if let Some(link) = self.links.end(link.value.id, now, &self.journal) {
                self.link_changed("device.unlinked", &link);
            }
        }
    }

    fn link_changed(&self, event: &'static str, link: &Stored<Link>) {
        let (account, link) = ((link.value.account, link.seq), &link.value);
        self.changed(Changed::User(link.user));
        self.changed(Changed::Device(link.device));
        let (account, seq): (AccountId, Seq) = account;
        self.announce(seq, account, event, serde_json::to_value(link).unwrap_or_default());
    }
}

impl Links {
    /// Puts in what the database had.
    pub(super) fn restore(&self, link: Stored<Link>) {
        self.write().insert(Arc::new(link));
    }

    /// The link with this id; an ended one only until its end is stored.
    pub(super) fn get(&self, id: LinkId) -> Option<Arc<Stored<Link>>> {
        self.read().rows.get(&id).cloned()
    }

    pub(super) fn between(&self, user: UserId, device: DeviceId) -> Option<Arc<Stored<Link>>> {
        let inner = self.read();
        let (_, id) = inner.by_user.get(&user)?.iter().find(|(linked, _)| *linked == device)?;
        inner.rows.get(id).cloned()
    }

    pub(super) fn of_user(&self, user: UserId) -> Vec<Arc<Stored<Link>>> {
        let inner = self.read();
        let ids = inner.by_user.get(&user).into_iter().flatten();
        ids.filter_map(|(_, id)| inner.rows.get(id).cloned()).collect()
    }

    pub(super) fn of_device(&self, device: DeviceId) -> Vec<Arc<Stored<Link>>> {
        let inner = self.read();
        let ids = inner.by_device.get(&device).into_iter().flatten();
        ids.filter_map(|(_, id)| inner.rows.get(id).cloned()).collect()
    }

    /// Users linked to the device, ordered.
    pub(super) fn users(&self, device: DeviceId) -> SmallVec<[UserId; 4]> {
        self.read().by_device.get(&device).into_iter().flatten().map(|(user, _)| *user).collect()
    }

    /// Devices linked to the user, ordered.
    pub(super) fn devices(&self, user: UserId) -> SmallVec<[DeviceId; 4]> {
        self.read().by_user.get(&user).into_iter().flatten().map(|(device, _)| *device).collect()
    }

    /// Links of the device that are not known to be stored as they are, ended ones too.
    pub(super) fn ended_of_device(&self, device: DeviceId) -> Vec<Arc<Stored<Link>>> {
        let inner = self.read();
        let ended = inner.ended.iter().filter_map(|(_, id)| inner.rows.get(id));
        ended.filter(|link| link.value.device == device).cloned().collect()
    }

    /// Forgets ended links whose end is stored.
    pub(super) fn forget(&self, stored: impl Fn(Seq) -> bool) {
        let mut inner = self.write();
        while let Some(&(seq, id)) = inner.ended.front() {
            if !stored(seq) {
                break;
            }
            inner.ended.pop_front();
            inner.rows.remove(&id);
        }
    }

    fn begin(&self, value: Link, journal: &Journal) -> Arc<Stored<Link>> {
        let mut inner = self.write();
        let seq = journal.mark(DirtyKey { kind: Kind::Link, id: value.id.0 });
        let link = Arc::new(Stored { value: value.into(), seq });
        inner.insert(link.clone());
        link
    }

    pub(super) fn end(&self, id: LinkId, now: UnixMillis, journal: &Journal) -> Option<Arc<Stored<Link>>> {
        let mut inner = self.write();
        let before = inner.rows.get(&id)?.value.clone();
        if let Some(of) = inner.by_device.get_mut(&before.device) {
            of.retain(|(_, link)| *link != id);
            if of.is_empty() {
                inner.by_device.remove(&before.device);
            }
        }
        if let Some(of) = inner.by_user.get_mut(&before.user) {
            of.retain(|(_, link)| *link != id);
            if of.is_empty() {
                inner.by_user.remove(&before.user);
            }
        }
        let seq = journal.mark_gone(DirtyKey { kind: Kind::Link, id: id.0 });
        // A wall clock that was set back must not end a link before it began.
        let ended_at = Some(now.max(before.began_at));
        let link = Arc::new(Stored { value: Link { ended_at, ..(*before).clone() }.into(), seq });
        inner.rows.insert(id, link.clone());
        inner.ended.push_back((seq, id));
        Some(link)
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn insert(&mut self, link: Arc<Stored<Link>>) {
        let Link { id, user, device, .. } = *link.value;
        let of_device = self.by_device.entry(device).or_default();
        let at = of_device.partition_point(|(other, _)| *other < user);
        of_device.insert(at, (user, id));
        let of_user = self.by_user.entry(user).or_default();
        let at = of_user.partition_point(|(other, _)| *other < device);
        of_user.insert(at, (device, id));
        self.rows.insert(id, link);
    }
}
