//! Bindings come, are refreshed, move, turn stale and go.

use std::sync::Arc;
use std::time::Duration;

use hookswitch::clock::Clock;
use hookswitch::model::{Binding, BindingSource, DeviceId, DeviceState, TransitionKind};
use hookswitch::registry::{Change, Limits, Registry, Seq};
use hookswitch::switchboard::View as _;

use crate::office;
use crate::samples::{self, START};

#[tokio::test]
async fn a_phone_is_up_once_down_once_and_never_for_a_refresh() {
    let clock = Clock::manual(START);
    let (registry, defaults) = office(&clock, Limits::default()).await;
    let (device, _) = samples::register(&registry, &defaults, "101");
    for _ in 0..5 {
        clock.advance(Duration::from_secs(30));
        samples::register(&registry, &defaults, "101");
    }
    samples::set_bindings(&registry, &defaults, "101", BindingSource::Registrar, Vec::new());
    assert_eq!(registry.device(device).unwrap().state, DeviceState::Disconnected);
    assert_eq!(
        history(&registry, device).await,
        [(TransitionKind::Down, "unregistered".into()), (TransitionKind::Up, "registered".into())]
    );
}

#[tokio::test]
async fn a_new_address_or_firmware_is_news_and_a_new_nat_port_is_not() {
    let (registry, defaults) = office(&Clock::manual(START), Limits::default()).await;
    let (device, _) = samples::register(&registry, &defaults, "101");
    let bind = |change: &dyn Fn(&mut Binding)| {
        let mut binding = samples::binding(&registry, "101", BindingSource::Registrar, 3_600_000);
        change(&mut binding);
        samples::set_bindings(&registry, &defaults, "101", BindingSource::Registrar, vec![binding]);
    };
    bind(&|binding| binding.received = "198.51.100.7:50999".parse().ok());
    bind(&|binding| {
        // Another network: contact, Call-ID and address are new, and there is no instance to tell it by.
        binding.received = "203.0.113.5:5060".parse().ok();
        binding.contact = "sip:101@203.0.113.5".into();
        binding.call_id = "another".into();
        binding.instance = None;
    });
    bind(&|binding| {
        binding.received = "203.0.113.5:5060".parse().ok();
        binding.user_agent = Some("Fictional Phone 10.0".into());
    });
    assert_eq!(
        history(&registry, device).await,
        [
            (TransitionKind::UserAgentChanged, "replaced".into()),
            (TransitionKind::AddressChanged, "replaced".into()),
            (TransitionKind::Up, "registered".into())
        ]
    );
}

#[tokio::test]
async fn what_we_granted_ends_on_time_and_what_a_pbx_granted_turns_stale_first() {
    let clock = Clock::manual(START);
    let (registry, defaults) = office(&clock, Limits::default()).await;
    let bind = |user: &str, source| {
        let bound = vec![samples::binding(&registry, user, source, 60_000)];
        samples::set_bindings(&registry, &defaults, user, source, bound).device
    };
    let (granted, passive) = (bind("101", BindingSource::Registrar), bind("102", BindingSource::Passive));
    let after = |seconds: u64| {
        clock.advance(Duration::from_secs(seconds));
        while registry.expire(clock.now()) {}
        [granted, passive].map(|id| registry.device(id).unwrap().state)
    };
    assert_eq!(after(59), [DeviceState::Connected, DeviceState::Connected]);
    assert_eq!(after(1), [DeviceState::Disconnected, DeviceState::Stale]);
    // The default PBX gives passive bindings 300 seconds.
    assert_eq!(after(299), [DeviceState::Disconnected, DeviceState::Stale]);
    // And are looked at once a second.
    assert_eq!(after(2), [DeviceState::Disconnected, DeviceState::Disconnected]);
    assert_eq!(history(&registry, granted).await[0], (TransitionKind::Down, "expired".into()));
    assert_eq!(history(&registry, passive).await[0], (TransitionKind::Down, "stale".into()));
}

