//! The office a replay builds up: devices as they appear, and who has them. In memory alone; it answers what the
//! switchboard asks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;
use uuid::Uuid;

use super::links::{Links, LinksError};
use super::news::{Names, Origin};
use super::phone::Phone;
use crate::model::{
    Account, AccountId, Binding, ContactKey, DeviceId, Now, Pbx, PbxId, Queue, QueueId, SiteId, Tick, Transition,
    UnixMillis, User, UserId, UserQueues, canonical_user,
};
use crate::registry::transitions;
use crate::sip::Uri;
use crate::switchboard::{DeviceFacts, UserFacts, View};

/// Everything the capture has shown and the links file says.
pub(super) struct Office {
    account: Arc<Account>,
    pbx: Arc<Pbx>,
    phones: HashMap<DeviceId, Phone, Hasher>,
    by_user: HashMap<Box<str>, DeviceId, Hasher>,
    by_extension: HashMap<Box<str>, SmallVec<[DeviceId; 2]>, Hasher>,
    by_contact: HashMap<ContactKey, SmallVec<[DeviceId; 2]>, Hasher>,
    users: BTreeMap<UserId, User>,
    links: BTreeSet<(UserId, DeviceId)>,
    linked: HashMap<DeviceId, SmallVec<[UserId; 4]>, Hasher>,
    pub(super) queues: BTreeMap<QueueId, Arc<Queue>>,
    /// One entry a phone with bindings: when the first of them is gone, or was when it was filed.
    deadlines: BTreeSet<(Tick, DeviceId)>,
    /// A connector's log is part of the capture.
    pub(super) led: bool,
    /// Devices that did not appear because there were too many.
    pub(super) turned_away: u64,
}

type Hasher = foldhash::fast::RandomState;

impl Office {
    pub(super) fn new(links: &Links) -> Result<Self, LinksError> {
        let account = Account {
            id: ACCOUNT,
            parent: None,
            name: "replay".into(),
            domains: Vec::new(),
            number_plan: links.account.number_plan.clone(),
            settings: links.account.settings.clone(),
            created_at: UnixMillis(0),
        };
        let pbx = Pbx {
            id: PBX,
            account: ACCOUNT,
            site: SITE,
            name: "replay".into(),
            domain: String::new(),
            aliases: Vec::new(),
            any_domain: true,
            networks: links.pbx.networks.clone(),
            passive_expires_max_s: EXPIRES_MAX_S,
            passive_grace_s: GRACE_S,
            queue_rules: links.rules()?,
            control: false,
            created_at: UnixMillis(0),
        };
        let mut office = Self {
            account: Arc::new(account),
            pbx: Arc::new(pbx),
            phones: HashMap::default(),
            by_user: HashMap::default(),
            by_extension: HashMap::default(),
            by_contact: HashMap::default(),
            users: links.users(ACCOUNT)?.into_iter().map(|user| (user.id, user)).collect(),
            links: BTreeSet::new(),
            linked: HashMap::default(),
            queues: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            led: false,
            turned_away: 0,
        };
        office.furnish(links);
        Ok(office)
    }

    /// The PBX everything belongs to.
    pub(super) fn pbx_id(&self) -> PbxId {
        self.pbx.id
    }

    /// The site its calls are joined in.
    pub(super) fn site(&self) -> SiteId {
        self.pbx.site
    }

    /// Whether anybody could get an offer.
    pub(super) fn has_users(&self) -> bool {
        !self.users.is_empty()
    }

    pub(super) fn names(&self) -> Names {
        Names {
            users: self.users.values().map(|user| (user.id, user.name.clone())).collect(),
            queues: self.queues.values().map(|queue| (queue.id, queue.name.clone())).collect(),
        }
    }

    /// All phones, by extension as people count.
    pub(super) fn phones(&self) -> Vec<&Phone> {
        let mut phones: Vec<&Phone> = self.phones.values().collect();
        phones.sort_by(|a, b| (a.extension().len(), a.extension()).cmp(&(b.extension().len(), b.extension())));
        phones
    }

    pub(super) fn phone(&self, id: DeviceId) -> Option<&Phone> {
        self.phones.get(&id)
    }

    pub(super) fn phone_mut(&mut self, id: DeviceId) -> Option<&mut Phone> {
        self.phones.get_mut(&id)
    }

    /// The device of this user part.
    pub(super) fn by_user(&self, user: &str) -> Option<DeviceId> {
        self.by_user.get(&*canonical_user(user)).copied()
    }

