//! Queues and members as connectors report them.

use std::sync::Arc;
use std::time::Duration;

use hookswitch::clock::Clock;
use hookswitch::model::{Account, AccountId, DeviceId, Member, MemberKind, MemberState, Queue};
use hookswitch::registry::{Defaults, DriftKind, Limits, Registry, ReportedMember, ReportedQueue, Side};

use crate::office;
use crate::samples::{self, START};

fn member(user: &str) -> ReportedMember {
    ReportedMember {
        user: user.into(),
        kind: MemberKind::Dynamic,
        state: MemberState::Free,
        ..ReportedMember::default()
    }
}

fn queue(name: &str, users: &[&str]) -> ReportedQueue {
    ReportedQueue { name: name.into(), number: None, members: users.iter().map(|user| member(user)).collect() }
}

fn find(registry: &Registry, defaults: &Defaults, name: &str) -> Arc<hookswitch::store::Stored<Queue>> {
    let page = registry.queues.page(defaults.account, None, 100, |queue| queue.name == name);
    page.items.into_iter().next().unwrap_or_else(|| panic!("no queue {name}"))
}

fn users(registry: &Registry, queue: &Queue) -> Vec<String> {
    let name = |id: DeviceId| registry.device(id).unwrap().device.user.to_string();
    let mut users: Vec<_> = queue.members.iter().map(|member| name(member.device)).collect();
    users.sort();
    users
}

#[tokio::test]
async fn queues_and_members_appear_by_themselves_with_how_they_are() {
    let (registry, defaults) = office(&Clock::manual(START), Limits::default()).await;
    let now = registry.clock().now();
    let paused = ReportedMember {
        paused: true,
        pause_reason: Some(" lunch\0 ".into()),
        penalty: 5,
        kind: MemberKind::Static,
        state: MemberState::InUse,
        ..member("102")
    };
    let support =
        ReportedQueue { number: Some("600".into()), members: vec![member("101"), paused], ..queue("support", &[]) };
    registry.queues_reported(defaults.pbx, vec![support], now);
    let row = find(&registry, &defaults, "support");
    assert!(row.value.is_fed());
    assert_eq!(
        (row.value.number.as_deref(), users(&registry, &row.value)),
        (Some("600"), vec!["101".into(), "102".into()])
    );
    let device = samples::target(&defaults, "102").device();
    let known = row.value.member(device).unwrap();
    assert_eq!((known.paused, known.pause_reason.as_deref(), known.penalty), (true, Some("lunch"), 5));
    assert_eq!((known.kind, known.state, known.since), (MemberKind::Static, MemberState::InUse, START));
}

#[tokio::test]
async fn an_identical_report_changes_nothing_and_a_state_is_no_row_and_no_new_version() {
    let clock = Clock::manual(START);
    let (registry, defaults) = office(&clock, Limits::default()).await;
    let pbx = defaults.pbx;
    registry.queues_reported(pbx, vec![queue("support", &["101", "102"])], clock.now());
    registry.drain(Duration::from_secs(5)).await.unwrap();
    let (latest, before) = (registry.latest(), find(&registry, &defaults, "support"));
    clock.advance(Duration::from_secs(300));
    registry.queues_reported(pbx, vec![queue("SUPPORT", &["102", "101"])], clock.now());
    assert!(Arc::ptr_eq(&before, &find(&registry, &defaults, "support")), "the very same");
    let ringing = ReportedMember { state: MemberState::Ringing, ..member("101") };
    registry.member_reported(pbx, "support", ringing.clone(), clock.now());
    assert_eq!(registry.latest(), latest, "how a member is, is not stored");
    registry.member_reported(pbx, "support", ReportedMember { paused: true, ..ringing }, clock.now());
    let after = find(&registry, &defaults, "support");
    assert!(registry.latest() > latest && after.seq == before.seq, "stored, and the version admins edit is the same");
    assert!(after.value.members.iter().all(|member| member.since == START));
}

#[tokio::test]
async fn a_queue_the_pbx_no_longer_has_is_marked_and_comes_back() {
    let (registry, defaults) = office(&Clock::manual(START), Limits::default()).await;
    let (pbx, now) = (defaults.pbx, registry.clock().now());
    registry.queues_reported(pbx, vec![queue("sales", &["101"]), queue("support", &["101"])], now);
    registry.queues_reported(pbx, vec![queue("support", &["101"])], now);
    let gone = find(&registry, &defaults, "sales");
    assert_eq!((gone.value.absent_since, gone.value.is_fed()), (Some(START), false));
    assert_eq!(gone.value.members.len(), 1, "nothing is lost by it");
    assert!(find(&registry, &defaults, "support").value.is_fed());
    registry.queues_reported(pbx, vec![queue("sales", &["101"])], now);
    assert!(find(&registry, &defaults, "sales").value.is_fed());
}

#[tokio::test]
async fn a_member_put_in_by_hand_stays_as_drift_until_the_pbx_has_had_it() {
    let (registry, defaults) = office(&Clock::manual(START), Limits::default()).await;
    let (pbx, now) = (defaults.pbx, registry.clock().now());
    let (by_hand, _) = samples::register(&registry, &defaults, "103");
    let stored = registry.pbxs.get(pbx).unwrap();
    let made = Queue { reported: false, absent_since: None, ..samples::queue(&registry, &stored.value, Some(by_hand)) };
    let id = registry.create_queue(made).unwrap().value.id;
    registry.queue_reported(pbx, queue("Support", &["101"]), now);
    let of = || registry.queues.get(id).unwrap().value.clone();
    assert_eq!(users(&registry, &of()), ["101", "103"]);
    let drift = registry.drift(pbx).0;
    let manual: Vec<_> = drift.iter().filter(|d| d.kind == DriftKind::Member).collect();
    assert_eq!((manual.len(), manual[0].device, manual[0].only), (1, Some(by_hand), Side::Here));

    registry.member_reported(pbx, "support", member("103"), now);
    assert_eq!(of().member(by_hand).unwrap().kind, MemberKind::Dynamic);
    assert!(registry.drift(pbx).0.iter().all(|d| d.kind != DriftKind::Member));
    registry.member_gone(pbx, "Support", "103", now);
    assert_eq!(users(&registry, &of()), ["101"], "the PBX had it, and has let it go");
    registry.queue_reported(pbx, queue("support", &[]), now);
    assert!(of().members.is_empty());
}

