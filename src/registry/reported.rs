//! What connectors report of a PBX's registrations, and which feed is believed about a binding when several tell of it.
//! All of it is applied at once and stored when it can be (promise 4); a report that says what is known costs nothing.
//!
//! # Who is believed
//! 1. **SIP is exact.** What a 2xx to REGISTER said (Contact, expires, Call-ID, `CSeq`, the phone's address) stays as it was
//!    said; a connector fills in what SIP did not say. It overrules SIP's expiry only where it is more than two seconds
//!    off: later means a refresh that SIP did not show, earlier that the registrar granted less.
//! 2. **A connector's list is the registrar's own table.** What it adds, is bound; what it takes out or no longer lists,
//!    is gone. But not a binding that SIP set or refreshed after the list was asked for: that list is the older news.
//! 3. **What we granted ourselves is ours.** No other registrar's list touches a binding of our registrar.
//! 4. **"Reachable" and "unreachable" are health** (`super::health`). They neither make a binding nor end one.
//! 5. **A listed contact lives as long as it is listed.** A passive binding past its time does not expire while a connector
//!    that listed it is up, since that one would tell; when the connector goes, the usual grace begins.
//! 6. **A leg that rings proves its device alive**: a stale binding's grace begins anew with every call.

use std::net::SocketAddr;

use dashmap::Entry;

use super::contact::contact_key;
use super::homes::Devices;
use super::record::Record;
use super::register::new_device;
use super::{Change, Registry, Target};
use crate::model::{
    Binding, BindingSource, ContactKey, DeviceId, MemberKind, MemberState, Now, PbxId, Transport, UnixMillis,
    canonical_host,
};
use crate::sip::uri::{Uri, host_port};
use crate::store::{DirtyKey, Kind};

/// A contact as a connector lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportedContact {
    /// The contact URI.
    pub uri: String,
    /// When the PBX lets it go; none where it does not say.
    pub expires_at: Option<UnixMillis>,
    /// The address the phone is behind.
    pub received: Option<SocketAddr>,
    /// Its User-Agent.
    pub user_agent: Option<String>,
    /// Call-ID of its REGISTER.
    pub call_id: Option<String>,
    /// Its transport.
    pub transport: Transport,
    /// Path header values (RFC 3327).
    pub path: Option<String>,
    /// Round trip of the PBX's last OPTIONS, in microseconds.
    pub rtt_us: Option<u32>,
    /// Whether that OPTIONS was answered; none where the PBX does not ask.
    pub reachable: Option<bool>,
}

/// A queue as a connector lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportedQueue {
    /// Its name on the PBX.
    pub name: String,
    /// The number callers dial, where the PBX says.
    pub number: Option<String>,
    /// All that are in it.
    pub members: Vec<ReportedMember>,
}

/// A queue member as a connector lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportedMember {
    /// User part of the device.
    pub user: String,
    /// Its domain, when the PBX names one.
    pub domain: Option<String>,
    /// What the PBX calls it.
    pub name: Option<String>,
    /// Whether calls are held back from it.
    pub paused: bool,
    /// Why.
    pub pause_reason: Option<String>,
    /// Order of preference: lower ones are called first.
    pub penalty: u32,
    /// How it came into the queue.
    pub kind: MemberKind,
    /// What the PBX says of it.
    pub state: MemberState,
}

impl Registry {
    /// The PBX called `name`, compared without case; without a name the oldest one.
    #[must_use]
    pub fn pbx_named(&self, name: Option<&str>) -> Option<PbxId> {
        let pbxs = self.pbxs.all();
        let wanted = pbxs.iter().filter(|pbx| name.is_none_or(|name| pbx.value.name.eq_ignore_ascii_case(name)));
        wanted.min_by_key(|pbx| (pbx.value.created_at, pbx.value.id)).map(|pbx| pbx.value.id)
    }

    /// Makes a device appear that has not registered yet, or finds it. None when a limit forbids it (counted).
    pub fn ensure_device(&self, target: &Target<'_>, now: Now) -> Option<DeviceId> {
        let id = target.device();
        if self.devices.records.contains_key(&id) {
            return Some(id);
        }
        let home = self.devices.home(target.account, target.pbx, || self.feeds.lead(target.pbx));
        let view = match self.devices.records.entry(id) {
            Entry::Occupied(_) => return Some(id),
            Entry::Vacant(entry) => {
                self.may_not_appear(&home.devices, now).is_none().then_some(())?;
                let record = Box::new(Record::new(new_device(target, id, now), home));
                Devices::file(&record);
                self.journal.mark(DirtyKey { kind: Kind::Device, id: id.0 });
                let view = record.view(now);
                entry.insert(record);
                view
            }
        };
        self.announce_device("device.created", &view, crate::store::Seq(0));
        Some(id)
    }