    /// The device of this user part, which appears if it is new. None when there are too many, or it has no name.
    pub(super) fn appear(&mut self, user: &str, origin: Origin, now: Option<UnixMillis>) -> Option<DeviceId> {
        let user = canonical_user(user);
        if let Some(id) = self.by_user.get(&*user) {
            return Some(*id);
        }
        if user.is_empty() || self.phones.len() >= DEVICES_MAX {
            self.turned_away += u64::from(!user.is_empty());
            return None;
        }
        let id = DeviceId::derive(ACCOUNT, PBX, &user);
        self.by_user.insert((*user).into(), id);
        self.by_extension.entry((*user).into()).or_default().push(id);
        self.phones.insert(id, Phone::new(id, &user, origin, now));
        Some(id)
    }

    /// Replaces a phone's bindings and says what that means for it.
    pub(super) fn bind(
        &mut self,
        id: DeviceId,
        bindings: Vec<Binding>,
        now: Now,
        cause: &'static str,
    ) -> SmallVec<[Transition; 1]> {
        let Some(phone) = self.phones.get_mut(&id) else { return SmallVec::new() };
        let news = transitions(id, now.unix, &phone.bindings, &bindings, cause);
        let is_kept = |old: &Binding, among: &[Binding]| among.iter().any(|new| new.contact == old.contact);
        for gone in phone.bindings.iter().filter(|old| !is_kept(old, &bindings)) {
            let Some(key) = contact_key(&gone.contact) else { continue };
            // Two contacts may differ only in parameters, which the index does not know.
            let still = bindings.iter().any(|new| contact_key(&new.contact).as_ref() == Some(&key));
            if let (false, Some(devices)) = (still, self.by_contact.get_mut(&key)) {
                devices.retain(|device| *device != id);
                if devices.is_empty() {
                    self.by_contact.remove(&key);
                }
            }
        }
        for came in bindings.iter().filter(|new| !is_kept(new, &phone.bindings)) {
            let Some(key) = contact_key(&came.contact) else { continue };
            let devices = self.by_contact.entry(key).or_default();
            if let Err(at) = devices.binary_search(&id) {
                devices.insert(at, id);
            }
        }
        phone.bindings = bindings;
        let first = phone.bindings.iter().map(|binding| binding.expires_at + GRACE_MS).min();
        if let Some(first) = first.filter(|first| phone.scheduled.is_none_or(|at| *first < at)) {
            if let Some(later) = phone.scheduled.replace(first) {
                self.deadlines.remove(&(later, id));
            }
            self.deadlines.insert((first, id));
        }
        news
    }

    /// When [`Office::expire`] has something to do, at the earliest.
    pub(super) fn next_deadline(&self) -> Option<Tick> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Ends bindings whose time and grace are over.
    pub(super) fn expire(&mut self, now: Now, news: &mut Vec<Transition>) {
        while let Some(&(_, id)) = self.deadlines.first().filter(|(at, _)| *at <= now.tick) {
            self.deadlines.pop_first();
            let Some(phone) = self.phones.get_mut(&id) else { continue };
            phone.scheduled = None;
            let left = phone.bindings.iter().filter(|binding| binding.expires_at + GRACE_MS > now.tick);
            let left = left.cloned().collect();
            news.extend(self.bind(id, left, now, "expired"));
        }
    }

    /// Puts in what the links file says.
    fn furnish(&mut self, links: &Links) {
        for line in &links.devices {
            let Some(id) = self.appear(&line.user, Origin::Links, None) else { continue };
            let Some(phone) = self.phones.get_mut(&id) else { continue };
            phone.label = line.label.as_deref().map(Into::into);
            phone.enabled = line.enabled;
            if let Some(extension) = &line.extension {
                if let Some(devices) = self.by_extension.get_mut(phone.extension()) {
                    devices.retain(|device| *device != id);
                }
                self.by_extension.entry(extension.as_str().into()).or_default().push(id);
                phone.extension = Some(extension.as_str().into());
            }
        }
        let users: Vec<UserId> = self.users.keys().copied().collect();
        for (user, line) in users.into_iter().zip(&links.users) {
            for device in &line.devices {
                if let Some(device) = self.appear(device, Origin::Links, None) {
                    self.links.insert((user, device));
                    let linked = self.linked.entry(device).or_default();
                    if !linked.contains(&user) {
                        linked.push(user);
                    }
                }
            }
        }
        let none = DeviceId(Uuid::nil());
        let queues = links.queues(ACCOUNT, PBX, |user| self.appear(user, Origin::Links, None).unwrap_or(none));
        self.queues = queues.into_iter().map(|queue| (queue.id, Arc::new(queue))).collect();
    }

