//! From dialog states to leg events. Pure.
//!
//! A notifier says where each dialog of a resource stands; what the switchboard needs is what happened. So what was said last
//! is kept, and the difference told. Some notifiers (Asterisk) have one name for all dialogs of a resource: then each time it
//! goes from nothing to something is a dialog of its own.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::dialog_info::{Dialog, DialogInfo, Direction, Event, Identity, State};
use super::halves::{self, Half};
use crate::model::{
    Caller, ContactKey, Endpoint, FeedKind, Hop, JoinHints, Leg, LegEnd, LegEvent, LegKey, LegStart, LegState, Now,
    PbxEvent, PbxId,
};
use crate::sip::Uri;

/// All dialogs that one feed knows of.
pub struct Dialogs {
    pbx: PbxId,
    /// What its legs' keys begin with.
    prefix: String,
    /// By what tells of them: a subscription or a publication.
    sources: BTreeMap<String, BTreeMap<String, Known>>,
    /// Legs that were live when the process started, or the feed lost sight of them, until they are found again.
    restored: Vec<Leg>,
}

/// Whose dialogs are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource<'r> {
    /// Its user part, canonical.
    pub user: &'r str,
    /// Its domain; none = the PBX's own.
    pub domain: Option<&'r str>,
}

/// What is known of a dialog.
struct Known {
    leg: LegKey,
    call_key: Arc<str>,
    state: State,
    half: Half,
    /// Whether the switchboard has heard of it. What is not told yet is not known well enough.
    told: bool,
}

impl Dialogs {
    /// Nothing known yet. `prefix` and the PBX begin the keys of all its legs; `live` are legs of calls that go on.
    pub fn new(pbx: PbxId, prefix: &str, live: impl Iterator<Item = Leg>) -> Self {
        let prefix = format!("{prefix}:{pbx}:");
        let is_ours = |leg: &Leg| leg.state != LegState::Ended && leg.key.0.starts_with(&prefix);
        let restored = live.filter(is_ours).collect();
        Self { pbx, prefix, sources: BTreeMap::new(), restored }
    }

    /// Takes in what `source` says of a resource; the events that follow, in order. False when it has more dialogs than can
    /// be kept.
    pub fn take_in(
        &mut self,
        source: &str,
        resource: Resource<'_>,
        info: &DialogInfo,
        now: Now,
        events: &mut Vec<PbxEvent>,
    ) -> bool {
        let mut fits = true;
        if info.full {
            let named: HashSet<&str> = info.dialogs.iter().map(|dialog| dialog.id.as_str()).collect();
            let known = self.sources.entry(source.to_owned()).or_default();
            let gone: Vec<String> = known.keys().filter(|id| !named.contains(id.as_str())).cloned().collect();
            for id in gone {
                self.end(source, &id, |_| LegEnd::Lost, "dialog-info without it", events);
            }
        }
        for dialog in &info.dialogs {
            if dialog.state == State::Terminated {
                let evidence = format!("dialog-info: {} terminated", resource.user);
                self.end(source, &dialog.id, |known| how_it_ended(known, dialog), &evidence, events);
            } else {
                fits &= self.advance(source, resource, dialog, now, events);
            }
        }
        fits
    }

    /// A source tells nothing any more: what it told last can't be taken for true.
    pub fn lose(&mut self, source: &str, why: &str, events: &mut Vec<PbxEvent>) {
        let ids: Vec<String> = self.sources.get(source).into_iter().flat_map(BTreeMap::keys).cloned().collect();
        for id in ids {
            self.end(source, &id, |_| LegEnd::Lost, why, events);
        }
        self.sources.remove(source);
    }

    /// The legs of all dialogs that go on.
    pub fn live(&self) -> HashSet<LegKey> {
        let known = self.sources.values().flat_map(BTreeMap::values);
        known.filter(|known| known.told).map(|known| known.leg.clone()).collect()
    }