    /// Takes over what a connector says the contacts of an address-of-record are: with `complete` these and no others,
    /// and then `now` is when the list was asked for.
    pub fn contacts_reported(&self, target: &Target<'_>, mut contacts: Vec<ReportedContact>, complete: bool, now: Now) {
        let max_ms = self.pbxs.get(target.pbx).map_or(0, |pbx| u64::from(pbx.value.passive_expires_max_s) * 1000);
        if contacts.len() > CONTACTS_MAX {
            super::count_dropped("reported_contacts");
        }
        contacts.truncate(CONTACTS_MAX);
        let mut listed = Vec::new();
        let registered = self.register(target, BindingSource::Passive, now, |before| {
            let (after, of_list) = merged(before, &contacts, complete, max_ms, now);
            listed = of_list;
            let change = if after[..] == *before { Change::Keep } else { Change::Set(after) };
            (change, ())
        });
        if registered.refused.is_some() {
            return;
        }
        self.note_listed(registered.device, &listed, complete, now);
        for contact in contacts {
            if contact.reachable.is_some() || contact.rtt_us.is_some() {
                self.reachability(target, Some(&contact.uri), contact.reachable, contact.rtt_us, now);
            }
        }
    }

    /// The PBX's whole table of contacts, as it was when it was asked for at `asked`: (user, domain, contacts) of each
    /// address-of-record that has any. What a connector listed before and this does not is gone.
    pub fn pbx_contacts_reported(
        &self,
        pbx: PbxId,
        table: Vec<(String, Option<String>, Vec<ReportedContact>)>,
        asked: Now,
    ) {
        let mut told = std::collections::HashSet::with_capacity(table.len());
        for (user, domain, contacts) in table {
            let Some(target) = self.resolve(pbx, &user, domain.as_deref().unwrap_or_default()) else { continue };
            told.insert(target.device());
            self.contacts_reported(&target, contacts, true, asked);
        }
        let gone = |record: &Record| {
            record.home.pbx == pbx
                && !told.contains(&record.id)
                && record.bindings.iter().any(super::bound::Bound::is_listed)
        };
        let gone: Vec<_> = self.devices.records.iter().filter(|record| gone(record)).map(|r| r.device()).collect();
        for device in gone {
            let target = Target::new(device.account, pbx, std::borrow::Cow::Borrowed(&*device.user));
            self.contacts_reported(&target, Vec::new(), true, asked);
        }
    }

    /// A connector says that this contact is gone.
    pub fn contact_gone(&self, target: &Target<'_>, uri: &str, now: Now) {
        let gone = ReportedContact { uri: uri.to_owned(), ..ReportedContact::default() };
        self.register(target, BindingSource::Passive, now, |before| {
            let at = find(before, &gone, &[]).filter(|at| before.get(*at).is_some_and(|bound| !is_newer(bound, now)));
            let Some(at) = at else { return (Change::Keep, ()) };
            let mut left = before.to_vec();
            left.remove(at);
            (Change::Set(left), ())
        });
        self.health.forget_contact(target.device(), uri);
    }

    /// Notes which bindings of a device a connector lists, by contact.
    fn note_listed(&self, device: DeviceId, listed: &[Box<str>], complete: bool, now: Now) {
        let is_listed = |contact: &str| listed.iter().any(|known| **known == *contact);
        let Some(pbx) = self.devices.records.get(&device).map(|record| record.home.pbx) else { return };
        let grace = self.grace(pbx);
        let Some(mut record) = self.devices.records.get_mut(&device) else { return };
        for bound in &mut record.bindings {
            let now_listed = is_listed(bound.contact()) || (!complete && bound.is_listed());
            bound.list(now_listed);
        }
        self.schedule(&mut record, now, grace);
    }
}

/// The bindings after a connector's report, and the contacts of those that it lists.
pub(crate) fn merged(
    before: &[Binding],
    contacts: &[ReportedContact],
    complete: bool,
    max_ms: u64,
    asked: Now,
) -> (Vec<Binding>, Vec<Box<str>>) {
    let mut after = before.to_vec();
    let mut found = Vec::with_capacity(contacts.len());
    let mut listed = Vec::with_capacity(contacts.len());
    for contact in contacts {
        if let Some((at, bound)) = find(before, contact, &found).and_then(|at| Some((at, after.get_mut(at)?))) {
            found.push(at);
            refresh(bound, contact, asked);
            listed.push(bound.contact.clone());
        } else {
            let bound = to_binding(contact, max_ms, asked);
            listed.push(bound.contact.clone());
            after.push(bound);
        }
    }
    if complete {
        let mut at = 0;
        after.retain(|bound| {
            let kept = at >= before.len() || found.contains(&at) || is_newer(bound, asked);
            at += 1;
            kept
        });
    }
    (after, listed)
}

