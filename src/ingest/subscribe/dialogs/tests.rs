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
        ("101", include_str!("../../../../fixtures/notify/asterisk-101-0-terminated.xml")),
        ("102", include_str!("../../../../fixtures/notify/asterisk-102-0-terminated.xml")),
        ("101", include_str!("../../../../fixtures/notify/asterisk-101-1-early.xml")),
        ("101", include_str!("../../../../fixtures/notify/asterisk-101-2-confirmed.xml")),
        ("101", include_str!("../../../../fixtures/notify/asterisk-101-3-terminated.xml")),
        ("102", include_str!("../../../../fixtures/notify/asterisk-102-1-early.xml")),
        ("101", include_str!("../../../../fixtures/notify/asterisk-101-4-confirmed.xml")),
        ("102", include_str!("../../../../fixtures/notify/asterisk-102-2-confirmed.xml")),
        ("102", include_str!("../../../../fixtures/notify/asterisk-102-3-terminated.xml")),
        ("101", include_str!("../../../../fixtures/notify/asterisk-101-5-terminated.xml")),
        ("109", include_str!("../../../../fixtures/notify/kamailio-101-2-early.xml")),
        ("109", include_str!("../../../../fixtures/notify/kamailio-101-3-confirmed.xml")),
        ("109", include_str!("../../../../fixtures/notify/kamailio-101-4-terminated.xml")),
        ("109", include_str!("../../../../fixtures/notify/kamailio-101-5-trying.xml")),
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
        let info = format!("<dialog-info state='partial'>{}</dialog-info>", dialog(&id.to_string(), IN, "early", JANE));
        let info = DialogInfo::parse(info.as_bytes()).unwrap();
        fits = scene.dialogs.take_in("101", Resource { user: "101", domain: None }, &info, scene.now, &mut Vec::new());
    }
    assert!(!fits);
    assert_eq!(scene.dialogs.live().len(), DIALOGS_MAX);
}

#[test]
fn a_dialog_is_named_by_its_call_id_and_says_when_it_was_found_under_way() {
    let mut scene = Scene::new();
    let told = |events: &[PbxEvent]| match &events[0].event {
        LegEvent::Started(start) => (start.sip_call_id.clone(), start.under_way),
        other => panic!("{other:?}"),
    };
    let named = dialog("a", &format!("{IN} call-id=\"c1\""), "early", JANE);
    assert_eq!(told(&scene.hear_as("101", "full", &named)), (Some("c1".into()), true), "there at the first look");
    let nameless = dialog("b", IN, "early", JANE);
    assert_eq!(told(&scene.hear_as("101", "partial", &nameless)), (None, false), "it began just now");
}
