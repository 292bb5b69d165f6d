//! The lists of phones a snapshot brings: endpoints, contacts, and the peers of `chan_sip`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::super::message::Message;
use super::phones::{CONTACTS_MAX, described, peer_contact};
use super::{Decoder, Output};
use crate::registry::ReportedContact;

/// Lists as they come in.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// Names of endpoints, with their address-of-record and whether they log in somewhere.
    endpoints: Vec<(String, String, bool)>,
    contacts: BTreeMap<String, Vec<ReportedContact>>,
    peers: BTreeMap<String, Vec<ReportedContact>>,
    /// What there is of `chan_pjsip`, and of `chan_sip`.
    pjsip: Source,
    sip: Source,
    /// What has come was reported, and the lists are empty since.
    told: bool,
    entries: usize,
}

/// Whether one of the two SIP stacks has told everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Source {
    /// Not yet.
    #[default]
    Awaited,
    /// It has.
    Listed,
    /// There is no such stack.
    Absent,
    /// We are not let, or its version has no such list.
    Hidden,
}

impl Lists {
    /// New lists are coming. A stack that was not there will not be waited for.
    pub fn begin(&mut self) {
        let absent = |source| if source == Source::Absent { source } else { Source::Awaited };
        *self = Self { pjsip: absent(self.pjsip), sip: absent(self.sip), ..Self::default() };
    }

    fn room(&mut self) -> bool {
        self.entries += 1;
        self.entries <= ENTRIES_MAX
    }
}

impl Decoder {
    pub(super) fn on_phone_list(&mut self, event: &str, message: &Message, out: &mut Vec<Output>) {
        let name = message.text("ObjectName");
        match (event, name) {
            ("EndpointList" | "AorList" | "ContactList" | "PeerEntry", Some(_)) if !self.phones.lists.room() => {
                self.dropped.list_entries += 1;
            }
            ("EndpointList", Some(name)) => {
                let aor = message.text("Aor").and_then(|aors| aors.split(',').next()).unwrap_or_default().trim();
                let logs_in = message.text("OutboundAuths").is_some();
                self.phones.lists.endpoints.push((name.to_owned(), aor.to_owned(), logs_in));
            }
            ("AorList", Some(name)) if message.number::<u32>("MaxContacts") == Some(0) => {
                self.phones.fixed.insert(name.to_owned());
            }
            ("AorList", Some(name)) => {
                self.phones.fixed.remove(name);
            }
            ("ContactList", Some(name)) => self.on_listed_contact(name, message),
            ("PeerEntry", Some(name)) => self.on_listed_peer(name, message),
            ("EndpointListComplete", _) => self.on_endpoints(),
            ("ContactListComplete", _) => self.pjsip_listed(out),
            ("PeerlistComplete", _) => {
                self.phones.peers = self.phones.lists.peers.keys().cloned().collect();
                self.phones.lists.sip = Source::Listed;
                self.phones_listed(out);
            }
            _ => {}
        }
    }

    fn on_listed_contact(&mut self, name: &str, message: &Message) {
        let Some(uri) = message.text("Uri") else { return };
        // A registered contact is called AOR;@HASH, one that stands in the configuration AOR@@HASH.
        let Some((user, _)) = name.split_once(";@") else {
            if let Some((user, _)) = name.split_once("@@") {
                self.phones.fixed.insert(user.to_owned());
            }
            return;
        };
        let expires_at = message.number::<i64>("ExpirationTime").filter(|at| *at > 0).map(|at| self.expiry(at));
        let via = message.text("ViaAddr").and_then(|via| via.trim_matches(['[', ']']).parse::<IpAddr>().ok());
        let received = via.zip(message.number::<u16>("ViaPort")).map(SocketAddr::from);
        let contacts = self.phones.lists.contacts.entry(user.to_owned()).or_default();
        if contacts.len() >= CONTACTS_MAX {
            self.dropped.list_entries += 1;
            return;
        }
        contacts.push(ReportedContact { expires_at, received, ..described(uri, message) });
    }