    /// Goes on with a dialog that is there.
    fn advance(
        &mut self,
        source: &str,
        resource: Resource<'_>,
        dialog: &Dialog,
        now: Now,
        events: &mut Vec<PbxEvent>,
    ) -> bool {
        let is_known = self.sources.get(source).is_some_and(|known| known.contains_key(&dialog.id));
        if !is_known {
            let size = self.sources.get(source).map_or(0, BTreeMap::len);
            if size >= DIALOGS_MAX {
                return false;
            }
            let known = self.meet(resource, dialog, now);
            self.sources.entry(source.to_owned()).or_default().insert(dialog.id.clone(), known);
        }
        if let Some(known) = self.sources.get_mut(source).and_then(|known| known.get_mut(&dialog.id)) {
            known.half.remote = known.half.remote.take().or_else(|| user_of(&dialog.remote));
        }
        let joined = self.join(source, &dialog.id);
        let pbx = self.pbx;
        let Some(known) = self.sources.get_mut(source).and_then(|known| known.get_mut(&dialog.id)) else { return true };
        if let Some(call_key) = joined.filter(|_| !known.told) {
            known.call_key = call_key;
        }
        let mut tell = |event| {
            let evidence = format!("dialog-info: {} {}", resource.user, word(dialog.state));
            events.push(PbxEvent { pbx, feed: FeedKind::Subscription, leg: known.leg.clone(), event, evidence });
        };
        let has_remote = dialog.remote.uri.is_some();
        if !known.told && (dialog.state >= State::Early || has_remote) {
            known.told = true;
            tell(LegEvent::Started(Box::new(start(resource, dialog, known.half.caller, known.call_key.clone()))));
        }
        if !known.told {
            return true;
        }
        if dialog.state >= State::Early && known.state < State::Early && dialog.state != State::Confirmed {
            tell(LegEvent::Rang);
        }
        if dialog.state == State::Confirmed && known.state < State::Confirmed {
            tell(LegEvent::Answered);
        }
        known.state = known.state.max(dialog.state);
        true
    }

    /// A dialog that was not there before, or that a process before this one has told of already.
    fn meet(&mut self, resource: Resource<'_>, dialog: &Dialog, now: Now) -> Known {
        let name = format!("{}{}:{}:", self.prefix, plain(resource.user), plain(&dialog.id));
        let before = self.restored.iter().position(|leg| leg.key.0.starts_with(&name));
        let caller = match dialog.direction {
            Some(direction) => direction == Direction::Initiator,
            // Asterisk says it only of what rings; what is there without having rung was dialled.
            None => dialog.state != State::Early,
        };
        let half = Half {
            user: resource.user.to_owned(),
            remote: user_of(&dialog.remote),
            caller,
            began: now.tick,
            joined: before.is_some(),
        };
        if let Some(leg) = before.map(|at| self.restored.swap_remove(at)) {
            let state = match leg.state {
                LegState::Calling | LegState::Ended => State::Trying,
                LegState::Ringing => State::Early,
                LegState::Answered => State::Confirmed,
            };
            return Known { leg: leg.key, call_key: leg.call_key.into(), state, half, told: true };
        }
        let leg: Arc<str> = format!("{name}{}", now.unix.0).into();
        let call_key = dialog.call_id.as_deref().map_or_else(|| leg.clone(), Into::into);
        Known { leg: LegKey(leg), call_key, state: State::Trying, half, told: false }
    }

    /// The call key of the dialog's other half, when there is exactly one that can be it.
    fn join(&mut self, source: &str, id: &str) -> Option<Arc<str>> {
        let by_source = self.sources.iter();
        let all: Vec<(&str, &str, &Known)> = by_source
            .flat_map(|(of, known)| known.iter().map(|(name, known)| (of.as_str(), name.as_str(), known)))
            .collect();
        let at = all.iter().position(|(of, name, _)| (*of, *name) == (source, id))?;
        let (_, _, own) = all.get(at)?;
        // Both halves of a call through a proxy have its Call-ID.
        let mut others = all.iter().enumerate().filter(|(other, _)| *other != at);
        if own.told || own.half.joined || others.any(|(_, (_, _, known))| known.call_key == own.call_key) {
            return None;
        }
        let halves: Vec<&Half> = all.iter().map(|(_, _, known)| &known.half).collect();
        let (of, name, other) = all.get(halves::other(&halves, at)?)?;
        let call_key = other.call_key.clone();
        let pair = [((*of).to_owned(), (*name).to_owned()), (source.to_owned(), id.to_owned())];
        for (of, name) in pair {
            if let Some(known) = self.sources.get_mut(&of).and_then(|known| known.get_mut(&name)) {
                known.half.joined = true;
            }
        }
        Some(call_key)
    }

