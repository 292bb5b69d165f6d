//! Who is believed about a binding when several feeds tell of it: each pair of words, in both orders where order matters.

use std::sync::Arc;
use std::time::Duration;

use hookswitch::clock::Clock;
use hookswitch::model::{Binding, BindingSource, DeviceId, DeviceState, FeedKind, UnixMillis};
use hookswitch::registry::{Defaults, Limits, Registry, ReportedContact, Target};

use crate::office;
use crate::samples::{self, START};

struct Site {
    clock: Clock,
    registry: Arc<Registry>,
    defaults: Defaults,
}

impl Site {
    async fn open() -> Self {
        let clock = Clock::manual(START);
        // Without the time that is given after a start, which is not what this is about.
        let limits = Limits { restart_grace_ms: 0, ..Limits::default() };
        let (registry, defaults) = office(&clock, limits).await;
        Self { clock, registry, defaults }
    }

    fn target(&self) -> Target<'static> {
        samples::target(&self.defaults, "101")
    }

    fn device(&self) -> DeviceId {
        self.target().device()
    }

    /// A mirror shows a 2xx: bound for so long.
    fn sip(&self, seconds: u64) {
        let bound = vec![samples::binding(&self.registry, "101", BindingSource::Passive, seconds * 1_000)];
        samples::set_bindings(&self.registry, &self.defaults, "101", BindingSource::Passive, bound);
    }

    fn contact(&self, expires_s: i64) -> ReportedContact {
        let known = samples::binding(&self.registry, "101", BindingSource::Passive, 1);
        ReportedContact {
            uri: known.contact.into(),
            expires_at: Some(UnixMillis(self.clock.now().unix.0 + expires_s * 1_000)),
            user_agent: Some("Told by a connector".into()),
            received: "10.9.9.9:5060".parse().ok(),
            ..ReportedContact::default()
        }
    }

    /// A connector answers with the whole list.
    fn lists(&self, contacts: Vec<ReportedContact>) {
        self.registry.contacts_reported(&self.target(), contacts, true, self.clock.now());
    }

    fn pass(&self, seconds: u64) {
        for _ in 0..seconds.min(1_000) {
            self.clock.advance(Duration::from_millis(seconds * 1_000 / seconds.min(1_000)));
            while self.registry.expire(self.clock.now()) {}
        }
    }

    fn state(&self) -> DeviceState {
        self.registry.device(self.device()).unwrap().state
    }

    fn bound(&self) -> Vec<Binding> {
        self.registry.bindings(self.device())
    }

    async fn history(&self) -> Vec<String> {
        self.registry.drain(Duration::from_secs(5)).await.unwrap();
        let page = self.registry.transitions(self.device(), None, 50).await.unwrap();
        page.items.iter().map(|transition| format!("{:?}", transition.kind)).collect()
    }
}

#[tokio::test]
async fn a_connector_alone_binds_extends_and_ends() {
    let site = Site::open().await;
    site.lists(vec![site.contact(600)]);
    assert_eq!((site.state(), site.bound().len()), (DeviceState::Connected, 1));
    assert_eq!(site.bound()[0].user_agent.as_deref(), Some("Told by a connector"));
    site.pass(500);
    site.lists(vec![site.contact(600)]);
    assert_eq!(site.bound()[0].refreshed_at, site.clock.now().unix, "a later end is a refresh");
    site.pass(500);
    assert_eq!(site.state(), DeviceState::Connected);
    let uri = site.contact(1).uri;
    site.registry.contact_gone(&site.target(), &uri, site.clock.now());
    assert_eq!(site.state(), DeviceState::Disconnected);
    assert_eq!(site.history().await, ["Down", "Up"]);
}

#[tokio::test]
async fn sip_is_exact_and_a_connector_fills_in_only_what_it_did_not_say() {
    let site = Site::open().await;
    site.sip(3_600);
    let before = site.bound();
    site.pass(10);
    site.lists(vec![site.contact(3_590)]);
    assert_eq!(site.bound(), before, "Contact, expires, Call-ID, CSeq, address and user agent");
    site.lists(vec![ReportedContact { expires_at: Some(UnixMillis(START.0 + 3_601_500)), ..site.contact(1) }]);
    assert_eq!(site.bound(), before, "a second off is the same");
}

#[tokio::test]
async fn an_identical_report_is_no_change_no_event_and_no_row() {
    let site = Site::open().await;
    site.lists(vec![site.contact(3_600)]);
    site.registry.drain(Duration::from_secs(5)).await.unwrap();
    let latest = site.registry.latest();
    for _ in 0..5 {
        site.registry.contacts_reported(&site.target(), vec![site.contact(3_600)], true, site.clock.now());
    }
    assert_eq!(site.registry.latest(), latest);
}

