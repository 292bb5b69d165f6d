//! A device as the API shows it.

use std::net::SocketAddr;

use serde::Serialize;
use utoipa::ToSchema;

use super::state::AppState;
use crate::model::{AccountId, Aor, DeviceId, DeviceState, PbxId, UnixMillis, UserId};
use crate::registry::DeviceView;
use crate::store::Seq;

/// A phone.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Device)]
pub struct DeviceAnswer {
    /// Its id, always the same for the same phone of the same PBX.
    pub id: DeviceId,
    /// The account it belongs to.
    pub account: AccountId,
    /// The PBX it registers to.
    pub pbx: PbxId,
    /// Its address-of-record.
    pub aor: Option<Aor>,
    /// The number colleagues dial.
    #[schema(value_type = String)]
    pub extension: Box<str>,
    /// A name a person can recognise.
    #[schema(value_type = Option<String>)]
    pub label: Option<Box<str>>,
    /// The number its calls show, served to the PBX as part of the profile.
    #[schema(value_type = Option<String>)]
    pub caller_id: Option<Box<str>>,
    /// A disabled device takes no part in popups.
    pub enabled: bool,
    /// It had a call to or from an external number.
    pub assignable: bool,
    /// What its bindings and its switch say.
    pub state: DeviceState,
    /// Where its freshest binding was heard from.
    #[schema(value_type = Option<String>, example = "192.0.2.7:5060")]
    pub address: Option<SocketAddr>,
    /// User agent of its freshest binding.
    #[schema(value_type = Option<String>)]
    pub user_agent: Option<std::sync::Arc<str>>,
    /// When its SIP password was set; without one nobody can register it where a password is asked for.
    pub secret_set_at: Option<UnixMillis>,
    /// How many bindings it has, stale ones too.
    pub bindings: usize,
    /// The last external number it spoke with or was rung by.
    #[schema(value_type = Option<String>)]
    pub last_caller: Option<Box<str>>,
    /// When it last rang, placed a call or registered.
    pub last_seen_at: UnixMillis,
    /// When it first appeared.
    pub created_at: UnixMillis,
    /// The users it is linked to now.
    pub users: Vec<LinkedUser>,
}

/// A user a device is linked to.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LinkedUser {
    /// The user.
    pub id: UserId,
    /// What colleagues call them.
    pub name: String,
    /// Their address.
    pub email: Option<String>,
    /// Since when.
    pub since: UnixMillis,
}

impl DeviceAnswer {
    /// The device with what the registry knows about it, and the newest change that this shows.
    #[must_use]
    pub fn of(state: &AppState, view: &DeviceView) -> (Self, Seq) {
        let DeviceView { device, state: shown, bindings, awaits, .. } = view;
        let pbx = state.registry.pbxs.get(device.pbx);
        let links = state.registry.links_of_device(device.id);
        // After the links were read: one that ends meanwhile makes the answer wait for nothing that it does not show.
        let mut awaits = state.registry.links_await(device.id).max(*awaits);
        awaits = pbx.as_ref().map_or(awaits, |pbx| awaits.max(pbx.seq));
        let secret = state.registry.secret_set_at(device.id);
        awaits = secret.map_or(awaits, |(_, seq)| awaits.max(seq));
        let users = links.iter().filter_map(|link| {
            let stored = state.registry.users.get(link.value.user)?;
            awaits = awaits.max(stored.seq);
            let user = &stored.value;
            Some(LinkedUser {
                id: user.id,
                name: user.name.clone(),
                email: user.email.clone(),
                since: link.value.began_at,
            })
        });
        let users = users.collect();
        let answer = Self {
            id: device.id,
            account: device.account,
            pbx: device.pbx,
            aor: pbx.map(|pbx| Aor::new(&device.user, &pbx.value.domain)),
            extension: device.extension.clone().unwrap_or_else(|| device.user.as_ref().into()),
            label: device.label.clone(),
            caller_id: device.caller_id.clone(),
            enabled: device.enabled,
            assignable: device.assignable,
            state: *shown,
            address: bindings.address,
            user_agent: bindings.user_agent.clone(),
            secret_set_at: secret.map(|(at, _)| at),
            bindings: bindings.count,
            last_caller: device.last_caller.clone(),
            last_seen_at: bindings.refreshed_at.map_or(device.last_seen_at, |at| at.max(device.last_seen_at)),
            created_at: device.created_at,
            users,
        };
        (answer, awaits)
    }
}
