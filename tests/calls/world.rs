//! A small office in a table: what the switchboard may ask, answered without a registry.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use hookswitch::model::*;
use hookswitch::switchboard::{DeviceFacts, UserFacts, View};
use smallvec::SmallVec;
use uuid::Uuid;

pub const ACCOUNT: AccountId = AccountId(Uuid::from_u128(1));
pub const PBX: PbxId = PbxId(Uuid::from_u128(2));
pub const SITE: SiteId = SiteId(Uuid::from_u128(3));

#[derive(Clone)]
pub struct Phone {
    pub extension: &'static str,
    pub contact: ContactKey,
    pub received: Option<IpAddr>,
    pub enabled: bool,
}

#[derive(Clone)]
pub struct World {
    pub account: Account,
    pub pbx: Pbx,
    pub phones: BTreeMap<DeviceId, Phone>,
    pub users: BTreeMap<UserId, UserFacts>,
    pub links: Vec<(UserId, DeviceId)>,
    pub queues: BTreeMap<QueueId, Queue>,
    pub sessions: u32,
    /// A connector of the PBX is up.
    pub led: bool,
    /// Phones of other tenants of the PBX.
    pub tenants: BTreeMap<DeviceId, AccountId>,
}

impl World {
    /// An empty office whose extensions have three digits.
    pub fn new() -> Self {
        let account = Account {
            id: ACCOUNT,
            parent: None,
            name: "office".into(),
            domains: Vec::new(),
            number_plan: NumberPlan { internal_lengths: vec![3], ..NumberPlan::default() },
            settings: AccountSettings::default(),
            created_at: UnixMillis(0),
        };
        let pbx = Pbx {
            id: PBX,
            account: ACCOUNT,
            site: SITE,
            name: "pbx".into(),
            domain: "pbx.example".into(),
            aliases: Vec::new(),
            any_domain: true,
            networks: Vec::new(),
            passive_expires_max_s: 3600,
            passive_grace_s: 600,
            queue_rules: Vec::new(),
            control: false,
            created_at: UnixMillis(0),
        };
        Self {
            account,
            pbx,
            phones: BTreeMap::new(),
            users: BTreeMap::new(),
            links: Vec::new(),
            queues: BTreeMap::new(),
            sessions: 1,
            led: false,
            tenants: BTreeMap::new(),
        }
    }

    /// Adds a phone bound at `sip:EXTENSION-x@192.0.2.EXTENSION:5060`.
    pub fn phone(&mut self, extension: &'static str) -> DeviceId {
        let id = device(extension);
        let (user, host) = (format!("{extension}-x"), phone_host(extension));
        let contact = ContactKey { user: user.into(), host: host.clone().into(), port: Some(5060) };
        let received = host.parse().ok();
        self.phones.insert(id, Phone { extension, contact, received, enabled: true });
        id
    }

    /// Adds an enabled user linked to these phones.
    pub fn user(&mut self, number: u128, devices: &[DeviceId]) -> UserId {
        let id = UserId(Uuid::from_u128(1000 + number));
        let queues = SmallVec::new();
        let facts = UserFacts { account: ACCOUNT, enabled: true, dnd: false, pop_on: PopOn::Ring, queues };
        self.users.insert(id, facts);
        self.links.extend(devices.iter().map(|device| (id, *device)));
        id
    }

    /// Adds a queue with these members; `X-Queue: NAME` and its number show it.
    pub fn queue(&mut self, name: &str, number: &str, members: &[DeviceId]) -> QueueId {
        let id = QueueId(Uuid::from_u128(2000 + self.queues.len() as u128));
        let members = members.iter().map(|device| Member::manual(*device, false, None, UnixMillis(0))).collect();
        let (name, number) = (name.to_owned(), Some(number.to_owned()));
        let created_at = UnixMillis(0);
        self.queues.insert(
            id,
            Queue {
                id,
                account: ACCOUNT,
                pbx: PBX,
                name,
                number,
                members,
                reported: false,
                absent_since: None,
                created_at,
            },
        );
        if self.pbx.queue_rules.is_empty() {
            self.pbx.queue_rules.push(QueueRule::Header { name: "X-Queue".into(), value: None, queue: None });
        }
        id
    }

    pub fn facts(&mut self, user: UserId) -> &mut UserFacts {
        self.users.get_mut(&user).expect("the test made this user")
    }
}

/// The id of the phone with this extension.
pub fn device(extension: &str) -> DeviceId {
    DeviceId::derive(ACCOUNT, PBX, extension)
}

/// Where the phone with this extension lives.
pub fn phone_host(extension: &str) -> String {
    format!("192.0.2.{}", extension.parse::<u32>().expect("a number") % 250)
}

impl View for World {
    fn is_led(&self, _pbx: PbxId) -> bool {
        self.led
    }

    fn pbx(&self, id: PbxId) -> Option<Arc<Pbx>> {
        (id == PBX).then(|| Arc::new(self.pbx.clone()))
    }

    fn account(&self, id: AccountId) -> Option<Arc<Account>> {
        let known = id == ACCOUNT || self.tenants.values().any(|tenant| *tenant == id);
        known.then(|| Arc::new(Account { id, ..self.account.clone() }))
    }

    fn devices_by_contact(&self, _: PbxId, contact: &ContactKey) -> SmallVec<[DeviceId; 2]> {
        self.phones.iter().filter(|(_, phone)| phone.contact == *contact).map(|(id, _)| *id).collect()
    }

    fn device_by_aor(&self, _: PbxId, user: &str, host: &str) -> Option<DeviceId> {
        let ours = host.is_empty() || host == "pbx.example" || host.parse::<IpAddr>().is_ok();
        (ours && self.phones.contains_key(&device(user))).then(|| device(user))
    }

    fn devices_by_extension(&self, _: PbxId, extension: &str) -> SmallVec<[DeviceId; 2]> {
        self.phones.iter().filter(|(_, phone)| phone.extension == extension).map(|(id, _)| *id).collect()
    }

    fn device(&self, id: DeviceId) -> Option<DeviceFacts> {
        let phone = self.phones.get(&id)?;
        let (extension, enabled) = (phone.extension.into(), phone.enabled);
        let account = self.tenants.get(&id).copied().unwrap_or(ACCOUNT);
        Some(DeviceFacts { account, pbx: PBX, extension, label: None, enabled })
    }

    fn device_is_at(&self, id: DeviceId, address: IpAddr) -> Option<bool> {
        Some(self.phones.get(&id)?.received? == address)
    }

    fn linked_users(&self, device: DeviceId) -> SmallVec<[UserId; 4]> {
        self.links.iter().filter(|(_, d)| *d == device).map(|(user, _)| *user).collect()
    }

    fn linked_devices(&self, user: UserId) -> SmallVec<[DeviceId; 4]> {
        self.links.iter().filter(|(u, _)| *u == user).map(|(_, device)| *device).collect()
    }

    fn user(&self, id: UserId) -> Option<UserFacts> {
        self.users.get(&id).cloned()
    }

    fn users_of_queue(&self, queue: QueueId) -> SmallVec<[UserId; 4]> {
        self.users.iter().filter(|(_, facts)| facts.queues.contains(&queue)).map(|(id, _)| *id).collect()
    }

    fn queue(&self, id: QueueId) -> Option<Arc<Queue>> {
        self.queues.get(&id).cloned().map(Arc::new)
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

    fn sessions(&self, _: UserId) -> u32 {
        self.sessions
    }
}