    fn follows_pbx(&self) -> bool {
        self.account.settings.user_queues == UserQueues::FollowPbx
    }

    fn queues_of(&self, user: &User) -> SmallVec<[QueueId; 4]> {
        if !self.follows_pbx() {
            return user.queues.iter().copied().collect();
        }
        let has = |queue: &Queue| queue.members.iter().any(|member| self.links.contains(&(user.id, member.device)));
        self.queues.values().filter(|queue| has(queue)).map(|queue| queue.id).collect()
    }
}

impl View for Office {
    fn pbx(&self, id: PbxId) -> Option<Arc<Pbx>> {
        (id == PBX).then(|| self.pbx.clone())
    }

    fn is_led(&self, _: PbxId) -> bool {
        self.led
    }

    fn account(&self, id: AccountId) -> Option<Arc<Account>> {
        (id == ACCOUNT).then(|| self.account.clone())
    }

    fn devices_by_contact(&self, _: PbxId, contact: &ContactKey) -> SmallVec<[DeviceId; 2]> {
        self.by_contact.get(contact).cloned().unwrap_or_default()
    }

    fn device_by_aor(&self, _: PbxId, user: &str, _: &str) -> Option<DeviceId> {
        self.by_user(user)
    }

    fn devices_by_extension(&self, _: PbxId, extension: &str) -> SmallVec<[DeviceId; 2]> {
        self.by_extension.get(extension).cloned().unwrap_or_default()
    }

    fn device(&self, id: DeviceId) -> Option<DeviceFacts> {
        self.phones.get(&id).map(|phone| DeviceFacts {
            account: ACCOUNT,
            pbx: PBX,
            extension: phone.extension().into(),
            label: phone.label.clone(),
            enabled: phone.enabled,
        })
    }

    fn device_is_at(&self, id: DeviceId, address: IpAddr) -> Option<bool> {
        self.phones.get(&id)?.is_at(address)
    }

    fn linked_users(&self, device: DeviceId) -> SmallVec<[UserId; 4]> {
        self.linked.get(&device).cloned().unwrap_or_default()
    }

    fn linked_devices(&self, user: UserId) -> SmallVec<[DeviceId; 4]> {
        let from = (user, DeviceId(Uuid::nil()));
        self.links.range(from..).take_while(|(linked, _)| *linked == user).map(|(_, device)| *device).collect()
    }

    fn user(&self, id: UserId) -> Option<UserFacts> {
        let user = self.users.get(&id)?;
        let (enabled, dnd, pop_on) = (user.enabled, user.dnd, user.pop_on);
        Some(UserFacts { account: ACCOUNT, enabled, dnd, pop_on, queues: self.queues_of(user) })
    }

    fn users_of_queue(&self, queue: QueueId) -> SmallVec<[UserId; 4]> {
        let holds = |user: &&User| self.queues_of(user).contains(&queue);
        self.users.values().filter(holds).map(|user| user.id).collect()
    }

    fn queue(&self, id: QueueId) -> Option<Arc<Queue>> {
        self.queues.get(&id).cloned()
    }

    fn queue_by_name(&self, _: PbxId, name: &str) -> Option<QueueId> {
        self.queues.values().find(|queue| queue.name.eq_ignore_ascii_case(name)).map(|queue| queue.id)
    }

    fn queue_by_number(&self, _: PbxId, number: &str) -> Option<QueueId> {
        self.queues.values().find(|queue| queue.number.as_deref() == Some(number)).map(|queue| queue.id)
    }

    fn is_queue_member(&self, device: DeviceId) -> bool {
        self.queues.values().any(|queue| queue.members.iter().any(|member| member.device == device))
    }

    /// Nobody watches a replay; offers are made all the same.
    fn sessions(&self, _: UserId) -> u32 {
        1
    }
}

fn contact_key(contact: &str) -> Option<ContactKey> {
    Uri::parse(contact).ok().map(|uri| uri.key())
}

pub(super) const ACCOUNT: AccountId = AccountId(Uuid::from_u128(0x6163_636f_756e_8000_8000_0000_0000_0001));
pub(super) const PBX: PbxId = PbxId(Uuid::from_u128(0x7062_7800_0000_8000_8000_0000_0000_0001));
const SITE: SiteId = SiteId(Uuid::from_u128(0x7369_7465_0000_8000_8000_0000_0000_0001));
/// As for the PBX that the daemon makes at its first start.
const GRACE_S: u32 = 300;
const GRACE_MS: u64 = 300_000;
pub(super) const EXPIRES_MAX_S: u32 = 3_600;
const DEVICES_MAX: usize = 1_000_000;
