//! Which PBX a packet's sender belongs to.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use crate::model::{Network, PbxId};
use crate::registry::Registry;

/// PBXs by the networks their SIP comes from, parsed once a change of any PBX and not once a message.
pub(super) struct Peers {
    registry: Arc<Registry>,
    table: RwLock<Arc<Table>>,
}

struct Table {
    /// [`crate::registry::Table::version`] of the PBXs it was made from.
    version: u64,
    /// Longest prefix first: of two ranges that hold an address, the narrower one knows it better.
    networks: Vec<(Network, PbxId)>,
    /// By name in lower case.
    names: Vec<(String, PbxId)>,
    /// The oldest PBX of all; what `[listeners]` without `pbx` falls back to.
    default: Option<PbxId>,
}

impl Peers {
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        let table = RwLock::new(Arc::new(Table::read(&registry)));
        Self { registry, table }
    }

    /// The PBX whose networks hold `address`.
    pub(super) fn claimed(&self, address: IpAddr) -> Option<PbxId> {
        self.table().claimed(address)
    }

    /// The PBX whose networks hold `address`, else the one called `name`, else, when no name is given, the default one.
    pub(super) fn pbx_of(&self, address: IpAddr, name: Option<&str>) -> Option<PbxId> {
        let table = self.table();
        table.claimed(address).or_else(|| table.named(name))
    }

    /// The PBX called `name`; without a name the default one.
    pub(super) fn named(&self, name: Option<&str>) -> Option<PbxId> {
        self.table().named(name)
    }

    fn table(&self) -> Arc<Table> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner).clone();
        if table.version == self.registry.pbxs.version() {
            return table;
        }
        let fresh = Arc::new(Table::read(&self.registry));
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = fresh.clone();
        fresh
    }
}

impl Table {
    fn claimed(&self, address: IpAddr) -> Option<PbxId> {
        self.networks.iter().find(|(network, _)| network.contains(address)).map(|(_, pbx)| *pbx)
    }

    fn named(&self, name: Option<&str>) -> Option<PbxId> {
        let Some(name) = name else { return self.default };
        self.names.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, pbx)| *pbx)
    }

    fn read(registry: &Registry) -> Self {
        // Read before the rows: a change in between makes the next look-up read them again.
        let version = registry.pbxs.version();
        let mut pbxs = registry.pbxs.all();
        pbxs.sort_by_key(|pbx| (pbx.value.created_at, pbx.value.id));
        let mut networks: Vec<_> = pbxs
            .iter()
            .flat_map(|pbx| pbx.value.networks.iter().filter_map(|text| Some((text.parse().ok()?, pbx.value.id))))
            .collect();
        networks.sort_by_key(|(network, _): &(Network, _)| std::cmp::Reverse(network.prefix()));
        Self {
            version,
            networks,
            names: pbxs.iter().map(|pbx| (pbx.value.name.clone(), pbx.value.id)).collect(),
            default: pbxs.first().map(|pbx| pbx.value.id),
        }
    }
}