#[tokio::test]
async fn an_end_that_a_connector_tells_counts_when_it_is_off_by_more_than_seconds() {
    let site = Site::open().await;
    site.sip(3_600);
    site.pass(60);
    site.lists(vec![site.contact(3_600)]);
    let bound = site.bound();
    assert_eq!(bound[0].expires_at, site.clock.now().tick + 3_600_000, "SIP did not show that refresh");
    assert_eq!((bound[0].refreshed_at, bound[0].cseq > 0), (site.clock.now().unix, true), "and it is still SIP's");
    site.pass(60);
    site.lists(vec![site.contact(120)]);
    assert_eq!(site.bound()[0].expires_at, site.clock.now().tick + 120_000, "the registrar granted less");
}

#[tokio::test]
async fn a_list_ends_what_it_leaves_out_but_not_what_sip_set_after_it_was_asked_for() {
    let site = Site::open().await;
    site.sip(3_600);
    site.pass(60);
    let asked = site.clock.now();
    site.pass(2);
    site.sip(3_600);
    site.registry.contacts_reported(&site.target(), Vec::new(), true, asked);
    assert_eq!(site.bound().len(), 1, "the refresh is newer than the list");
    site.pass(60);
    site.lists(Vec::new());
    assert_eq!((site.bound().len(), site.state()), (0, DeviceState::Disconnected));
}

#[tokio::test]
async fn a_removal_crosses_a_refresh_by_milliseconds_and_the_refresh_stays() {
    let site = Site::open().await;
    site.sip(3_600);
    let uri = site.contact(1).uri;
    site.clock.advance(Duration::from_millis(15));
    site.registry.contact_gone(&site.target(), &uri, site.clock.now());
    assert_eq!(site.bound().len(), 1);
    site.pass(5);
    site.registry.contact_gone(&site.target(), &uri, site.clock.now());
    assert_eq!(site.bound().len(), 0, "a removal that is really later counts");
}

#[tokio::test]
async fn what_we_granted_ourselves_no_connector_touches() {
    let site = Site::open().await;
    samples::register(&site.registry, &site.defaults, "101");
    let before = site.bound();
    site.pass(60);
    site.lists(Vec::new());
    site.lists(vec![site.contact(5)]);
    let uri = site.contact(1).uri;
    site.registry.contact_gone(&site.target(), &uri, site.clock.now());
    assert_eq!(site.bound(), before);
}

#[tokio::test]
async fn reachable_makes_no_binding_and_unreachable_ends_none() {
    let site = Site::open().await;
    let uri = site.contact(1).uri;
    let ping = |reachable| {
        site.registry.reachability(&site.target(), Some(&uri), Some(reachable), Some(8_000), site.clock.now());
    };
    ping(true);
    assert!(site.registry.device(site.device()).is_none(), "no device comes of it");
    site.sip(120);
    ping(false);
    assert_eq!((site.state(), site.registry.is_reachable(site.device())), (DeviceState::Connected, Some(false)));
    // AMI says reachable, HEP showed a refresh, and the binding expires all the same: nobody lists it.
    ping(true);
    site.pass(119);
    site.sip(120);
    site.pass(100);
    assert_eq!(site.state(), DeviceState::Connected);
    site.pass(30);
    ping(true);
    assert_eq!(site.state(), DeviceState::Stale);
    site.pass(305);
    assert_eq!((site.state(), site.bound().len()), (DeviceState::Disconnected, 0));
    assert_eq!(site.history().await, ["Down", "Up"]);
}

#[tokio::test]
async fn a_listed_contact_outlives_its_time_while_its_connector_is_up_and_then_has_its_grace() {
    let site = Site::open().await;
    let feed = site.registry.feeds.open(site.defaults.pbx, "ami", FeedKind::Asterisk, site.clock.now());
    site.sip(120);
    site.lists(vec![site.contact(120)]);
    feed.up(site.clock.now());
    site.pass(7_200);
    assert_eq!((site.state(), site.bound().len()), (DeviceState::Connected, 1), "refreshes it does not tell of");
    feed.failed(site.clock.now(), "cut", UnixMillis(0));
    site.pass(60);
    assert_eq!(site.state(), DeviceState::Stale);
    // Cut for a minute and there again: nothing happened to the phone.
    feed.up(site.clock.now());
    site.lists(vec![ReportedContact { user_agent: None, ..site.contact(-5) }]);
    site.pass(60);
    assert_eq!(site.state(), DeviceState::Connected);
    feed.failed(site.clock.now(), "cut", UnixMillis(0));
    site.pass(295);
    assert_eq!(site.state(), DeviceState::Stale);
    site.pass(10);
    assert_eq!(site.state(), DeviceState::Disconnected);
    assert_eq!(site.history().await, ["Down", "Up"]);
}

