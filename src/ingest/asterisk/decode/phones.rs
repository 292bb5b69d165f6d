//! Contacts and device states: which phones are there.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use super::super::message::Message;
use super::name::ChannelName;
use super::{Decoder, Output};
use crate::model::{Transport, UnixMillis};
use crate::registry::ReportedContact;

/// What is known of phones, and the lists that are coming in.
#[derive(Debug, Default)]
pub(super) struct Phones {
    /// Address-of-record of each endpoint whose name is another.
    user_of: HashMap<String, String>,
    /// Addresses-of-record nobody can register under: trunks.
    fixed: HashSet<String>,
    /// Users that had a contact when we last heard.
    bound: BTreeSet<String>,
    /// Endpoints whose details were asked and have not come yet.
    pub asked: HashSet<String>,
    /// Endpoints of the list that is coming in, with their addresses-of-record and whether they log in somewhere.
    endpoints: Vec<(String, String, bool)>,
    contacts: BTreeMap<String, Vec<ReportedContact>>,
    /// Contacts of the one endpoint whose details are coming in.
    details: BTreeMap<String, Vec<ReportedContact>>,
    peers: BTreeMap<String, Vec<ReportedContact>>,
    /// Users whose phones are `chan_sip`'s.
    peers_known: HashSet<String>,
    listed: usize,
}

impl Phones {
    /// The user part of an endpoint's device.
    pub fn user_of<'a>(&'a self, endpoint: &'a str) -> &'a str {
        self.user_of.get(endpoint).map_or(endpoint, String::as_str)
    }

    /// How a user's phone is called.
    pub fn interface(&self, user: &str) -> String {
        if self.peers_known.contains(user) {
            return format!("SIP/{user}");
        }
        let endpoint = self.user_of.iter().find(|(_, aor)| *aor == user).map_or(user, |(endpoint, _)| endpoint);
        format!("PJSIP/{endpoint}")
    }

    /// Whether its details are worth asking: they are not on their way already.
    pub fn may_ask(&mut self, endpoint: &str) -> bool {
        self.asked.len() < ASKED_MAX && self.asked.insert(endpoint.to_owned())
    }

    pub fn forget_lists(&mut self) {
        self.asked.clear();
        self.endpoints.clear();
        self.contacts.clear();
        self.details.clear();
        self.peers.clear();
        self.listed = 0;
    }

    /// The first names of endpoints that have a contact and are no trunk, for versions that list no contacts.
    pub fn endpoints_to_ask(&self) -> Vec<String> {
        let mut known: Vec<String> = self.user_of.keys().cloned().collect();
        known.extend(self.bound.iter().cloned());
        known
    }

    fn room(&mut self) -> bool {
        self.listed += 1;
        self.listed <= LISTED_MAX
    }
}

impl Decoder {
    pub(super) fn on_contact_event(&mut self, event: &str, message: &Message, out: &mut Vec<Output>) {
        match event {
            "ContactStatus" => self.on_contact_status(message, out),
            "ContactStatusDetail" => self.on_contact_detail(message),
            _ => {
                if let Some(id) = message.text("ActionID").and_then(|id| id.strip_prefix(super::ask::ENDPOINT)) {
                    self.phones.asked.remove(id);
                }
                for (user, contacts) in std::mem::take(&mut self.phones.details) {
                    self.report_contacts(user, contacts, out);
                }
            }
        }
    }

    fn on_contact_status(&mut self, message: &Message, out: &mut Vec<Output>) {
        let (Some(user), Some(uri)) = (message.text("AOR"), message.text("URI")) else { return };
        if self.phones.fixed.contains(user) {
            return;
        }
        let (user, uri) = (user.to_owned(), uri.to_owned());
        let status = message.text("ContactStatus").or_else(|| message.text("Status")).unwrap_or_default();
        if status.eq_ignore_ascii_case("Removed") {
            out.push(Output::ContactGone { user, uri });
            return;
        }
        let (reachable, rtt_us) = (reachable(status), round_trip(message));
        if !self.phones.bound.contains(&user) || reachable.is_none() {
            // It is new, or was refreshed. Until when it holds, only its details tell.
            if self.phones.bound.contains(&user) {
                let contact = ReportedContact { rtt_us, reachable, ..contact(&uri) };
                out.push(Output::Contacts { user: user.clone(), contacts: vec![contact], complete: false });
            }
            let endpoint = message.text("EndpointName").unwrap_or(&user).to_owned();
            self.ask_endpoint(&endpoint, out);
        }
        out.push(Output::Reachability { user, uri: Some(uri), reachable, rtt_us });
    }