/// The known binding that a reported contact is, none of those that others of the list are.
///
/// Behind NAT a PBX may list another address than the phone's Contact had; the Call-ID still tells, and Asterisk also says
/// what it was.
fn find(before: &[Binding], contact: &ReportedContact, found: &[usize]) -> Option<usize> {
    let key = contact_key(&contact.uri);
    let original = key.as_ref().and_then(|key| original_key(&contact.uri, key));
    let call_id = contact.call_id.as_deref().filter(|id| !id.is_empty());
    let free = || before.iter().enumerate().filter(|(at, _)| !found.contains(at));
    let exact =
        free().find(|(_, bound)| *bound.contact == *contact.uri || key.is_some() && contact_key(&bound.contact) == key);
    let rewritten = |bound: &Binding| {
        call_id.is_some_and(|id| *bound.call_id == *id) || original.is_some() && contact_key(&bound.contact) == original
    };
    exact.or_else(|| free().find(|(_, bound)| rewritten(bound))).map(|(at, _)| at)
}

/// The contact as the phone sent it, where Asterisk rewrote it and says so.
fn original_key(uri: &str, rewritten: &ContactKey) -> Option<ContactKey> {
    let uri = Uri::parse(uri).ok()?;
    let (host, port) = host_port(uri.param("x-ast-orig-host").filter(|host| !host.is_empty())?).ok()?;
    Some(ContactKey { user: rewritten.user.clone(), host: canonical_host(host).into(), port })
}

/// Whether what is known of a binding is newer than a connector's word from `asked`, or none of the connector's business.
fn is_newer(bound: &Binding, asked: Now) -> bool {
    bound.source == BindingSource::Registrar
        || (by_sip(bound) && bound.refreshed_at.0 > asked.unix.0.saturating_sub(SKEW_MS))
}

/// Whether SIP set it: no connector knows a `CSeq`.
fn by_sip(bound: &Binding) -> bool {
    bound.cseq != 0
}

/// Takes over what a connector says of a binding that is known.
fn refresh(bound: &mut Binding, contact: &ReportedContact, asked: Now) {
    if is_newer(bound, asked) {
        return;
    }
    let told = contact.expires_at.map(|at| asked.to_tick(at));
    let refreshed = told.is_some_and(|told| told > bound.expires_at + TOLERANCE_MS);
    if let Some(told) = told.filter(|told| refreshed || *told + TOLERANCE_MS < bound.expires_at) {
        bound.expires_at = told.min(asked.tick + EXPIRES_MAX_MS);
    }
    if refreshed {
        bound.refreshed_at = asked.unix;
    }
    let sip = by_sip(bound);
    // Of a refresh that SIP did not show, the firmware may be new; the address may be the PBX's idea of it.
    take(&mut bound.user_agent, contact.user_agent.as_deref(), sip && !refreshed);
    take(&mut bound.path, contact.path.as_deref(), sip);
    if bound.received.is_none() || !sip {
        bound.received = contact.received.or(bound.received);
    }
    if let Some(call_id) = contact.call_id.as_deref().filter(|id| !id.is_empty() && (!sip || bound.call_id.is_empty()))
    {
        bound.call_id = call_id.into();
    }
}

fn take<T: for<'a> From<&'a str> + AsRef<str>>(known: &mut Option<T>, told: Option<&str>, keep: bool) {
    if let Some(told) = told.filter(|told| !told.is_empty() && (known.is_none() || !keep))
        && known.as_ref().is_none_or(|known| known.as_ref() != told)
    {
        *known = Some(T::from(told));
    }
}

fn to_binding(contact: &ReportedContact, max_ms: u64, asked: Now) -> Binding {
    // A clock of the PBX that is behind ours must not end what it lists: being listed keeps it.
    let told = contact.expires_at.map(|at| asked.to_tick(at).clamp(asked.tick, asked.tick + EXPIRES_MAX_MS));
    Binding {
        contact: contact.uri.as_str().into(),
        expires_at: told.unwrap_or(asked.tick + max_ms),
        q: 1000,
        transport: contact.transport,
        source: BindingSource::Passive,
        cseq: 0,
        call_id: contact.call_id.as_deref().unwrap_or_default().into(),
        received: contact.received,
        user_agent: contact.user_agent.as_deref().filter(|agent| !agent.is_empty()).map(Into::into),
        path: contact.path.as_deref().filter(|path| !path.is_empty()).map(Into::into),
        instance: None,
        reg_id: None,
        refreshed_at: asked.unix,
    }
}

/// Feeds of one PBX are so far apart at most, in milliseconds: what SIP said so shortly before counts as later.
const SKEW_MS: i64 = 1_000;
/// Registrars tell times in seconds; what is no further off says the same.
const TOLERANCE_MS: u64 = 2_000;
/// No registration lasts longer: 30 days.
const EXPIRES_MAX_MS: u64 = 30 * 86_400_000;
/// Contacts of one address-of-record.
const CONTACTS_MAX: usize = 32;