    fn end(
        &mut self,
        source: &str,
        id: &str,
        how: impl FnOnce(&Known) -> LegEnd,
        evidence: &str,
        events: &mut Vec<PbxEvent>,
    ) {
        let Some(known) = self.sources.get_mut(source).and_then(|known| known.remove(id)) else { return };
        if known.told {
            let event = LegEvent::Ended(how(&known));
            let evidence = evidence.to_owned();
            events.push(PbxEvent { pbx: self.pbx, feed: FeedKind::Subscription, leg: known.leg, event, evidence });
        }
    }
}

fn start(resource: Resource<'_>, dialog: &Dialog, caller: bool, call_key: Arc<str>) -> LegStart {
    let own = ContactKey { user: resource.user.into(), host: resource.domain.unwrap_or_default().into(), port: None };
    let remote = dialog.remote.uri.as_deref().and_then(|uri| Uri::parse(uri).ok()).map(|uri| uri.key());
    let remote = remote.unwrap_or_default();
    let (hop, target, from, side) =
        if caller { (Hop::ToPbx, remote, own, &dialog.local) } else { (Hop::FromPbx, own, remote, &dialog.remote) };
    let number = if caller { resource.user.to_owned() } else { from.user.to_string() };
    let other_leg = dialog.call_id.iter().filter(|call_id| ***call_id != *call_key).cloned().collect();
    LegStart {
        call_key,
        hop,
        to: target.clone(),
        target,
        caller: calls(side, number, &from),
        from,
        joins: JoinHints { other_leg, session_id: None, replaces: dialog.replaces.clone() },
        endpoint: Some(Endpoint { user: resource.user.to_owned(), domain: resource.domain.map(str::to_owned) }),
        ..LegStart::default()
    }
}

/// Who calls, as the dialog shows it.
fn calls(side: &Identity, number: String, from: &ContactKey) -> Caller {
    if from.user.eq_ignore_ascii_case("anonymous") || from.host.eq_ignore_ascii_case("anonymous.invalid") {
        return Caller { withheld: true, ..Caller::default() };
    }
    let name = side.display.as_deref().unwrap_or_default().chars().take(NAME_CHARS_MAX).collect();
    Caller { number, name, withheld: false }
}

/// The canonical user part of an identity.
fn user_of(identity: &Identity) -> Option<String> {
    let user = Uri::parse(identity.uri.as_deref()?).ok()?.key().user;
    (!user.is_empty()).then(|| user.into_string())
}

fn how_it_ended(known: &Known, dialog: &Dialog) -> LegEnd {
    if known.state == State::Confirmed {
        return LegEnd::Bye;
    }
    let code = dialog.code.filter(|code| (300..700).contains(code));
    match dialog.event {
        Some(Event::Rejected) => LegEnd::Rejected(code.unwrap_or(603)),
        Some(Event::Error) => LegEnd::Rejected(code.unwrap_or(500)),
        Some(Event::Timeout) => LegEnd::TimedOut,
        Some(Event::Bye) => LegEnd::Bye,
        Some(Event::Cancelled | Event::Replaced) => LegEnd::Cancelled,
        None => code.filter(|code| *code != 487).map_or(LegEnd::Cancelled, LegEnd::Rejected),
    }
}

/// A name as it may stand in a leg's key.
fn plain(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.+*#@".contains(c);
    name.chars().take(NAME_CHARS_MAX).map(|c| if fits(c) { c } else { '_' }).collect()
}

fn word(state: State) -> &'static str {
    match state {
        State::Trying => "trying",
        State::Proceeding => "proceeding",
        State::Early => "early",
        State::Confirmed => "confirmed",
        State::Terminated => "terminated",
    }
}

