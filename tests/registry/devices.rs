//! Listing and editing devices.

use hookswitch::clock::Clock;
use hookswitch::model::{BindingSource, DeviceState, UnixMillis};
use hookswitch::registry::{ChangeError, DeviceFilter, Limits, Registry};

use crate::office;
use crate::samples::{self, START};

#[tokio::test]
async fn extensions_are_listed_by_length_first_so_99_comes_before_100() {
    let (registry, defaults) = office(&Clock::manual(START), Limits::default()).await;
    for user in ["100", "99", "1000", "reception", "7", "101"] {
        samples::register(&registry, &defaults, user);
    }
    let (renamed, _) = samples::register(&registry, &defaults, "obscure-device-name");
    registry
        .update_device(renamed, None, |device| {
            device.extension = Some("98".into());
            Ok(())
        })
        .unwrap();
    let mut listed = Vec::new();
    let mut after = None;
    loop {
        let page = registry.devices_page(defaults.account, &DeviceFilter::default(), after.as_deref(), 2);
        listed.extend(
            page.items.iter().map(|view| view.device.extension.as_deref().unwrap_or(&view.device.user).to_owned()),
        );
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(listed, ["7", "98", "99", "100", "101", "1000", "reception"]);
}

#[tokio::test]
async fn the_last_page_of_a_hundred_thousand_devices_costs_what_the_first_does() {
    let many = Limits { devices_burst_max: 1_000_000, devices_max: 100_000, ..Limits::default() };
    let (registry, defaults) = office(&Clock::manual(START), many).await;
    for n in 0..100_000 {
        let bound = vec![samples::binding(&registry, "x", BindingSource::Passive, 3_600_000)];
        samples::set_bindings(&registry, &defaults, &format!("{n:06}"), BindingSource::Passive, bound);
    }
    let page = |after: Option<&str>| registry.devices_page(defaults.account, &DeviceFilter::default(), after, 50);
    let first = page(None);
    assert_eq!(first.items.len(), 50);
    let nearly_last = format!("099949~{}", "f".repeat(32));
    let last = page(Some(&nearly_last));
    assert_eq!(last.items.last().map(|view| &*view.device.user), Some("099999"));
    assert_eq!((last.items.len(), last.next.clone()), (50, None));
    assert!(first.visited <= 51 && last.visited <= 51, "{} and {}", first.visited, last.visited);

    let one_more = vec![samples::binding(&registry, "x", BindingSource::Passive, 3_600_000)];
    let refused = samples::set_bindings(&registry, &defaults, "one-more", BindingSource::Passive, one_more);
    assert_eq!(refused.refused, Some("devices_max"));
    assert!(registry.device(refused.device).is_none());
}

#[tokio::test]
async fn a_cursor_survives_the_device_it_points_at_and_any_text_is_one() {
    let (registry, defaults) = office(&Clock::manual(START), Limits::default()).await;
    for user in ["1", "2", "3", "4"] {
        samples::register(&registry, &defaults, user);
    }
    let all = DeviceFilter::default();
    let page = registry.devices_page(defaults.account, &all, None, 2);
    registry.delete_device(page.items[1].device.id, None).unwrap();
    let rest = registry.devices_page(defaults.account, &all, page.next.as_deref(), 9);
    assert_eq!(rest.items.iter().map(|view| &*view.device.user).collect::<Vec<_>>(), ["3", "4"]);
    for cursor in ["", "~", "3", "ü~", "~~~~", "2~zzzz", &"~é".repeat(40)] {
        let _ = registry.devices_page(defaults.account, &all, Some(cursor), 2);
    }
}

#[tokio::test]
async fn filters_find_what_an_admin_looks_for() {
    let clock = Clock::manual(START);
    let (registry, defaults) = office(&clock, Limits::default()).await;
    let (plain, _) = samples::register(&registry, &defaults, "101");
    let (called, _) = samples::register(&registry, &defaults, "102");
    let (off, _) = samples::register(&registry, &defaults, "103");
    registry.device_in_call(plain, START, false, None);
    registry.device_in_call(called, UnixMillis(START.0 + 9), true, Some("+14155550199"));
    registry
        .update_device(off, None, |device| {
            device.enabled = false;
            device.label = Some("Küche".into());
            Ok(())
        })
        .unwrap();
    registry.link(defaults.admin.unwrap(), plain, START).unwrap();
    let find = |filter: &DeviceFilter| -> Vec<String> {
        let page = registry.devices_page(defaults.account, filter, None, 10);
        page.items.iter().map(|view| view.device.user.to_string()).collect()
    };
    assert_eq!(find(&DeviceFilter { assignable: Some(true), ..DeviceFilter::default() }), ["102"]);
    assert_eq!(find(&DeviceFilter { assignable: Some(false), ..DeviceFilter::default() }), ["101", "103"]);
    assert_eq!(find(&DeviceFilter { linked: Some(true), ..DeviceFilter::default() }), ["101"]);
    assert_eq!(find(&DeviceFilter { state: Some(DeviceState::Disabled), ..DeviceFilter::default() }), ["103"]);
    assert_eq!(find(&DeviceFilter { state: Some(DeviceState::Connected), ..DeviceFilter::default() }), ["101", "102"]);
    let text = |text: &str| find(&DeviceFilter { text: Some(text.into()), ..DeviceFilter::default() });
    assert_eq!(text("KÜCHE"), ["103"]);
    assert_eq!(text("5550199"), ["102"], "by the last caller");
    assert_eq!(text("fictional phone"), ["101", "102", "103"], "by user agent");
    assert_eq!(
        find(&DeviceFilter { pbx: Some(hookswitch::model::PbxId(uuid::Uuid::nil())), ..DeviceFilter::default() }),
        [""; 0]
    );
    let seen = registry.device(called).unwrap().device;
    assert_eq!((seen.last_seen_at, seen.last_caller.as_deref()), (UnixMillis(START.0 + 9), Some("+14155550199")));
}

#[tokio::test]
async fn an_edit_keeps_what_phones_changed_meanwhile_and_an_old_version_is_refused() {
    let (registry, defaults) = office(&Clock::manual(START), Limits::default()).await;
    let (device, _) = samples::register(&registry, &defaults, "101");
    let seen = registry.device(device).unwrap();
    samples::register(&registry, &defaults, "101");
    registry.device_in_call(device, START, true, Some("+14155550142"));
    assert_eq!(registry.device(device).unwrap().seq, seen.seq, "phones do not change the version that admins edit");
    let edited = registry.update_device(device, Some(seen.seq), |device| {
        device.label = Some("Desk".into());
        device.assignable = false;
        device.last_caller = None;
        Ok(())
    });
    let edited = edited.unwrap();
    assert_eq!(edited.device.label.as_deref(), Some("Desk"));
    assert!(edited.device.assignable && edited.device.last_caller.is_some(), "not the admin's to change");
    assert!(edited.seq > seen.seq);
    let stale = registry.update_device(device, Some(seen.seq), |_| Ok(()));
    assert_eq!(stale, Err(ChangeError::Stale { current: edited.seq }));
    let same = registry
        .update_device(device, None, |device| {
            device.label = Some("Desk".into());
            Ok(())
        })
        .unwrap();
    assert_eq!(same.seq, edited.seq, "nothing changed, nothing to store");
    let nul = registry.update_device(device, None, |device| {
        device.label = Some("a\0b".into());
        Ok(())
    });
    assert!(matches!(nul, Err(ChangeError::Invalid { .. })));
}

#[tokio::test]
async fn a_deleted_device_takes_its_links_memberships_and_contacts_along() {
    let (registry, defaults) = office(&Clock::manual(START), Limits::default()).await;
    let (device, _) = samples::register(&registry, &defaults, "101");
    let admin = defaults.admin.unwrap();
    registry.link(admin, device, START).unwrap();
    let pbx = registry.pbxs.get(defaults.pbx).unwrap();
    let queue = registry.create_queue(samples::queue(&registry, &pbx.value, Some(device))).unwrap().value.id;
    registry.delete_device(device, None).unwrap();
    assert!(registry.links_of_user(admin).is_empty());
    assert!(registry.queues.get(queue).unwrap().value.members.is_empty());
    assert!(registry.bindings(device).is_empty());
    assert_eq!(registry.delete_device(device, None), Err(ChangeError::NotFound));
    samples::register(&registry, &defaults, "101");
    assert!(registry.device(device).unwrap().device.label.is_none(), "it comes back as a new one");
    assert_eq!(holders(&registry, device).await, 1, "history remembers");
}

async fn holders(registry: &Registry, device: hookswitch::model::DeviceId) -> usize {
    let of = hookswitch::registry::LinksOf::Device(device);
    registry.drain(std::time::Duration::from_secs(5)).await.unwrap();
    registry.links_history(of, None, 10).await.unwrap().items.len()
}