    fn on_contact_detail(&mut self, message: &Message) {
        let (Some(user), Some(uri)) = (message.text("AOR"), message.text("URI")) else { return };
        let Some(expires) = message.number::<i64>("RegExpire").filter(|expires| *expires > 0) else {
            self.phones.details.remove(user);
            self.phones.fixed.insert(user.to_owned());
            return;
        };
        let expires_at = Some(self.expiry(expires));
        let known = self.phones.details.entry(user.to_owned()).or_default();
        if known.len() >= CONTACTS_MAX {
            self.dropped.list_entries += 1;
            return;
        }
        known.push(ReportedContact {
            expires_at,
            received: message.text("ViaAddress").and_then(address),
            ..described(uri, message)
        });
    }

    /// When something ends, on our clock, that the PBX says in seconds of its own.
    fn expiry(&self, seconds: i64) -> UnixMillis {
        UnixMillis(seconds.saturating_mul(1000).saturating_add(self.clock_ahead_ms))
    }

    fn report_contacts(&mut self, user: String, contacts: Vec<ReportedContact>, out: &mut Vec<Output>) {
        if contacts.is_empty() {
            self.phones.bound.remove(&user);
        } else if self.phones.bound.len() < LISTED_MAX {
            self.phones.bound.insert(user.clone());
        }
        out.push(Output::Contacts { user, contacts, complete: true });
    }

    /// The peers of `chan_sip`, and `chan_pjsip`'s own word for a phone that came or went (its contacts say more).
    pub(super) fn on_peer_status(&mut self, message: &Message, out: &mut Vec<Output>) {
        let Some(peer) = message.text("Peer").and_then(ChannelName::parse).filter(|name| name.is_chan_sip()) else {
            return;
        };
        let (user, status) = (peer.endpoint.to_owned(), message.text("PeerStatus").unwrap_or_default());
        let rtt_us = message.number::<i64>("Time").and_then(|ms| u32::try_from(ms.checked_mul(1000)?).ok());
        if status.eq_ignore_ascii_case("Registered") {
            let Some(address) = message.text("Address").and_then(address) else { return };
            let contact = peer_contact(&user, address);
            self.report_contacts(user, vec![contact], out);
        } else if status.eq_ignore_ascii_case("Unregistered") {
            self.report_contacts(user, Vec::new(), out);
        } else if status.eq_ignore_ascii_case("Reachable") || status.eq_ignore_ascii_case("Lagged") {
            out.push(Output::Reachability { user, uri: None, reachable: Some(true), rtt_us });
        } else if status.eq_ignore_ascii_case("Unreachable") {
            out.push(Output::Reachability { user, uri: None, reachable: Some(false), rtt_us: None });
        }
    }

    /// A state that a phone can only be in when it answers proves it alive; one that can't be called is not.
    pub(super) fn on_device_state(&mut self, message: &Message, out: &mut Vec<Output>) {
        let (Some(device), Some(state)) = (message.text("Device"), message.text("State")) else { return };
        let Some((technology, endpoint)) = device.split_once('/') else { return };
        if !DEVICES.iter().any(|name| technology.eq_ignore_ascii_case(name)) {
            return;
        }
        let user = self.phones.user_of(endpoint);
        if !self.phones.bound.contains(user) {
            return;
        }
        let reachable = match state.to_ascii_uppercase().as_str() {
            "UNAVAILABLE" => Some(false),
            "INUSE" | "BUSY" | "RINGING" | "RINGINUSE" | "ONHOLD" => Some(true),
            _ => return,
        };
        out.push(Output::Reachability { user: user.to_owned(), uri: None, reachable, rtt_us: None });
    }