#[tokio::test]
async fn a_refresh_moves_the_deadline_and_an_earlier_one_is_kept_too() {
    let clock = Clock::manual(START);
    let (registry, defaults) = office(&clock, Limits::default()).await;
    let bind = |expires_ms| {
        let bound = vec![samples::binding(&registry, "101", BindingSource::Registrar, expires_ms)];
        samples::set_bindings(&registry, &defaults, "101", BindingSource::Registrar, bound).device
    };
    let device = bind(60_000);
    clock.advance(Duration::from_secs(50));
    bind(60_000);
    clock.advance(Duration::from_secs(50));
    registry.expire(clock.now());
    assert_eq!(registry.device(device).unwrap().state, DeviceState::Connected, "refreshed after 50 seconds");
    bind(3_600_000);
    bind(5_000);
    clock.advance(Duration::from_secs(6));
    registry.expire(clock.now());
    assert_eq!(registry.device(device).unwrap().state, DeviceState::Disconnected);
    let last: Vec<_> = history(&registry, device).await;
    assert_eq!(last[0], (TransitionKind::Down, "expired".into()));
}

#[tokio::test]
async fn an_answer_waits_for_what_it_shows_and_passive_changes_keep_nobody_waiting() {
    let (registry, defaults) = office(&Clock::manual(START), Limits::default()).await;
    let target = samples::target(&defaults, "101");
    let now = registry.clock().now();
    let query = || registry.register(&target, BindingSource::Registrar, now, |known| (Change::Keep, known.len()));
    assert_eq!((query().value, query().seq), (0, None), "a query makes no device");
    assert!(registry.device(target.device()).is_none());

    let (device, seq) = samples::register(&registry, &defaults, "101");
    assert_eq!((query().value, query().seq), (1, Some(seq)));
    assert_eq!(registry.device(device).unwrap().awaits, seq);

    let mirrored = vec![samples::binding(&registry, "102", BindingSource::Passive, 60_000)];
    let mirrored = samples::set_bindings(&registry, &defaults, "102", BindingSource::Passive, mirrored);
    assert_eq!(mirrored.seq, None);
    assert_eq!(registry.device(mirrored.device).unwrap().awaits, Seq(0));
}

#[tokio::test]
async fn devices_appear_at_a_bounded_rate_and_known_ones_are_not_held_back() {
    let clock = Clock::manual(START);
    let limits = Limits { devices_per_second_max: 2, devices_burst_max: 3, ..Limits::default() };
    let (registry, defaults) = office(&clock, limits).await;
    let appear = |user: usize| {
        let bound = vec![samples::binding(&registry, "x", BindingSource::Registrar, 60_000)];
        samples::set_bindings(&registry, &defaults, &user.to_string(), BindingSource::Registrar, bound).refused
    };
    assert_eq!((0..5).map(appear).filter(Option::is_none).count(), 3);
    assert_eq!(appear(7), Some("devices_per_second_max"));
    assert_eq!(appear(0), None, "a known device may always refresh");
    assert_eq!(registry.device_count(defaults.account), 3);
    clock.advance(Duration::from_secs(1));
    assert_eq!((10..15).map(appear).filter(Option::is_none).count(), 2);
}

#[tokio::test]
async fn a_contact_is_found_while_it_is_bound_and_not_afterwards() {
    let clock = Clock::manual(START);
    let (registry, defaults) = office(&clock, Limits::default()).await;
    let key = |contact: &str| hookswitch::sip::Uri::parse(contact).unwrap().key();
    let bind = |user: &str, contacts: &[&str]| {
        let bindings = contacts.iter().map(|contact| Binding {
            contact: (*contact).into(),
            ..samples::binding(&registry, user, BindingSource::Passive, 60_000)
        });
        samples::set_bindings(&registry, &defaults, user, BindingSource::Passive, bindings.collect()).device
    };
    let one = bind("101", &["sip:101@192.0.2.10:5062;transport=udp", "sip:a@[2001:DB8::1]"]);
    let find = |contact: &str| registry.devices_by_contact(defaults.pbx, &key(contact)).to_vec();
    assert_eq!(find("sip:101@192.0.2.10:5062"), [one]);
    assert_eq!(find("sip:a@[2001:db8::1];x=y"), [one]);
    assert_eq!(find("sip:101@192.0.2.10"), [], "another port");
    // Two phones behind two routers may well have the same private contact: both are named.
    let two = bind("102", &["sip:101@192.0.2.10:5062"]);
    let mut both = [one, two];
    both.sort();
    assert_eq!(find("sip:101@192.0.2.10:5062"), both);
    bind("101", &["sip:101@192.0.2.10:5062;transport=tcp", "sip:101@192.0.2.10:5062;transport=udp"]);
    bind("101", &["sip:101@192.0.2.10:5062;transport=udp"]);
    assert_eq!(find("sip:101@192.0.2.10:5062"), both, "parameters apart it is still bound");
    bind("101", &["sip:101@192.0.2.99:5062"]);
    assert_eq!(find("sip:101@192.0.2.10:5062"), [two]);
    assert_eq!(find("sip:a@[2001:db8::1]"), []);
    assert_eq!(find("sip:101@192.0.2.99:5062"), [one]);
    assert_eq!(registry.device_is_at(one, "192.0.2.99".parse().unwrap()), Some(true));
    assert_eq!(registry.device_is_at(one, "198.51.100.7".parse().unwrap()), Some(true), "where it was heard from");
    assert_eq!(registry.device_is_at(one, "192.0.2.10".parse().unwrap()), Some(false));
    bind("101", &[]);
    assert_eq!(registry.device_is_at(one, "192.0.2.99".parse().unwrap()), None);
}