    fn on_listed_peer(&mut self, name: &str, message: &Message) {
        if message.flag("Dynamic") != Some(true) {
            self.phones.fixed.insert(name.to_owned());
            return;
        }
        let contacts = self.phones.lists.peers.entry(name.to_owned()).or_default();
        let ip = message.either(&["IPaddress", "IPAddress"]).and_then(|ip| ip.parse::<IpAddr>().ok());
        let Some(address) = ip.zip(message.number::<u16>("IPport")).map(SocketAddr::from) else { return };
        let status = message.text("Status").unwrap_or_default();
        let reachable = match status.split(' ').next() {
            Some("OK" | "LAGGED") => Some(true),
            Some("UNREACHABLE") => Some(false),
            _ => None,
        };
        let milliseconds = status.split_once('(').and_then(|(_, rest)| rest.split(' ').next()?.parse::<u32>().ok());
        let rtt_us = milliseconds.and_then(|ms| ms.checked_mul(1000));
        contacts.push(ReportedContact { rtt_us, reachable, ..peer_contact(name, address) });
    }

    fn on_endpoints(&mut self) {
        let named = self.phones.lists.endpoints.iter().filter(|(name, aor, _)| !aor.is_empty() && name != aor);
        self.phones.user_of = named.map(|(name, aor, _)| (name.clone(), aor.clone())).collect();
    }

    /// The list of `chan_pjsip`'s contacts is complete, if only because there are none.
    pub(super) fn pjsip_listed(&mut self, out: &mut Vec<Output>) {
        self.phones.lists.pjsip = Source::Listed;
        self.phones_listed(out);
    }

    /// A list was refused: because its stack is not there, or because we may not see it.
    pub(super) fn list_refused(&mut self, step: &str, unknown: bool, out: &mut Vec<Output>) {
        let source = if unknown { Source::Absent } else { Source::Hidden };
        match step {
            // Without endpoints there is no chan_pjsip; without its list of contacts it is an old one.
            "endpoints" => self.phones.lists.pjsip = source,
            "contacts" if self.phones.lists.pjsip != Source::Absent => {
                self.phones.lists.pjsip = Source::Hidden;
                if unknown {
                    self.ask_each_endpoint(out);
                }
            }
            "peers" => self.phones.lists.sip = source,
            _ => return,
        }
        self.phones_listed(out);
    }

    /// Before 16 contacts are told with their endpoint only.
    fn ask_each_endpoint(&mut self, out: &mut Vec<Output>) {
        let names: Vec<String> = self.phones.lists.endpoints.iter().map(|(name, _, _)| name.clone()).collect();
        for name in names {
            self.ask_endpoint(&name, out);
        }
    }

    /// With both stacks heard, what they listed is all there is. Once a snapshot: a stack that is known to be absent is not
    /// waited for, and its refusal comes all the same.
    fn phones_listed(&mut self, out: &mut Vec<Output>) {
        let lists = &mut self.phones.lists;
        if lists.pjsip == Source::Awaited || lists.sip == Source::Awaited || lists.told {
            return;
        }
        lists.told = true;
        let lists = &self.phones.lists;
        let phones =
            lists.endpoints.iter().filter(|(_, aor, out)| !aor.is_empty() && !out && !self.phones.fixed.contains(aor));
        let mut users: BTreeSet<String> = phones.map(|(_, aor, _)| aor.clone()).collect();
        users.extend(lists.peers.keys().cloned());
        if !users.is_empty() {
            out.push(Output::Endpoints(users.into_iter().collect()));
        }
        let all = lists.pjsip != Source::Hidden && lists.sip != Source::Hidden;
        let mut contacts = std::mem::take(&mut self.phones.lists.contacts);
        contacts.append(&mut std::mem::take(&mut self.phones.lists.peers));
        contacts.retain(|user, contacts| !contacts.is_empty() && !self.phones.fixed.contains(user));
        if all {
            self.phones.bound = contacts.keys().cloned().collect();
            out.push(Output::AllContacts(contacts.into_iter().collect()));
        } else {
            for (user, contacts) in contacts {
                self.report_contacts(user, contacts, out);
            }
        }
    }
}

/// Most entries of all lists of phones together.
const ENTRIES_MAX: usize = 200_000;