#[tokio::test]
async fn what_is_no_longer_listed_expires_also_while_the_connector_is_up() {
    let site = Site::open().await;
    let feed = site.registry.feeds.open(site.defaults.pbx, "ami", FeedKind::Asterisk, site.clock.now());
    site.lists(vec![site.contact(120)]);
    feed.up(site.clock.now());
    site.pass(60);
    // The answer to the next snapshot has other phones in it only; SIP showed a refresh meanwhile.
    let asked = site.clock.now();
    site.sip(120);
    let other = ReportedContact { uri: "sip:102@192.0.2.9:5060".into(), ..ReportedContact::default() };
    site.registry.pbx_contacts_reported(site.defaults.pbx, vec![("102".into(), None, vec![other])], asked);
    assert_eq!(site.state(), DeviceState::Connected);
    site.pass(130);
    assert_eq!(site.state(), DeviceState::Stale, "nobody lists it");
    site.registry.pbx_contacts_reported(site.defaults.pbx, Vec::new(), site.clock.now());
    let other = samples::target(&site.defaults, "102").device();
    assert_eq!(site.registry.device(other).unwrap().state, DeviceState::Disconnected, "listed before, and not now");
}

#[tokio::test]
async fn a_leg_that_rings_proves_its_device_alive() {
    let site = Site::open().await;
    site.sip(120);
    site.registry.reachability(&site.target(), None, Some(false), None, site.clock.now());
    site.pass(400);
    assert_eq!(site.state(), DeviceState::Stale, "20 seconds of grace are left");
    site.registry.device_in_call(site.device(), site.clock.now().unix, false, None);
    assert_eq!(site.registry.is_reachable(site.device()), Some(true));
    site.pass(290);
    assert_eq!((site.state(), site.bound().len()), (DeviceState::Stale, 1));
    site.pass(20);
    assert_eq!(site.bound().len(), 0);
}

#[tokio::test]
async fn a_contact_that_the_pbx_rewrote_for_nat_is_the_one_sip_showed() {
    let site = Site::open().await;
    site.sip(3_600);
    let known = site.bound().remove(0);
    let by_call_id = ReportedContact {
        uri: "sip:101@203.0.113.7:40112".into(),
        call_id: Some(known.call_id.to_string()),
        ..site.contact(3_600)
    };
    site.pass(10);
    site.lists(vec![ReportedContact { expires_at: Some(UnixMillis(START.0 + 3_600_000)), ..by_call_id }]);
    assert_eq!(site.bound(), [known], "one phone, one binding");

    let contact = |uri: &str| ReportedContact { uri: uri.into(), ..ReportedContact::default() };
    let target = samples::target(&site.defaults, "105");
    site.registry.contacts_reported(&target, vec![contact("sip:105@10.0.0.5:5060")], false, site.clock.now());
    let rewritten = contact("sip:105@203.0.113.7:40113;x-ast-orig-host=10.0.0.5:5060");
    site.registry.contacts_reported(&target, vec![rewritten], true, site.clock.now());
    assert_eq!(site.registry.bindings(target.device()).len(), 1);
}

#[tokio::test]
async fn a_snapshot_of_five_thousand_known_contacts_writes_nothing() {
    let site = Site::open().await;
    let table = || {
        let contact = |n: u32| ReportedContact {
            uri: format!("sip:{n}@192.0.2.9:5060"),
            expires_at: Some(UnixMillis(START.0 + 3_600_000)),
            reachable: Some(true),
            rtt_us: Some(4_000),
            ..ReportedContact::default()
        };
        (10_000..15_000).map(|n| (n.to_string(), None, vec![contact(n)])).collect::<Vec<_>>()
    };
    site.registry.pbx_contacts_reported(site.defaults.pbx, table(), site.clock.now());
    assert_eq!(site.registry.device_count(site.defaults.account), 5_000);
    site.registry.drain(Duration::from_secs(20)).await.unwrap();
    let latest = site.registry.latest();
    site.pass(300);
    site.registry.pbx_contacts_reported(site.defaults.pbx, table(), site.clock.now());
    assert_eq!(site.registry.latest(), latest);
}