#[tokio::test]
async fn phones_of_one_firmware_share_one_string_and_nul_never_gets_in() {
    let (registry, defaults) = office(&Clock::manual(START), Limits::default()).await;
    let agent_of = |user: &str| {
        let (device, _) = samples::register(&registry, &defaults, user);
        registry.bindings(device)[0].user_agent.clone().unwrap()
    };
    let (a, b) = (agent_of("101"), agent_of("102"));
    assert!(Arc::ptr_eq(&a, &b) && Arc::ptr_eq(&a, &agent_of("101")));
    let dirty = Binding {
        contact: "sip:1\0@192.0.2.1".into(),
        call_id: "\0".into(),
        user_agent: Some("x\0".into()),
        path: Some("\0\0p".into()),
        ..samples::binding(&registry, "103", BindingSource::Registrar, 60_000)
    };
    let done = samples::set_bindings(&registry, &defaults, "103", BindingSource::Registrar, vec![dirty]);
    let kept = &registry.bindings(done.device)[0];
    assert_eq!((&*kept.contact, &*kept.call_id, kept.path.as_deref()), ("sip:1@192.0.2.1", "", Some("p")));
    assert_eq!(kept.user_agent.as_deref(), Some("x"));
    registry.committed(done.seq.unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registering_deleting_and_expiring_at_once_leaves_the_indexes_true() {
    let clock = Clock::manual(START);
    let (registry, defaults) = office(&clock, Limits::default()).await;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..4_u64 {
        let (registry, defaults, clock) = (registry.clone(), defaults.clone(), clock.clone());
        tasks.spawn_blocking(move || {
            for round in 0..1_000_u64 {
                let user = ((round * 7 + task) % 13).to_string();
                let bound = Binding {
                    contact: format!("sip:{user}@192.0.2.{}", (round + task) % 5).into(),
                    ..samples::binding(&registry, &user, BindingSource::Registrar, round % 3 * 1_000)
                };
                samples::set_bindings(&registry, &defaults, &user, BindingSource::Registrar, vec![bound]);
                if round % 11 == 0 {
                    let _ = registry.delete_device(samples::target(&defaults, &user).device(), None);
                }
                if round % 17 == 0 {
                    clock.advance(Duration::from_millis(700));
                    registry.expire(clock.now());
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let all = hookswitch::registry::DeviceFilter::default();
    let listed = registry.devices_page(defaults.account, &all, None, 1_000).items;
    assert_eq!(listed.len(), registry.device_count(defaults.account));
    for n in 0..13 {
        let user = n.to_string();
        let device = samples::target(&defaults, &user).device();
        let present = listed.iter().any(|view| view.device.id == device);
        assert_eq!(registry.device(device).is_some(), present, "{user}");
        assert_eq!(registry.devices_by_extension(defaults.pbx, &user).contains(&device), present, "{user}");
        for host in 0..5 {
            let contact = format!("sip:{user}@192.0.2.{host}");
            let bound = registry.bindings(device).iter().any(|binding| *binding.contact == *contact);
            let key = hookswitch::sip::Uri::parse(&contact).unwrap().key();
            assert_eq!(registry.devices_by_contact(defaults.pbx, &key).contains(&device), bound, "{contact}");
        }
    }
}

async fn history(registry: &Registry, device: DeviceId) -> Vec<(TransitionKind, String)> {
    let page = registry.transitions(device, None, 100).await.expect("an answer");
    page.items.into_iter().map(|transition| (transition.kind, transition.cause)).collect()
}
