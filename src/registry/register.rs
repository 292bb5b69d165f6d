//! REGISTER: bindings come, are refreshed and go.

use std::borrow::Cow;
use std::sync::{Arc, PoisonError};

use dashmap::Entry;
use smallvec::SmallVec;

use super::bound::Bound;
use super::contact::contact_key;
use super::homes::{AccountDevices, Devices};
use super::record::{Grace, NEVER, Record};
use super::transitions::transitions;
use super::{DeviceView, Registry};
use crate::model::{
    AccountId, Binding, BindingSource, Device, DeviceId, DeviceState, Now, PbxId, Transition, TransitionKind,
};
use crate::store::{DirtyKey, Kind, Seq};

/// Whom a REGISTER is about, as [`Registry::resolve`](super::Registry::resolve) found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The account the domain chose.
    pub account: AccountId,
    /// The PBX it came from.
    pub pbx: PbxId,
    /// Canonical user part.
    pub user: Cow<'a, str>,
    /// Made once: it is a hash, and a REGISTER asks for it again and again.
    device: DeviceId,
}

/// What a decision does to the bindings it was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These are the bindings now.
    Set(Vec<Binding>),
    /// They stay: a query, a retransmission, a refusal.
    Keep,
}

/// What became of a REGISTER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered<R> {
    /// The device it is about; it need not exist.
    pub device: DeviceId,
    /// What the decision handed on.
    pub value: R,
    /// What the answer waits for; none = there is nothing to wait for. A query or a retransmission waits for the change
    /// it shows.
    pub seq: Option<Seq>,
    /// Set when the change was not made because this limit was reached: answer 503, whatever `value` says.
    pub refused: Option<&'static str>,
}

impl<'a> Target<'a> {
    /// `user`, a canonical user part, of `account` on `pbx`.
    #[must_use]
    pub fn new(account: AccountId, pbx: PbxId, user: Cow<'a, str>) -> Self {
        let device = DeviceId::derive(account, pbx, &user);
        Self { account, pbx, user, device }
    }

    /// The id of the device it names.
    #[must_use]
    pub fn device(&self) -> DeviceId {
        self.device
    }
}

impl Registry {
    /// Shows `decide` the device's bindings and does what it says, as one step. Whatever the decision needs to answer
    /// it hands on as `R`. `decide` runs with the device locked: it must not call the registry.
    ///
    /// With [`BindingSource::Registrar`] the answer must wait for `seq`; passive changes apply at once and are stored
    /// when they can.
    pub fn register<R>(
        &self,
        target: &Target<'_>,
        source: BindingSource,
        now: Now,
        decide: impl FnOnce(&[Binding]) -> (Change, R),
    ) -> Registered<R> {
        let id = target.device();
        let grace = self.grace(target.pbx);
        if let Some(mut record) = self.devices.records.get_mut(&id) {
            let (value, seq, news) = self.decide(&mut record, source, now, grace, decide);
            drop(record);
            self.tell(news);
            return Registered { device: id, value, seq, refused: None };
        }
        let home = self.devices.home(target.account, target.pbx, || self.feeds.lead(target.pbx));
        let (value, seq, news) = match self.devices.records.entry(id) {
            Entry::Occupied(mut entry) => self.decide(entry.get_mut(), source, now, grace, decide),
            Entry::Vacant(entry) => {
                let (change, value) = decide(&[]);
                let bindings = match change {
                    Change::Set(bindings) if !bindings.is_empty() => bindings,
                    _ => {
                        // It may have been deleted a moment ago, and a crash could bring it back.
                        let seq = Some(self.journal.gone()).filter(|seq| seq.0 > 0);
                        return Registered { device: id, value, seq, refused: None };
                    }
                };
                if let Some(limit) = self.may_not_appear(&home.devices, now) {
                    return Registered { device: id, value, seq: None, refused: Some(limit) };
                }
                let mut record = Box::new(Record::new(new_device(target, id, now), home));
                let mut news = News { created: true, ..News::default() };
                Devices::file(&record);
                let device_seq = self.journal.mark(DirtyKey { kind: Kind::Device, id: id.0 });
                if source == BindingSource::Registrar {
                    record.seq = device_seq;
                }
                self.set_bindings(&mut record, &[], bindings, source, now, &mut news);
                self.schedule(&mut record, now, grace);
                let seq = record.bindings_seq;
                news.view = Some(record.view(now));
                entry.insert(record);
                (value, Some(seq).filter(|seq| seq.0 > 0), news)
            }
        };
        self.tell(news);
        Registered { device: id, value, seq, refused: None }
    }