/// Dialogs kept of one source.
const DIALOGS_MAX: usize = 256;
const NAME_CHARS_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LegRole, Tick, UnixMillis};

    const PBX: PbxId = PbxId(uuid::Uuid::nil());

    struct Scene {
        dialogs: Dialogs,
        now: Now,
    }

    /// What happened on a leg, in few words.
    fn shown(events: &[PbxEvent]) -> Vec<String> {
        let show = |event: &PbxEvent| match &event.event {
            LegEvent::Started(start) => {
                let caller = if start.caller.withheld { "withheld" } else { &start.caller.number };
                format!("{:?} {caller}>{}", start.hop, start.target.user)
            }
            LegEvent::Ended(end) => format!("{end:?}"),
            other => format!("{other:?}"),
        };
        events.iter().map(show).collect()
    }

    fn call_key(events: &[PbxEvent]) -> String {
        let keys = events.iter().filter_map(|event| match &event.event {
            LegEvent::Started(start) => Some(start.call_key.to_string()),
            _ => None,
        });
        keys.collect::<Vec<_>>().pop().unwrap()
    }

    /// An element as notifiers write it.
    fn dialog(id: &str, attributes: &str, state: &str, remote: &str) -> String {
        let remote =
            if remote.is_empty() { String::new() } else { format!("<remote><identity>{remote}</identity></remote>") };
        format!("<dialog id=\"{id}\" {attributes}><state>{state}</state>{remote}</dialog>")
    }

    impl Scene {
        fn new() -> Self {
            let now = Now { tick: Tick(1_000_000), unix: UnixMillis(1_700_000_000_000) };
            Self { dialogs: Dialogs::new(PBX, "subscription", std::iter::empty()), now }
        }

        fn hear_as(&mut self, user: &str, state: &str, body: &str) -> Vec<PbxEvent> {
            let text = format!("<dialog-info version=\"0\" state=\"{state}\">{body}</dialog-info>");
            let info = DialogInfo::parse(text.as_bytes()).unwrap();
            let mut events = Vec::new();
            let resource = Resource { user, domain: Some("office.example") };
            assert!(self.dialogs.take_in(user, resource, &info, self.now, &mut events));
            events
        }

        fn hear(&mut self, user: &str, body: &str) -> Vec<String> {
            shown(&self.hear_as(user, "full", body))
        }

        fn wait(&mut self, ms: u64) {
            self.now = self.now.after(ms);
        }
    }

    const IN: &str = "direction=\"recipient\"";
    const OUT: &str = "direction=\"initiator\"";
    const JANE: &str = "sip:+14155550100@carrier.example";

    #[test]
    fn a_call_that_rings_is_answered_and_ends_is_told_step_by_step_and_once() {
        let mut scene = Scene::new();
        assert_eq!(scene.hear("101", &dialog("a", IN, "trying", "")), [""; 0], "who calls is not known yet");
        let ringing = dialog("a", IN, "early", JANE);
        assert_eq!(scene.hear("101", &ringing), ["FromPbx +14155550100>101", "Rang"]);
        assert_eq!(scene.hear("101", &ringing), [""; 0], "nothing new");
        assert_eq!(scene.hear("101", &dialog("a", IN, "confirmed", "")), ["Answered"]);
        assert_eq!(scene.hear("101", &dialog("a", IN, "early", "")), [""; 0], "an answer is not taken back");
        assert_eq!(scene.dialogs.live().len(), 1);
        assert_eq!(scene.hear("101", &dialog("a", IN, "terminated", "")), ["Bye"]);
        assert_eq!(scene.hear("101", &dialog("a", IN, "terminated", "")), [""; 0]);
        assert_eq!(scene.dialogs.live().len(), 0);
    }

    #[test]
    fn how_a_ring_ended_is_told_as_far_as_it_is_known() {
        let mut scene = Scene::new();
        for (ended, expected) in [
            ("<state>terminated</state>", "Cancelled"),
            ("<state event='cancelled'>terminated</state>", "Cancelled"),
            ("<state event='rejected' code='486'>terminated</state>", "Rejected(486)"),
            ("<state event='rejected'>terminated</state>", "Rejected(603)"),
            ("<state code='487'>terminated</state>", "Cancelled"),
            ("<state event='timeout'>terminated</state>", "TimedOut"),
            ("<state event='remote-bye'>terminated</state>", "Bye"),
        ] {
            scene.hear("101", &dialog("a", IN, "early", JANE));
            assert_eq!(scene.hear("101", &format!("<dialog id='a'>{ended}</dialog>")), [expected], "{ended}");
            scene.wait(1);
        }
        scene.hear("101", &dialog("a", IN, "early", JANE));
        assert_eq!(scene.hear("101", ""), ["Lost"], "a full state without it");
    }

    #[test]
    fn a_partial_state_says_nothing_of_the_dialogs_it_does_not_name() {
        let mut scene = Scene::new();
        scene.hear("101", &dialog("a", IN, "early", JANE));
        assert_eq!(shown(&scene.hear_as("101", "partial", "")), [""; 0]);
        let second = scene.hear_as("101", "partial", &dialog("b", IN, "early", "sip:+14155550177@carrier.example"));
        assert_eq!(shown(&second), ["FromPbx +14155550177>101", "Rang"]);
        assert_eq!(scene.dialogs.live().len(), 2);
    }

    #[test]
    fn one_name_for_all_dialogs_of_an_extension_is_a_new_leg_each_time() {
        let mut scene = Scene::new();
        scene.hear("101", &dialog("101", "", "terminated", ""));
        let first = scene.hear_as("101", "full", &dialog("101", IN, "early", JANE));
        scene.hear("101", &dialog("101", "", "confirmed", ""));
        scene.hear("101", &dialog("101", "", "terminated", ""));
        scene.wait(1_000);
        let second = scene.hear_as("101", "full", &dialog("101", IN, "early", JANE));
        assert_eq!(shown(&first), shown(&second));
        assert_ne!((&first[0].leg, call_key(&first)), (&second[0].leg, call_key(&second)));
        scene.hear("101", &dialog("101", "", "terminated", ""));
        let dialled = scene.hear("101", &dialog("101", "", "confirmed", ""));
        assert_eq!(dialled, ["ToPbx 101>", "Answered"], "in use without having rung: it placed a call");
    }

    #[test]
    fn both_ends_of_a_call_through_a_proxy_are_one_call_by_its_call_id() {
        let mut scene = Scene::new();
        let caller = dialog("a", &format!("{OUT} call-id='c1'"), "Trying", "sip:102@office.example;transport=udp");
        let caller = scene.hear_as("101", "full", &caller);
        assert_eq!(shown(&caller), ["ToPbx 101>102"]);
        let called = dialog("b", &format!("{IN} call-id='c1'"), "early", "sip:101@office.example");
        let called = scene.hear_as("102", "full", &called);
        assert_eq!((call_key(&caller), call_key(&called)), ("c1".into(), "c1".into()));
    }

    #[test]
    fn both_ends_of_a_call_through_a_pbx_are_one_call_by_what_they_say_of_one_another() {
        let mut scene = Scene::new();
        let called = scene.hear_as("102", "full", &dialog("102", IN, "early", "sip:101@192.0.2.10"));
        let caller = scene.hear_as("101", "full", &dialog("101", "", "confirmed", ""));
        assert_eq!(call_key(&caller), call_key(&called));
        scene.wait(60_000);
        let with_ids = scene.hear_as("103", "full", &dialog("x", &format!("{OUT} call-id='c3'"), "early", "sip:104@y"));
        let other = scene.hear_as("104", "full", &dialog("y", &format!("{IN} call-id='c4'"), "early", "sip:103@y"));
        assert_eq!((call_key(&with_ids), call_key(&other)), ("c3".into(), "c3".into()));
        let LegEvent::Started(start) = &other[0].event else { panic!("{other:?}") };
        assert_eq!(start.joins.other_leg, ["c4"], "SIP that shows its own Call-ID finds the call as well");
    }

    #[test]
    fn the_same_caller_at_two_phones_is_not_taken_for_one_call() {
        let mut scene = Scene::new();
        let one = scene.hear_as("101", "full", &dialog("a", IN, "early", JANE));
        let two = scene.hear_as("102", "full", &dialog("b", IN, "early", JANE));
        assert_ne!(call_key(&one), call_key(&two));
    }

    #[test]
    fn who_withholds_their_number_is_not_named() {
        let mut scene = Scene::new();
        for uri in ["sip:anonymous@anonymous.invalid", "sip:Anonymous@pbx.example", "sip:x@anonymous.invalid"] {
            let events = scene.hear("101", &dialog(uri, IN, "early", uri));
            assert_eq!(events[0], "FromPbx withheld>101");
            scene.hear("101", "");
        }
    }

    #[test]
    fn a_dialog_that_a_process_before_told_of_goes_on_as_the_same_leg() {
        let key = format!("subscription:{PBX}:101:101:1699999999999");
        let leg = Leg {
            key: LegKey(key.as_str().into()),
            call_key: "c1".into(),
            pbx: PBX,
            role: LegRole::ToDevice,
            device: None,
            state: LegState::Ringing,
            began_at: UnixMillis(0),
            rang_at: None,
            answered_at: None,
            ended_at: None,
            end: None,
        };
        let ended = Leg { key: LegKey(format!("{key}1").into()), state: LegState::Ended, ..leg.clone() };
        let mut scene = Scene::new();
        scene.dialogs = Dialogs::new(PBX, "subscription", [ended, leg].into_iter());
        assert_eq!(scene.hear("101", &dialog("101", IN, "early", JANE)), [""; 0], "it rings already");
        let events = scene.hear_as("101", "full", &dialog("101", "", "confirmed", ""));
        assert_eq!((shown(&events), &*events[0].leg.0), (vec!["Answered".to_owned()], key.as_str()));
    }

    #[test]
    fn a_source_that_is_lost_takes_its_dialogs_along() {
        let mut scene = Scene::new();
        scene.hear("101", &dialog("a", IN, "early", JANE));
        let mut events = Vec::new();
        scene.dialogs.lose("101", "404 Not Found", &mut events);
        assert_eq!(shown(&events), ["Lost"]);
        scene.dialogs.lose("101", "again", &mut events);
        assert_eq!((events.len(), scene.dialogs.live().len()), (1, 0));
    }

    #[test]
    fn what_real_pbxs_sent_is_told_as_it_was() {
        let mut scene = Scene::new();
        let mut all = Vec::new();
        for (user, text) in [
            ("101", include_str!("../../../fixtures/notify/asterisk-101-0-terminated.xml")),
            ("102", include_str!("../../../fixtures/notify/asterisk-102-0-terminated.xml")),
            ("101", include_str!("../../../fixtures/notify/asterisk-101-1-early.xml")),
            ("101", include_str!("../../../fixtures/notify/asterisk-101-2-confirmed.xml")),
            ("101", include_str!("../../../fixtures/notify/asterisk-101-3-terminated.xml")),
            ("102", include_str!("../../../fixtures/notify/asterisk-102-1-early.xml")),
            ("101", include_str!("../../../fixtures/notify/asterisk-101-4-confirmed.xml")),
            ("102", include_str!("../../../fixtures/notify/asterisk-102-2-confirmed.xml")),
            ("102", include_str!("../../../fixtures/notify/asterisk-102-3-terminated.xml")),
            ("101", include_str!("../../../fixtures/notify/asterisk-101-5-terminated.xml")),
            ("109", include_str!("../../../fixtures/notify/kamailio-101-2-early.xml")),
            ("109", include_str!("../../../fixtures/notify/kamailio-101-3-confirmed.xml")),
            ("109", include_str!("../../../fixtures/notify/kamailio-101-4-terminated.xml")),
            ("109", include_str!("../../../fixtures/notify/kamailio-101-5-trying.xml")),
        ] {
            let info = DialogInfo::parse(text.as_bytes()).unwrap();
            let resource = Resource { user, domain: None };
            scene.dialogs.take_in(user, resource, &info, scene.now, &mut all);
            scene.wait(500);
        }
        let expected = [
            "FromPbx +14155550100>101",
            "Rang",
            "Answered",
            "Bye",
            "FromPbx 101>102",
            "Rang",
            "ToPbx 101>",
            "Answered",
            "Answered",
            "Bye",
            "Bye",
            "FromPbx +14155550100>109",
            "Rang",
            "Answered",
            "Bye",
            "ToPbx 109>102",
        ];
        assert_eq!(shown(&all), expected);
        assert_eq!(call_key(&all[4..6]), call_key(&all[6..8]), "colleagues on one call");
    }

    #[test]
    fn only_so_many_dialogs_of_a_source_are_kept() {
        let mut scene = Scene::new();
        let mut fits = true;
        for id in 0..=DIALOGS_MAX {
            let info =
                format!("<dialog-info state='partial'>{}</dialog-info>", dialog(&id.to_string(), IN, "early", JANE));
            let info = DialogInfo::parse(info.as_bytes()).unwrap();
            fits =
                scene.dialogs.take_in("101", Resource { user: "101", domain: None }, &info, scene.now, &mut Vec::new());
        }
        assert!(!fits);
        assert_eq!(scene.dialogs.live().len(), DIALOGS_MAX);
    }
}