    pub(super) fn on_phone_list(&mut self, event: &str, message: &Message, out: &mut Vec<Output>) {
        let name = message.text("ObjectName");
        match (event, name) {
            ("EndpointList" | "AorList" | "ContactList" | "PeerEntry", Some(_)) if !self.phones.room() => {
                self.dropped.list_entries += 1;
            }
            ("EndpointList", Some(name)) => {
                let aor = message.text("Aor").and_then(|aors| aors.split(',').next()).unwrap_or_default().trim();
                let logs_in = message.text("OutboundAuths").is_some();
                self.phones.endpoints.push((name.to_owned(), aor.to_owned(), logs_in));
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
            ("ContactListComplete", _) => self.contacts_complete(out),
            ("PeerlistComplete", _) => self.peers_complete(out),
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
        let contacts = self.phones.contacts.entry(user.to_owned()).or_default();
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
        let contacts = self.phones.peers.entry(name.to_owned()).or_default();
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
        let endpoints = &self.phones.endpoints;
        self.phones.user_of = endpoints
            .iter()
            .filter(|(name, aor, _)| !aor.is_empty() && name != aor)
            .map(|(name, aor, _)| (name.clone(), aor.clone()))
            .collect();
    }

    /// Everything about registered phones is here: the extensions there are, and who is bound where.
    pub(super) fn contacts_complete(&mut self, out: &mut Vec<Output>) {
        let endpoints = std::mem::take(&mut self.phones.endpoints);
        let mut contacts = std::mem::take(&mut self.phones.contacts);
        let phones = endpoints
            .iter()
            .filter(|(_, aor, logs_in)| !aor.is_empty() && !logs_in && !self.phones.fixed.contains(aor));
        let users: BTreeSet<String> = phones.map(|(_, aor, _)| aor.clone()).collect();
        // Those without a contact now are told as well, or nobody would hear that theirs is gone.
        for user in users.iter().chain(&self.phones.bound) {
            contacts.entry(user.clone()).or_default();
        }
        if !users.is_empty() {
            out.push(Output::Endpoints(users.into_iter().collect()));
        }
        for (user, contacts) in contacts {
            if !self.phones.fixed.contains(&user) && !self.phones.peers_known.contains(&user) {
                self.report_contacts(user, contacts, out);
            }
        }
        self.phones.listed = 0;
    }

    fn peers_complete(&mut self, out: &mut Vec<Output>) {
        let peers = std::mem::take(&mut self.phones.peers);
        self.phones.peers_known = peers.keys().cloned().collect();
        if !peers.is_empty() {
            out.push(Output::Endpoints(peers.keys().cloned().collect()));
        }
        for (user, contacts) in peers {
            self.report_contacts(user, contacts, out);
        }
        self.phones.listed = 0;
    }
}

/// A contact of which only the URI is known.
fn contact(uri: &str) -> ReportedContact {
    ReportedContact {
        uri: uri.to_owned(),
        expires_at: None,
        received: None,
        user_agent: None,
        call_id: None,
        transport: transport(uri),
        path: None,
        rtt_us: None,
        reachable: None,
    }
}

/// What both kinds of list say of a contact.
fn described(uri: &str, message: &Message) -> ReportedContact {
    let text = |keys: &[&str]| message.either(keys).map(str::to_owned);
    ReportedContact {
        user_agent: text(&["UserAgent"]),
        call_id: text(&["CallID", "CallId"]),
        path: text(&["Path"]),
        rtt_us: round_trip(message),
        reachable: reachable(message.text("Status").unwrap_or_default()),
        ..contact(uri)
    }
}

/// `chan_sip` tells no URI, only where the phone is.
fn peer_contact(user: &str, address: SocketAddr) -> ReportedContact {
    ReportedContact { received: Some(address), ..contact(&format!("sip:{user}@{address}")) }
}

fn transport(uri: &str) -> Transport {
    let lower = uri.to_ascii_lowercase();
    let named = lower.split(';').find_map(|part| part.strip_prefix("transport="));
    match named {
        Some("tcp") => Transport::Tcp,
        Some("tls") => Transport::Tls,
        Some("ws") => Transport::Ws,
        Some("wss") => Transport::Wss,
        _ if lower.starts_with("sips:") => Transport::Tls,
        _ => Transport::Udp,
    }
}

fn reachable(status: &str) -> Option<bool> {
    match status.to_ascii_lowercase().as_str() {
        "reachable" | "avail" => Some(true),
        "unreachable" | "unavail" => Some(false),
        _ => None,
    }
}

fn round_trip(message: &Message) -> Option<u32> {
    message.number::<u32>("RoundtripUsec").filter(|rtt| *rtt > 0)
}

/// `192.0.2.10:5060`, `[2001:db8::1]:5060`, or as old versions write an IPv6 address, without brackets.
fn address(text: &str) -> Option<SocketAddr> {
    text.parse().ok().or_else(|| {
        let (ip, port) = text.rsplit_once(':')?;
        Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?))
    })
}

/// Technologies whose device states are phones'.
const DEVICES: [&str; 2] = ["PJSIP", "SIP"];
const ASKED_MAX: usize = 10_000;
/// Most entries of all lists of phones together.
const LISTED_MAX: usize = 100_000;
/// Most contacts of one address-of-record; Asterisk allows few.
const CONTACTS_MAX: usize = 64;
