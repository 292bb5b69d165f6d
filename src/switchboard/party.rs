//! Who calls and who is called, as one leg tells it.

use super::identity::Identity;
use super::number::{CompiledPlan, Number, NumberClass};
use super::{View, queue};
use crate::model::{DeviceId, LegRole, LegStart, Party, PbxId, QueueId};

/// What one leg says about its call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub role: LegRole,
    pub caller: Party,
    pub callee: Party,
    pub queue: Option<QueueId>,
    /// The leg is the caller's own dial of a queue number: the call joins that queue now.
    pub joins_queue: bool,
}

/// Reads caller, callee and queue off a leg.
pub(super) fn read(view: &dyn View, plan: &CompiledPlan, pbx: PbxId, identity: Identity, start: &LegStart) -> Reading {
    let found = queue::recognise(view, pbx, identity.role, start);
    let (caller, callee) = match identity.role {
        LegRole::FromDevice => {
            (device_party(view, identity.device, &start.caller.name), dialled(view, plan, pbx, start))
        }
        LegRole::TrunkIn => {
            let callee = Party { external: false, ..dialled(view, plan, pbx, start) };
            (caller(view, plan, pbx, start, found.name.as_deref()), callee)
        }
        LegRole::ToDevice => {
            let callee = device_party(view, identity.device, "");
            (caller(view, plan, pbx, start, found.name.as_deref()), callee)
        }
        LegRole::TrunkOut | LegRole::Ambiguous => {
            (caller(view, plan, pbx, start, found.name.as_deref()), dialled(view, plan, pbx, start))
        }
    };
    Reading { role: identity.role, caller, callee, queue: found.queue, joins_queue: found.joins }
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

/// The calling party of a leg that no known device sent.
fn caller(view: &dyn View, plan: &CompiledPlan, pbx: PbxId, start: &LegStart, name: Option<&str>) -> Party {
    if start.caller.withheld {
        return Party { withheld: true, external: true, ..Party::default() };
    }
    let number = plan.read(&start.caller.number);
    let device = inside(&number).then(|| view.devices_by_extension(pbx, &number.text)).and_then(|d| only(&d));
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
fn dialled(view: &dyn View, plan: &CompiledPlan, pbx: PbxId, start: &LegStart) -> Party {
    let number = plan.read_dialled(&start.target.user);
    let device = inside(&number).then(|| view.devices_by_extension(pbx, &number.text)).and_then(|d| only(&d));
    Party {
        external: device.is_none() && number.class == NumberClass::External,
        number: (!number.text.is_empty()).then_some(number.text),
        name: None,
        withheld: false,
        device,
    }
}

fn inside(number: &Number) -> bool {
    matches!(number.class, NumberClass::Internal | NumberClass::Name)
}

fn only(devices: &[DeviceId]) -> Option<DeviceId> {
    match devices {
        [device] => Some(*device),
        _ => None,
    }
}