    /// Takes over what another registrar says the device's bindings are (a 2xx to REGISTER lists them all).
    pub fn apply_bindings(&self, target: &Target<'_>, bindings: Vec<Binding>, now: Now) -> Registered<()> {
        self.register(target, BindingSource::Passive, now, |_| (Change::Set(bindings), ()))
    }

    /// Ends those bindings of the device that `is_over` says, before their time; `cause` says why, to the history as well.
    pub fn end_bindings(&self, device: DeviceId, is_over: impl Fn(&Binding) -> bool, cause: &'static str, now: Now) {
        let Some(pbx) = self.devices.records.get(&device).map(|record| record.home.pbx) else { return };
        let grace = self.grace(pbx);
        let Some(mut record) = self.devices.records.get_mut(&device) else { return };
        let mut news = News::default();
        self.sweep(&mut record, now, grace, &mut news);
        let (gone, kept): (Vec<Bound>, Vec<Bound>) =
            std::mem::take(&mut record.bindings).into_vec().into_iter().partition(|bound| is_over(&bound.to_binding()));
        record.bindings = kept.into_boxed_slice();
        if !gone.is_empty() {
            metrics::counter!("hookswitch_bindings_removed_total", "reason" => cause).increment(gone.len() as u64);
            self.unindex(&record, gone.iter().map(Bound::contact));
            self.forget_answers(device, gone.iter().map(|bound| (bound.source, bound.contact())));
            // Unlike an expiry it would not come about again after a crash, so who is shown it waits.
            record.bindings_seq = self.journal.mark(DirtyKey { kind: Kind::Bindings, id: device.0 });
            if record.bindings.is_empty() {
                let gone: SmallVec<[Binding; 2]> = gone.iter().map(Bound::to_binding).collect();
                news.transitions.extend(transitions(device, now.unix, &gone, &[], cause));
            }
        }
        self.schedule(&mut record, now, grace);
        if turned_stale(&mut record, now) || !news.transitions.is_empty() {
            news.view = Some(record.view(now));
        }
        drop(record);
        self.tell(news);
    }

    /// Ends bindings whose time is over, a slice of the due devices a call. True when there are more.
    pub fn expire(&self, now: Now) -> bool {
        let due = self.devices.wheel.due(now.tick, EXPIRE_MAX);
        for id in &due {
            let Some(pbx) = self.devices.records.get(id).map(|record| record.home.pbx) else { continue };
            let grace = self.grace(pbx);
            let Some(mut record) = self.devices.records.get_mut(id) else { continue };
            if record.scheduled > now.tick && record.next_deadline(now, grace) >= record.scheduled {
                // A later entry of the wheel looks after it.
                continue;
            }
            record.scheduled = NEVER;
            let mut news = News::default();
            self.sweep(&mut record, now, grace, &mut news);
            self.schedule(&mut record, now, grace);
            if turned_stale(&mut record, now) || !news.transitions.is_empty() {
                news.view = Some(record.view(now));
            }
            drop(record);
            self.tell(news);
        }
        due.len() == EXPIRE_MAX
    }