#[tokio::test]
async fn tenants_members_go_to_their_own_queues_or_are_left_out() {
    let (registry, defaults) = office(&Clock::manual(START), Limits::default()).await;
    let (pbx, now) = (defaults.pbx, registry.clock().now());
    let tenant = |domain: &str| Account {
        id: AccountId(registry.clock().uuid()),
        parent: Some(defaults.account),
        domains: vec![domain.into()],
        ..samples::account(&registry, Some(defaults.account))
    };
    let (red, blue) = (tenant("red.example"), tenant("blue.example"));
    registry.create_account(red.clone()).unwrap();
    registry.create_account(blue.clone()).unwrap();
    let of = |user: &str, domain: &str| ReportedMember { domain: Some(domain.into()), ..member(user) };
    registry.queue_reported(pbx, queue("sales@red.example", &["101"]), now);
    let mixed =
        ReportedQueue { members: vec![of("101", "blue.example"), of("102", "blue.example")], ..queue("help", &[]) };
    registry.queue_reported(pbx, mixed, now);
    registry.member_reported(pbx, "help", of("101", "red.example"), now);
    let queues = |account| registry.queues.page(account, None, 9, |_| true).items;
    let (reds, blues) = (queues(red.id), queues(blue.id));
    assert_eq!(
        (reds.len(), &*reds[0].value.name, users(&registry, &reds[0].value)),
        (1, "sales@red.example", vec!["101".into()])
    );
    assert_eq!(registry.device(reds[0].value.members[0].device).unwrap().device.account, red.id);
    assert_eq!(
        (blues.len(), users(&registry, &blues[0].value)),
        (1, vec!["101".into(), "102".into()]),
        "not red's 101"
    );
    assert!(queues(defaults.account).is_empty());
}

#[tokio::test]
async fn a_member_that_is_no_extension_makes_no_device() {
    let (registry, defaults) = office(&Clock::manual(START), Limits::default()).await;
    let (pbx, now) = (defaults.pbx, registry.clock().now());
    registry.endpoints_reported(pbx, vec!["101".into(), "102".into()], now);
    registry.queue_reported(pbx, queue("support", &["101", "14155550177"]), now);
    assert_eq!(users(&registry, &find(&registry, &defaults, "support").value), ["101"]);
    assert_eq!(registry.device_count(defaults.account), 1);
}

#[tokio::test]
async fn drift_compares_only_what_a_feed_has_told() {
    let (registry, defaults) = office(&Clock::manual(START), Limits::default()).await;
    let (pbx, now) = (defaults.pbx, registry.clock().now());
    let (here, _) = samples::register(&registry, &defaults, "103");
    let (drift, compared) = registry.drift(pbx);
    assert_eq!((drift.len(), compared.extensions_at, compared.queues_at), (0, None, None));

    registry.endpoints_reported(pbx, vec!["101".into(), "103".into()], now);
    registry.queues_reported(pbx, vec![queue("support", &["103"])], now);
    let ann = registry.create_user(samples::user(&registry, defaults.account, "ann")).unwrap().value.id;
    registry.link(ann, here, START).unwrap();
    let kinds = || -> Vec<(DriftKind, Side)> { registry.drift(pbx).0.iter().map(|d| (d.kind, d.only)).collect() };
    assert_eq!(kinds(), [(DriftKind::Extension, Side::Pbx), (DriftKind::UserQueue, Side::Pbx)]);
    let id = find(&registry, &defaults, "support").value.id;
    registry
        .update_user(ann, None, |user| {
            user.queues = vec![id];
            Ok(())
        })
        .unwrap();
    registry.ensure_device(&samples::target(&defaults, "101"), now);
    assert_eq!(kinds(), []);

    registry.endpoints_reported(pbx, vec!["101".into()], now);
    registry.member_gone(pbx, "support", "103", now);
    assert_eq!(kinds(), [(DriftKind::Device, Side::Here), (DriftKind::UserQueue, Side::Here)]);
    registry.queues_reported(pbx, Vec::new(), now);
    assert_eq!(kinds(), [(DriftKind::Device, Side::Here), (DriftKind::Queue, Side::Here)]);
}

#[tokio::test]
async fn who_waits_for_the_pbx_hears_when_it_confirms() {
    let (registry, defaults) = office(&Clock::manual(START), Limits::default()).await;
    let (pbx, now) = (defaults.pbx, registry.clock().now());
    registry.queue_reported(pbx, queue("support", &[]), now);
    let id = find(&registry, &defaults, "support").value.id;
    let joined = |queue: &Queue| queue.members.iter().any(|member: &Member| !member.paused);
    let waiting = tokio::spawn({
        let registry = registry.clone();
        async move { registry.queue_confirms(id, Duration::from_secs(30), joined).await }
    });
    registry.member_reported(pbx, "support", member("101"), now);
    assert!(waiting.await.unwrap());
    assert!(!registry.queue_confirms(id, Duration::from_millis(20), |queue| queue.members.is_empty()).await);
}
