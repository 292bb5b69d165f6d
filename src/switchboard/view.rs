//! What the switchboard may ask about the world. The registry answers; tests answer from a table.

use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::model::{Account, AccountId, ContactKey, DeviceId, Pbx, PbxId, PopOn, Queue, QueueId, UserId};

/// Read-only questions, each answered from memory at once. An implementation must not block.
pub trait View {
    /// The PBX with this id.
    fn pbx(&self, id: PbxId) -> Option<Arc<Pbx>>;
    /// Whether a connector of this PBX is up: it knows the PBX's channels, so SIP legs wait to be told which one they are.
    fn is_led(&self, pbx: PbxId) -> bool;
    /// The account with this id.
    fn account(&self, id: AccountId) -> Option<Arc<Account>>;
    /// Devices of this PBX with a live or stale binding whose contact URI has this user, host and port.
    fn devices_by_contact(&self, pbx: PbxId, contact: &ContactKey) -> SmallVec<[DeviceId; 2]>;
    /// The device with this address-of-record; `host` must be the PBX's domain, an alias, or covered by `any_domain`.
    fn device_by_aor(&self, pbx: PbxId, user: &str, host: &str) -> Option<DeviceId>;
    /// Devices of this PBX whose extension (or, without one, user part) is `extension`.
    fn devices_by_extension(&self, pbx: PbxId, extension: &str) -> SmallVec<[DeviceId; 2]>;
    /// What routing needs to know about a device.
    fn device(&self, id: DeviceId) -> Option<DeviceFacts>;
    /// Whether a binding of this device was received from, or names as its host, this address; `None` when the device
    /// has no binding with a known address.
    fn device_is_at(&self, id: DeviceId, address: IpAddr) -> Option<bool>;
    /// Users linked to this device now, ordered by id.
    fn linked_users(&self, device: DeviceId) -> SmallVec<[UserId; 4]>;
    /// Devices linked to this user now, ordered by id.
    fn linked_devices(&self, user: UserId) -> SmallVec<[DeviceId; 4]>;
    /// What routing needs to know about a user.
    fn user(&self, id: UserId) -> Option<UserFacts>;
    /// Users whose (effective) queues hold this queue, ordered by id.
    fn users_of_queue(&self, queue: QueueId) -> SmallVec<[UserId; 4]>;
    /// The queue with this id.
    fn queue(&self, id: QueueId) -> Option<Arc<Queue>>;
    /// The queue of this name (compared without case) on this PBX.
    fn queue_by_name(&self, pbx: PbxId, name: &str) -> Option<QueueId>;
    /// The queue with this number on this PBX.
    fn queue_by_number(&self, pbx: PbxId, number: &str) -> Option<QueueId>;
    /// Whether this device is a member of any queue.
    fn is_queue_member(&self, device: DeviceId) -> bool;
    /// How many sessions this user has connected.
    fn sessions(&self, user: UserId) -> u32;
}

/// What routing needs to know about a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFacts {
    /// Its account.
    pub account: AccountId,
    /// Its PBX.
    pub pbx: PbxId,
    /// Its extension, or user part when it has none.
    pub extension: Box<str>,
    /// Its label.
    pub label: Option<Box<str>>,
    /// Whether it takes part in popups.
    pub enabled: bool,
}

/// What routing needs to know about a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserFacts {
    /// Their account.
    pub account: AccountId,
    /// Popups on.
    pub enabled: bool,
    /// Do not disturb.
    pub dnd: bool,
    /// When direct calls pop.
    pub pop_on: PopOn,
    /// The queues whose calls notify before answer: as set, or following the PBX when the account says so.
    pub queues: SmallVec<[QueueId; 4]>,
}
