//! What the switchboard is told: links, queues, switches, live calls.

use std::sync::Arc;

use hookswitch::clock::Clock;
use hookswitch::model::{CallState, UserQueues};
use hookswitch::registry::{Changed, Limits};
use hookswitch::switchboard::View as _;

use crate::office;
use crate::samples::{self, START};

#[tokio::test]
async fn many_phones_of_one_user_and_many_users_of_one_phone() {
    let (registry, defaults) = office(&Clock::manual(START), Limits::default()).await;
    let ann = registry.create_user(samples::user(&registry, defaults.account, "ann")).unwrap().value.id;
    let bob = registry.create_user(samples::user(&registry, defaults.account, "bob")).unwrap().value.id;
    let (one, _) = samples::register(&registry, &defaults, "101");
    let (two, _) = samples::register(&registry, &defaults, "102");
    for (user, device) in [(bob, two), (ann, one), (bob, one)] {
        assert!(registry.link(user, device, START).unwrap().1);
    }
    let (again, created) = registry.link(bob, one, START).unwrap();
    assert!(!created && again.value.user == bob);
    assert_eq!(registry.linked_users(one).as_slice(), [ann, bob]);
    let mut of_bob = [one, two];
    of_bob.sort();
    assert_eq!(registry.linked_devices(bob).as_slice(), of_bob);
    registry.unlink(bob, one, START).unwrap();
    assert_eq!(registry.linked_users(one).as_slice(), [ann]);
    assert!(registry.unlink(bob, one, START).is_err());
}

#[tokio::test]
async fn a_users_queues_are_as_set_or_follow_the_pbx() {
    let (registry, defaults) = office(&Clock::manual(START), Limits::default()).await;
    let (device, _) = samples::register(&registry, &defaults, "101");
    let pbx = registry.pbxs.get(defaults.pbx).unwrap();
    let member_of = registry.create_queue(samples::queue(&registry, &pbx.value, Some(device))).unwrap().value.id;
    let mut set = samples::queue(&registry, &pbx.value, None);
    (set.name, set.number) = ("Sales".into(), Some("601".into()));
    let set = registry.create_queue(set).unwrap().value.id;
    let ann = registry.create_user(samples::user(&registry, defaults.account, "ann")).unwrap().value.id;
    registry
        .update_user(ann, None, |user| {
            user.queues = vec![set];
            Ok(())
        })
        .unwrap();
    registry.link(ann, device, START).unwrap();

    assert_eq!(registry.users_of_queue(set).as_slice(), [ann]);
    assert!(registry.users_of_queue(member_of).is_empty());
    assert_eq!(hookswitch::switchboard::View::user(&*registry, ann).unwrap().queues.as_slice(), [set]);
    let follow = UserQueues::FollowPbx;
    registry
        .update_account(defaults.account, None, |account| {
            account.settings.user_queues = follow;
            Ok(())
        })
        .unwrap();
    assert_eq!(registry.users_of_queue(member_of).as_slice(), [ann]);
    assert!(registry.users_of_queue(set).is_empty());
    assert_eq!(hookswitch::switchboard::View::user(&*registry, ann).unwrap().queues.as_slice(), [member_of]);
    assert_eq!(registry.queue_by_name(defaults.pbx, "SALES"), Some(set));
    assert_eq!(registry.queue_by_number(defaults.pbx, "601"), Some(set));
    assert!(registry.is_queue_member(device));
}

#[tokio::test]
async fn those_with_open_offers_hear_of_what_may_close_them() {
    let (registry, defaults) = office(&Clock::manual(START), Limits::default()).await;
    let (device, _) = samples::register(&registry, &defaults, "101");
    let ann = registry.create_user(samples::user(&registry, defaults.account, "ann")).unwrap().value.id;
    let mut changes = registry.changes.subscribe();
    let mut heard = || std::iter::from_fn(|| changes.try_recv().ok()).collect::<Vec<_>>();
    registry
        .update_user(ann, None, |user| {
            user.enabled = false;
            Ok(())
        })
        .unwrap();
    assert_eq!(heard(), [Changed::User(ann)]);
    registry.link(ann, device, START).unwrap();
    assert_eq!(heard(), [Changed::User(ann), Changed::Device(device)]);
    registry
        .update_device(device, None, |device| {
            device.enabled = false;
            Ok(())
        })
        .unwrap();
    assert_eq!(heard(), [Changed::Device(device)]);
    registry.delete_user(ann, None).unwrap();
    assert!(heard().contains(&Changed::User(ann)));
}

#[tokio::test]
async fn live_calls_and_their_open_offers_are_there_until_they_end() {
    let limits = Limits { live_calls_max: 2, ..Limits::default() };
    let (registry, defaults) = office(&Clock::manual(START), limits).await;
    let (device, ann) = (samples::target(&defaults, "101").device(), defaults.admin.unwrap());
    let over = samples::call(&defaults, 1, ann, device);
    let ringing = samples::ringing(&over);
    registry.live.put_call(Arc::new(ringing.clone()));
    assert_eq!(registry.live.offers_of(ann), ringing.offers);
    let mut answered = ringing.clone();
    answered.state = CallState::Answered;
    registry.live.put_call(Arc::new(answered.clone()));
    assert_eq!(registry.live.call(over.id).as_deref(), Some(&answered));
    registry.live.put_call(Arc::new(over.clone()));
    assert!(registry.live.call(over.id).is_none() && registry.live.offers_of(ann).is_empty());
    assert_eq!(registry.call(over.id).await.unwrap(), Some(over));

    for n in 2..6 {
        registry.live.put_call(Arc::new(samples::ringing(&samples::call(&defaults, n, ann, device))));
    }
    assert_eq!(registry.live.calls(defaults.account).len(), 2, "the limit holds");
}