    /// Takes these contacts of a device out of the contact index, and keeps those it still has in: two contacts may
    /// differ only in parameters, which the index does not know.
    pub(super) fn unindex<'a>(&self, record: &Record, gone: impl Iterator<Item = &'a str>) {
        let mut any = false;
        for key in gone.filter_map(contact_key) {
            self.devices.contacts.remove(&(record.home.pbx, key), record.id);
            any = true;
        }
        if any {
            self.index(record, record.bindings.iter().map(Bound::contact));
        }
    }

    /// Puts in what the database had. The caller has the wheel look at the device in time: `scheduled` says when.
    pub(super) fn restore_bindings(&self, record: &mut Record, bindings: Vec<Binding>, now: Now, grace: Grace) {
        self.index(record, bindings.iter().map(|binding| &*binding.contact));
        record.bindings = bindings.into_iter().map(|binding| Bound::new(&self.intern(binding, &[]))).collect();
        record.scheduled = record.next_deadline(now, grace);
    }

    fn index<'a>(&self, record: &Record, came: impl Iterator<Item = &'a str>) {
        for key in came.filter_map(contact_key) {
            self.devices.contacts.insert(&(record.home.pbx, key), record.id);
        }
    }

    /// How long passive bindings of this PBX outlive their time.
    pub(super) fn grace(&self, pbx: PbxId) -> Grace {
        let seconds = self.pbxs.get(pbx).map_or(0, |pbx| pbx.value.passive_grace_s);
        Grace {
            ms: u64::from(seconds) * 1000,
            started_at: self.started.unix,
            until: self.started.tick + self.limits.load().restart_grace_ms,
        }
    }

    fn decide<R>(
        &self,
        record: &mut Record,
        source: BindingSource,
        now: Now,
        grace: Grace,
        decide: impl FnOnce(&[Binding]) -> (Change, R),
    ) -> (R, Option<Seq>, News) {
        let mut news = News::default();
        self.sweep(record, now, grace, &mut news);
        let before: SmallVec<[Binding; 2]> = record.bindings.iter().map(Bound::to_binding).collect();
        let (change, value) = decide(&before);
        let seq = match change {
            Change::Keep => record.bindings_seq,
            Change::Set(after) => {
                self.set_bindings(record, &before, after, source, now, &mut news);
                self.schedule(record, now, grace);
                record.bindings_seq
            }
        };
        // Refreshes are no news, unless the device was stale.
        if !news.transitions.is_empty() || (record.told_stale && turned_stale(record, now)) {
            news.view = Some(record.view(now));
        }
        (value, Some(seq).filter(|seq| seq.0 > 0), news)
    }

    /// Replaces the bindings `before`, which are those of the record.
    fn set_bindings(
        &self,
        record: &mut Record,
        before: &[Binding],
        after: Vec<Binding>,
        source: BindingSource,
        now: Now,
        news: &mut News,
    ) {
        let after: SmallVec<[Binding; 2]> = after.into_iter().map(|binding| self.intern(binding, before)).collect();
        let id = record.id;
        news.transitions.extend(transitions(id, now.unix, before, &after, "unregistered"));
        let was = std::mem::take(&mut record.bindings);
        let bound = after.iter().map(|binding| {
            let mut bound = Bound::new(binding);
            bound.list(was.iter().any(|old| old.is_listed() && old.contact() == &*binding.contact));
            bound
        });
        record.bindings = bound.collect();
        let gone = || before.iter().filter(|old| after.iter().all(|new| new.contact != old.contact));
        self.unindex(record, gone().map(|binding| &*binding.contact));
        self.forget_answers(id, gone().map(|binding| (binding.source, &*binding.contact)));
        let came = after.iter().filter(|new| before.iter().all(|old| old.contact != new.contact));
        self.index(record, came.map(|binding| &*binding.contact));
        let seq = self.journal.mark(DirtyKey { kind: Kind::Bindings, id: id.0 });
        if source == BindingSource::Registrar {
            record.bindings_seq = seq;
        }
    }

    /// Ends what is over.
    fn sweep(&self, record: &mut Record, now: Now, grace: Grace, news: &mut News) {
        let over = record.sweep(now, grace);
        let Some(last) = over.last() else { return };
        let id = record.id;
        self.unindex(record, over.iter().map(Bound::contact));
        self.forget_answers(id, over.iter().map(|bound| (bound.source, bound.contact())));
        self.journal.mark(DirtyKey { kind: Kind::Bindings, id: id.0 });
        if record.bindings.is_empty() {
            let cause = if last.source == BindingSource::Passive { "stale" } else { "expired" };
            let over: SmallVec<[Binding; 2]> = over.iter().map(Bound::to_binding).collect();
            news.transitions.extend(transitions(id, now.unix, &over, &[], cause));
        }
    }

    /// What keepalives found out about contacts that are gone is of no interest any more; what PBXs found out is theirs to
    /// take back.
    fn forget_answers<'a>(&self, device: DeviceId, gone: impl Iterator<Item = (BindingSource, &'a str)>) {
        for (_, contact) in gone.filter(|(source, _)| *source == BindingSource::Registrar) {
            self.health.forget_contact(device, contact);
        }
    }

    /// Makes sure the wheel looks at the device in time.
    pub(super) fn schedule(&self, record: &mut Record, now: Now, grace: Grace) {
        let deadline = record.next_deadline(now, grace);
        if deadline < record.scheduled {
            if record.scheduled != NEVER {
                self.devices.wheel.remove(record.scheduled, record.id);
            }
            record.scheduled = deadline;
            self.devices.wheel.insert(deadline, record.id);
        }
    }

    /// Shares the user agent and takes out what Postgres can't keep.
    fn intern(&self, mut binding: Binding, before: &[Binding]) -> Binding {
        if let Some(agent) = binding.user_agent.take() {
            let known = before.iter().filter_map(|old| old.user_agent.as_ref()).find(|known| **known == agent);
            binding.user_agent = Some(known.cloned().unwrap_or_else(|| self.agents.intern(agent)));
        }
        for text in [&mut binding.contact, &mut binding.call_id] {
            strip_nul(text);
        }
        for text in [&mut binding.path, &mut binding.instance].into_iter().flatten() {
            strip_nul(text);
        }
        binding
    }

    /// The limit that keeps another device from appearing, if one does.
    pub(super) fn may_not_appear(&self, of_account: &AccountDevices, now: Now) -> Option<&'static str> {
        let limits = self.limits.load();
        let limit = if of_account.count() >= limits.devices_max {
            "devices_max"
        } else {
            let mut appearing = of_account.appearing.lock().unwrap_or_else(PoisonError::into_inner);
            if appearing.take(now.tick, limits.devices_per_second_max, limits.devices_burst_max) {
                return None;
            }
            "devices_per_second_max"
        };
        super::count_dropped(limit);
        Some(limit)
    }

    /// Writes history and tells admins. Not with a record locked.
    fn tell(&self, news: News) {
        let Some(view) = news.view else { return };
        if news.created {
            self.announce_device("device.created", &view, view.awaits);
        }
        if news.transitions.is_empty() && !news.created {
            self.announce_device("device.updated", &view, Seq(0));
        }
        for transition in news.transitions {
            let event = match transition.kind {
                TransitionKind::Up => "device.up",
                TransitionKind::Down => "device.down",
                TransitionKind::AddressChanged | TransitionKind::UserAgentChanged => "device.updated",
            };
            self.journal.record_transition(transition);
            self.announce_device(event, &view, view.awaits);
        }
    }
}

/// Whether the device has turned stale, or is not any more, since admins were told.
fn turned_stale(record: &mut Record, now: Now) -> bool {
    let stale = record.state(now) == DeviceState::Stale;
    std::mem::replace(&mut record.told_stale, stale) != stale
}

/// What to tell once the record is let go.
#[derive(Debug, Default)]
struct News {
    created: bool,
    transitions: SmallVec<[Transition; 1]>,
    view: Option<DeviceView>,
}

pub(super) fn new_device(target: &Target<'_>, id: DeviceId, now: Now) -> Device {
    Device {
        id,
        account: target.account,
        pbx: target.pbx,
        user: Arc::from(&*target.user),
        extension: None,
        label: None,
        caller_id: None,
        enabled: true,
        assignable: false,
        last_caller: None,
        last_seen_at: now.unix,
        created_at: now.unix,
    }
}

fn strip_nul(text: &mut Box<str>) {
    if text.contains('\0') {
        *text = text.replace('\0', "").into();
    }
}

/// Devices looked at in one call of [`Registry::expire`].
const EXPIRE_MAX: usize = 1_000;
