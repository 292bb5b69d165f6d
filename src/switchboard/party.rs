//! Who calls and who is called, as one leg tells it.

use std::sync::Arc;

use super::identity::Identity;
use super::number::{CompiledPlan, Number, NumberClass};
use super::{View, queue};
use crate::model::{AccountId, DeviceId, LegRole, LegStart, Party, PbxId, QueueId};

/// What one leg says about its call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub role: LegRole,
    pub caller: Arc<Party>,
    pub callee: Arc<Party>,
    pub queue: Option<QueueId>,
    /// The leg is the caller's own dial of a queue number: the call joins that queue now.
    pub joins_queue: bool,
}

/// Reads caller, callee and queue off a leg. On a PBX that several tenants share, devices and queues of others than
/// `tenant` are not known to the leg; none = whose it is does not show yet.
pub(super) fn read(
    view: &dyn View,
    plan: &CompiledPlan,
    pbx: PbxId,
    identity: Identity,
    tenant: Option<AccountId>,
    start: &LegStart,
) -> Reading {
    let found = queue::recognise(view, pbx, identity.role, tenant, start);
    let near = Near { view, plan, pbx, tenant };
    let (caller, callee) = match identity.role {
        LegRole::FromDevice => (device_party(view, identity.device, &start.caller.name), near.dialled(start)),
        LegRole::TrunkIn => {
            let callee = Party { external: false, ..near.dialled(start) };
            (near.caller(start, found.name.as_deref()), callee)
        }
        LegRole::ToDevice => {
            let callee = device_party(view, identity.device, "");
            (near.caller(start, found.name.as_deref()), callee)
        }
        LegRole::TrunkOut | LegRole::Ambiguous => (near.caller(start, found.name.as_deref()), near.dialled(start)),
    };
    Reading {
        role: identity.role,
        caller: caller.into(),
        callee: callee.into(),
        queue: found.queue,
        joins_queue: found.joins,
    }
}

fn device_party(view: &dyn View, device: Option<DeviceId>, name: &str) -> Party {
    let facts = device.and_then(|device| view.device(device));
    let label = facts.as_ref().and_then(|facts| facts.label.as_deref());
    let name = label.or(Some(name).filter(|name| !name.is_empty()));
    Party {
        number: facts.as_ref().map(|facts| facts.extension.to_string()),
        name: name.map(str::to_owned),
        withheld: false,
        external: false,
        device,
    }
}

/// Where the names on a leg are looked up.
struct Near<'a> {
    view: &'a dyn View,
    plan: &'a CompiledPlan,
    pbx: PbxId,
    tenant: Option<AccountId>,
}

impl Near<'_> {
    /// The calling party of a leg that no known device sent.
    fn caller(&self, start: &LegStart, name: Option<&str>) -> Party {
        if start.caller.withheld {
            return Party { withheld: true, external: true, ..Party::default() };
        }
        let number = self.plan.read(&start.caller.number);
        let device = self.device(&number);
        let name = name.unwrap_or(&start.caller.name);
        Party {
            external: device.is_none() && matches!(number.class, NumberClass::External | NumberClass::Name),
            number: (!number.text.is_empty()).then_some(number.text),
            name: (!name.is_empty()).then(|| name.to_owned()),
            withheld: false,
            device,
        }
    }

    /// The called party by what was dialled.
    fn dialled(&self, start: &LegStart) -> Party {
        let number = self.plan.read_dialled(&start.target.user);
        let device = self.device(&number);
        Party {
            external: device.is_none() && number.class == NumberClass::External,
            number: (!number.text.is_empty()).then_some(number.text),
            name: None,
            withheld: false,
            device,
        }
    }

    /// The only device with this extension.
    fn device(&self, number: &Number) -> Option<DeviceId> {
        if !matches!(number.class, NumberClass::Internal | NumberClass::Name) {
            return None;
        }
        let mut devices = self.view.devices_by_extension(self.pbx, &number.text);
        if let Some(tenant) = self.tenant {
            devices.retain(|device| self.view.device(*device).is_some_and(|facts| facts.account == tenant));
        }
        match *devices {
            [device] => Some(device),
            _ => None,
        }
    }
}
