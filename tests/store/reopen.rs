//! Everything acknowledged is there after a restart, on either engine.

use std::sync::Arc;
use std::time::Duration;

use hookswitch::clock::Clock;
use hookswitch::model::{BindingSource, CallId, DeviceId, DeviceState, LinkId, UnixMillis};
use hookswitch::registry::{CallFilter, DeviceFilter, LinksOf, Registry};
use hookswitch::store::Store;

use crate::database::{Database, on_both_engines, timeouts};
use crate::postgres::Server;
use crate::samples::{self, START};

on_both_engines! {
    everything_acknowledged_is_there_after_a_restart,
    what_was_deleted_stays_deleted_and_its_number_is_not_given_again,
    bindings_keep_their_deadlines_across_a_restart,
    history_is_paged_newest_first_and_filtered,
    links_tell_who_held_a_device_at_any_moment,
    a_call_that_goes_on_is_found_again_and_one_that_ended_is_not_live,
    old_history_is_forgotten_and_young_is_kept,
}

/// A name that it has no letters for would be refused again and again, with everything that is written along with it.
#[tokio::test]
async fn a_database_that_can_not_hold_every_name_is_refused_with_what_to_do() {
    let server = Server::shared();
    server.psql("postgres", "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    let refused = Store::open_with(&server.url("latin"), timeouts()).await.expect_err("it is refused").to_string();
    assert!(refused.contains("LATIN1") && refused.contains("CREATE DATABASE … ENCODING 'UTF8'"), "{refused}");
}

async fn everything_acknowledged_is_there_after_a_restart(database: Database) {
    let clock = Clock::manual(START);
    let registry = database.registry(&clock).await;
    let defaults = registry.ensure_defaults().unwrap();
    let (device, _) = samples::register(&registry, &defaults, "101");
    let account = registry.create_account(samples::account(&registry, Some(defaults.account))).unwrap();
    let site = registry.create_site(samples::site(&registry, defaults.account)).unwrap();
    let pbx = registry.create_pbx(samples::pbx(&registry, &site.value)).unwrap();
    let queue = registry.create_queue(samples::queue(&registry, &pbx.value, Some(device))).unwrap();
    let rules = samples::rules(queue.value.id);
    let pbx = registry
        .update_pbx(pbx.value.id, Some(pbx.seq), |pbx| {
            pbx.queue_rules = rules;
            Ok(())
        })
        .unwrap();
    let user = registry.create_user(samples::user(&registry, defaults.account, "ann")).unwrap();
    let user = registry
        .update_user(user.value.id, None, |user| {
            user.queues.push(queue.value.id);
            Ok(())
        })
        .unwrap();
    let token = registry.create_token(samples::token(&registry, defaults.account, Some(user.value.id))).unwrap();
    let (link, created) = registry.link(user.value.id, device, START).unwrap();
    assert!(created);
    let edited = registry
        .update_device(device, None, |device| {
            device.label = Some("Reception 'left'".into());
            device.extension = Some("7101".into());
            device.caller_id = Some("+14155550101".into());
            Ok(())
        })
        .unwrap();
    registry.device_in_call(device, UnixMillis(START.0 + 5), true, Some("+14155550142"));
    registry.committed(edited.seq.max(link.seq)).await.unwrap();
    registry.drain(Duration::from_secs(5)).await.unwrap();
    let (before, bound) = (registry.device(device).unwrap(), registry.bindings(device));
    drop(registry);

    let registry = database.registry(&clock).await;
    assert_eq!(registry.accounts.get(account.value.id), Some(account));
    assert_eq!(registry.sites.get(site.value.id), Some(site));
    assert_eq!(registry.pbxs.get(pbx.value.id), Some(pbx));
    assert_eq!(registry.queues.get(queue.value.id), Some(queue));
    assert_eq!(registry.users.get(user.value.id), Some(user.clone()));
    assert_eq!(registry.tokens.get(token.value.id), Some(token.clone()));
    assert_eq!(registry.token_by_hash(&token.value.hash), Some(token));
    assert_eq!(registry.links_of_user(user.value.id).as_slice(), std::slice::from_ref(&link));
    assert_eq!(registry.links_of_device(device), [link]);
    assert_eq!(registry.device(device), Some(before));
    assert_eq!(registry.bindings(device), bound);
    let again = registry.ensure_defaults().unwrap();
    assert!(!again.created);
    assert_eq!(
        (again.account, again.pbx, again.site, again.admin),
        (defaults.account, defaults.pbx, defaults.site, defaults.admin)
    );
}

async fn what_was_deleted_stays_deleted_and_its_number_is_not_given_again(database: Database) {
    let clock = Clock::manual(START);
    let registry = database.registry(&clock).await;
    let defaults = registry.ensure_defaults().unwrap();
    let (device, _) = samples::register(&registry, &defaults, "101");
    let user = registry.create_user(samples::user(&registry, defaults.account, "ann")).unwrap().value.id;
    registry.link(user, device, START).unwrap();
    let token = registry.create_token(samples::token(&registry, defaults.account, Some(user))).unwrap().value.id;
    let first = registry.delete_user(user, None).unwrap();
    let last = registry.delete_device(device, None).unwrap();
    assert!(last > first);
    registry.committed(last).await.unwrap();
    registry.drain(Duration::from_secs(5)).await.unwrap();
    drop(registry);

    let registry = database.registry(&clock).await;
    assert_eq!(registry.users.get(user), None);
    assert_eq!(registry.tokens.get(token), None);
    assert_eq!(registry.device(device), None);
    assert!(registry.links_of_user(user).is_empty());
    let (_, next) = samples::register(&registry, &defaults, "101");
    assert!(next > last, "{next} after {last}");
}

async fn bindings_keep_their_deadlines_across_a_restart(database: Database) {
    let clock = Clock::manual(START);
    let registry = database.registry(&clock).await;
    let defaults = registry.ensure_defaults().unwrap();
    let (granted, seq) = samples::register(&registry, &defaults, "101");
    let mirrored = vec![samples::binding(&registry, "102", BindingSource::Passive, 60_000)];
    let mirrored = samples::set_bindings(&registry, &defaults, "102", BindingSource::Passive, mirrored).device;
    registry.committed(seq).await.unwrap();
    registry.drain(Duration::from_secs(5)).await.unwrap();
    drop(registry);

    // Down for ten minutes; the other clock starts anew.
    let later = Clock::manual(UnixMillis(START.0 + 600_000));
    let registry = database.registry(&later).await;
    let state = |device: DeviceId| registry.device(device).map(|device| device.state);
    assert_eq!(state(granted), Some(DeviceState::Connected));
    assert_eq!(state(mirrored), Some(DeviceState::Stale), "a passive binding gets a grace after a start");
    later.advance(Duration::from_secs(599));
    registry.expire(later.now());
    assert_eq!(state(mirrored), Some(DeviceState::Stale));
    later.advance(Duration::from_secs(2));
    registry.expire(later.now());
    assert_eq!(state(mirrored), Some(DeviceState::Disconnected));
    later.advance(Duration::from_mins(40));
    registry.expire(later.now());
    assert_eq!(state(granted), Some(DeviceState::Disconnected), "ended an hour after it was granted");
    registry.drain(Duration::from_secs(5)).await.unwrap();
    let page = registry.transitions(granted, None, 10).await.unwrap();
    let causes: Vec<&str> = page.items.iter().map(|transition| transition.cause.as_str()).collect();
    assert_eq!(causes, ["expired", "registered"]);
}

async fn history_is_paged_newest_first_and_filtered(database: Database) {
    let clock = Clock::manual(START);
    let registry = database.registry(&clock).await;
    let defaults = registry.ensure_defaults().unwrap();
    let (device, _) = samples::register(&registry, &defaults, "101");
    let (other, _) = samples::register(&registry, &defaults, "102");
    let ann = registry.create_user(samples::user(&registry, defaults.account, "ann")).unwrap().value.id;
    let bob = registry.create_user(samples::user(&registry, defaults.account, "bob")).unwrap().value.id;
    let calls: Vec<_> = (0..7)
        .map(|n| samples::call(&defaults, n, if n % 2 == 0 { ann } else { bob }, if n < 3 { device } else { other }))
        .collect();
    for call in &calls {
        registry.live.put_call(Arc::new(samples::ringing(call)));
        registry.record_trail(samples::trail(call.id, 1));
        registry.live.put_call(Arc::new(call.clone()));
        registry.record_trail(samples::trail(call.id, 2));
    }

    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let page = registry.calls_page(defaults.account, &CallFilter::default(), cursor.as_deref(), 3).await.unwrap();
        assert!(page.items.len() <= 3);
        seen.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    let newest_first: Vec<_> = calls.iter().rev().cloned().collect();
    assert_eq!(seen, newest_first);

    let ask = async |filter: CallFilter| -> Vec<CallId> {
        let page = registry.calls_page(defaults.account, &filter, None, 100).await.unwrap();
        page.items.iter().map(|call| call.id).collect()
    };
    let ids = |wanted: &[usize]| -> Vec<CallId> { wanted.iter().map(|n| calls[*n].id).collect() };
    assert_eq!(ask(CallFilter { user: Some(ann), ..CallFilter::default() }).await, ids(&[6, 4, 2, 0]));
    assert_eq!(ask(CallFilter { device: Some(device), ..CallFilter::default() }).await, ids(&[2, 1, 0]));
    let both = CallFilter { user: Some(ann), device: Some(device), ..CallFilter::default() };
    assert_eq!(ask(both).await, ids(&[2, 0]));
    let window = CallFilter {
        since: Some(UnixMillis(START.0 + 2_000)),
        until: Some(UnixMillis(START.0 + 4_000)),
        ..CallFilter::default()
    };
    assert_eq!(ask(window).await, ids(&[3, 2]));
    let none = CallFilter { outcome: Some(hookswitch::model::Outcome::Busy), ..CallFilter::default() };
    assert_eq!(ask(none).await, []);

    assert_eq!(registry.call(calls[4].id).await.unwrap().as_ref(), Some(&calls[4]));
    let trail = registry.trail(calls[4].id).await.unwrap();
    assert_eq!(trail.iter().map(|entry| entry.position).collect::<Vec<_>>(), [1, 2]);
    assert!(registry.calls_page(defaults.account, &CallFilter::default(), Some("nonsense"), 3).await.is_err());
}

async fn links_tell_who_held_a_device_at_any_moment(database: Database) {
    let clock = Clock::manual(START);
    let registry = database.registry(&clock).await;
    let defaults = registry.ensure_defaults().unwrap();
    let (device, _) = samples::register(&registry, &defaults, "204");
    let ann = registry.create_user(samples::user(&registry, defaults.account, "ann")).unwrap().value.id;
    let bob = registry.create_user(samples::user(&registry, defaults.account, "bob")).unwrap().value.id;
    let at = |minute: i64| UnixMillis(START.0 + minute * 60_000);
    registry.link(ann, device, at(0)).unwrap();
    let ended = registry.unlink(ann, device, at(31)).unwrap();
    registry.link(bob, device, at(31)).unwrap();
    assert_eq!(samples::facts(&ended.value), (device, ann, at(0), Some(at(31))));

    let holder = async |minute| -> Vec<_> {
        registry.holders_at(device, at(minute)).await.unwrap().iter().map(|link| link.user).collect()
    };
    assert_eq!(holder(-1).await, []);
    assert_eq!(holder(0).await, [ann]);
    assert_eq!(holder(30).await, [ann]);
    assert_eq!(holder(31).await, [bob]);
    registry.drain(Duration::from_secs(5)).await.unwrap();
    drop(registry);

    let registry = database.registry(&clock).await;
    let held = registry.holders_at(device, at(30)).await.unwrap();
    assert_eq!(held.iter().map(|link| link.user).collect::<Vec<_>>(), [ann]);
    let page = registry.links_history(LinksOf::Device(device), None, 1).await.unwrap();
    assert_eq!(page.items.iter().map(|link| link.user).collect::<Vec<_>>(), [bob]);
    let page = registry.links_history(LinksOf::Device(device), page.next.as_deref(), 1).await.unwrap();
    assert_eq!(page.items.iter().map(|link| link.user).collect::<Vec<_>>(), [ann]);
    assert_eq!(page.next, None);
    let of_user = registry.links_history(LinksOf::User(ann), None, 10).await.unwrap();
    let ids: Vec<LinkId> = of_user.items.iter().map(|link| link.id).collect();
    assert_eq!(ids, [ended.value.id]);
}

async fn a_call_that_goes_on_is_found_again_and_one_that_ended_is_not_live(database: Database) {
    let clock = Clock::manual(START);
    let registry: Arc<Registry> = database.registry(&clock).await;
    let defaults = registry.ensure_defaults().unwrap();
    let (device, _) = samples::register(&registry, &defaults, "101");
    let ann = defaults.admin.unwrap();
    let over = samples::call(&defaults, 1, ann, device);
    let on = samples::ringing(&samples::call(&defaults, 2, ann, device));
    registry.live.put_call(Arc::new(samples::ringing(&over)));
    registry.live.put_call(Arc::new(over.clone()));
    registry.live.put_call(Arc::new(on.clone()));
    registry.drain(Duration::from_secs(5)).await.unwrap();
    drop(registry);

    let registry = database.registry(&clock).await;
    assert_eq!(registry.live.calls(defaults.account), [Arc::new(on.clone())]);
    assert_eq!(registry.live.offers_of(ann), on.offers);
    assert_eq!(registry.call(over.id).await.unwrap(), Some(over));
    assert_eq!(registry.devices_page(defaults.account, &DeviceFilter::default(), None, 10).items.len(), 1);
}

async fn old_history_is_forgotten_and_young_is_kept(database: Database) {
    let clock = Clock::manual(START);
    let registry = database.registry(&clock).await;
    let defaults = registry.ensure_defaults().unwrap();
    let (device, _) = samples::register(&registry, &defaults, "101");
    let ann = defaults.admin.unwrap();
    for n in 0..1_200 {
        let call = samples::call(&defaults, n, ann, device);
        registry.record_trail(samples::trail(call.id, 1));
        registry.record_call(Arc::new(call));
    }
    registry.drain(Duration::from_secs(10)).await.unwrap();
    drop(registry);

    let store = database.store().await;
    // 1000 seconds after the start plus 90 days: calls 0–999 are too old, and every reason is.
    let now = UnixMillis(START.0 + 1_000_000 + 90 * 86_400_000);
    let pruned = store.prune(hookswitch::store::Retention::default(), now).await.unwrap();
    assert_eq!(pruned, 1_000 + 1 + 1_200, "calls, the device's first transition, reasons");
    let first = samples::call(&defaults, 999, ann, device).id;
    assert_eq!(store.call(first).await.unwrap(), None);
    assert!(store.trail(first).await.unwrap().is_empty());
    let filter = CallFilter { user: Some(ann), ..CallFilter::default() };
    let left = store.calls_page(defaults.account, &filter, None, 1_000).await.unwrap();
    assert_eq!(left.items.len(), 200);
    assert_eq!(store.prune(hookswitch::store::Retention::default(), now).await.unwrap(), 0);
}
