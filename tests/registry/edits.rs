//! What admins may and may not change.

use hookswitch::clock::Clock;
use hookswitch::model::{Account, AccountId, Member, QueueId, User};
use hookswitch::registry::{ChangeError, Limits};

use crate::office;
use crate::samples::{self, START};

#[tokio::test]
async fn a_first_start_makes_one_account_site_pbx_and_an_admin_who_alone_is_enabled() {
    let (registry, defaults) = office(&Clock::manual(START), Limits::default()).await;
    assert!(defaults.created);
    let pbx = registry.pbxs.get(defaults.pbx).unwrap();
    assert_eq!((&*pbx.value.name, &*pbx.value.domain, pbx.value.any_domain), ("default", "pbx.local", true));
    assert!(!pbx.value.control, "nothing is ever sent to a PBX unless it says so");
    let admin = registry.users.get(defaults.admin.unwrap()).unwrap();
    assert_eq!((&*admin.value.name, admin.value.enabled), ("admin", true));
    let again = registry.ensure_defaults().unwrap();
    assert!(!again.created);
    assert_eq!(
        (again.account, again.site, again.pbx, again.admin),
        (defaults.account, defaults.site, defaults.pbx, defaults.admin)
    );
    assert_eq!(registry.accounts.len(), 1);
}

#[tokio::test]
async fn the_defaults_are_the_first_ones_made_whatever_they_are_called_later() {
    let clock = Clock::manual(START);
    let (registry, defaults) = office(&clock, Limits::default()).await;
    clock.advance(std::time::Duration::from_secs(1));
    let renamed = "Headquarters".to_owned();
    let rename = |name: &mut String| {
        name.clone_from(&renamed);
        Ok(())
    };
    registry.update_pbx(defaults.pbx, None, |pbx| rename(&mut pbx.name)).unwrap();
    registry.update_site(defaults.site, None, |site| rename(&mut site.name)).unwrap();
    registry.update_user(defaults.admin.unwrap(), None, |user| rename(&mut user.name)).unwrap();
    let site = registry.sites.get(defaults.site).unwrap();
    registry.create_pbx(samples::pbx(&registry, &site.value)).unwrap();
    let ann = User { created_at: clock.now().unix, ..samples::user(&registry, defaults.account, "ann") };
    registry.create_user(ann).unwrap();
    let found = registry.ensure_defaults().unwrap();
    assert_eq!((found.site, found.pbx, found.admin), (defaults.site, defaults.pbx, defaults.admin));
    registry.delete_user(defaults.admin.unwrap(), None).unwrap();
    assert_eq!(registry.ensure_defaults().unwrap().admin, None, "nobody inherits that");
}

#[tokio::test]
async fn what_must_be_unique_is_and_says_what_is_taken() {
    let (registry, defaults) = office(&Clock::manual(START), Limits::default()).await;
    let ann = registry.create_user(samples::user(&registry, defaults.account, "ann")).unwrap();
    let shouting =
        User { email: Some("ANN@office.example".into()), ..samples::user(&registry, defaults.account, "other") };
    assert_eq!(conflict(registry.create_user(shouting.clone())), "email ann@office.example is taken");
    let elsewhere =
        registry.create_account(Account { domains: Vec::new(), ..samples::account(&registry, None) }).unwrap();
    registry.create_user(User { account: elsewhere.value.id, ..shouting }).expect("another account is another world");
    registry.delete_user(ann.value.id, None).unwrap();
    registry.create_user(samples::user(&registry, defaults.account, "ann")).expect("free again");

    registry.create_account(samples::account(&registry, None)).unwrap();
    let same_domain = Account { domains: vec!["SUED.example.".into()], ..samples::account(&registry, None) };
    assert_eq!(conflict(registry.create_account(same_domain)), "domain sued.example is taken");
    let pbx = registry.pbxs.get(defaults.pbx).unwrap();
    registry.create_queue(samples::queue(&registry, &pbx.value, None)).unwrap();
    assert_eq!(
        conflict(registry.create_queue(samples::queue(&registry, &pbx.value, None))),
        "queue name support is taken"
    );
}

#[tokio::test]
async fn an_edit_of_an_older_version_is_refused_and_one_that_changes_nothing_is_none() {
    let (registry, defaults) = office(&Clock::manual(START), Limits::default()).await;
    let ann = registry.create_user(samples::user(&registry, defaults.account, "ann")).unwrap();
    let id = ann.value.id;
    let renamed = registry
        .update_user(id, Some(ann.seq), |user| {
            user.name = "Anna".into();
            Ok(())
        })
        .unwrap();
    assert!(renamed.seq > ann.seq);
    let stale = registry.update_user(id, Some(ann.seq), |user| {
        user.dnd = false;
        Ok(())
    });
    assert_eq!(stale, Err(ChangeError::Stale { current: renamed.seq }));
    assert_eq!(registry.delete_user(id, Some(ann.seq)), Err(ChangeError::Stale { current: renamed.seq }));
    assert_eq!(registry.update_user(id, None, |_| Ok(())).unwrap(), renamed);
    let own = registry.update_user(id, None, |_| Err(ChangeError::Invalid { detail: "mine".into() }));
    assert_eq!(own, Err(ChangeError::Invalid { detail: "mine".into() }));
    let moved = registry.update_user(id, None, |user| {
        user.account = AccountId(uuid::Uuid::nil());
        Ok(())
    });
    assert!(matches!(moved, Err(ChangeError::Invalid { .. })));
    let nul = registry.update_user(id, None, |user| {
        user.name = "a\0".into();
        Ok(())
    });
    assert!(matches!(nul, Err(ChangeError::Invalid { .. })));
    assert_eq!(registry.users.get(id), Some(renamed));
}

#[tokio::test]
async fn what_others_need_is_not_deleted_and_what_only_served_it_goes_along() {
    let (registry, defaults) = office(&Clock::manual(START), Limits::default()).await;
    let (device, _) = samples::register(&registry, &defaults, "101");
    assert!(in_use(&registry.delete_account(defaults.account, None)));
    assert!(in_use(&registry.delete_site(defaults.site, None)));
    assert!(in_use(&registry.delete_pbx(defaults.pbx, None)), "it has a device");
    registry.delete_device(device, None).unwrap();
    let pbx = registry.pbxs.get(defaults.pbx).unwrap();
    let queue = registry.create_queue(samples::queue(&registry, &pbx.value, None)).unwrap().value.id;
    assert!(in_use(&registry.delete_pbx(defaults.pbx, None)), "it has a queue");
    registry
        .update_pbx(defaults.pbx, None, |pbx| {
            pbx.queue_rules = samples::rules(queue);
            Ok(())
        })
        .unwrap();
    assert!(in_use(&registry.delete_queue(queue, None)), "a rule names it");
    registry
        .update_pbx(defaults.pbx, None, |pbx| {
            pbx.queue_rules.clear();
            Ok(())
        })
        .unwrap();

    let ann = registry.create_user(samples::user(&registry, defaults.account, "ann")).unwrap().value.id;
    registry
        .update_user(ann, None, |user| {
            user.queues = vec![queue, queue];
            Ok(())
        })
        .unwrap();
    assert_eq!(registry.users.get(ann).unwrap().value.queues, [queue], "once is enough");
    let token = registry.create_token(samples::token(&registry, defaults.account, Some(ann))).unwrap().value.clone();
    registry.delete_queue(queue, None).unwrap();
    assert!(registry.users.get(ann).unwrap().value.queues.is_empty());
    registry.delete_user(ann, None).unwrap();
    assert_eq!(registry.token_by_hash(&token.hash), None);
    registry.delete_pbx(defaults.pbx, None).unwrap();
    registry.delete_site(defaults.site, None).unwrap();
}

#[tokio::test]
async fn references_must_lead_somewhere_in_the_same_account() {
    let (registry, defaults) = office(&Clock::manual(START), Limits::default()).await;
    let other = registry.create_account(samples::account(&registry, None)).unwrap().value.id;
    let stranger = registry.create_user(samples::user(&registry, other, "zoe")).unwrap().value.id;
    let (device, _) = samples::register(&registry, &defaults, "101");
    assert_eq!(registry.link(stranger, device, START).unwrap_err(), ChangeError::NotFound);
    let pbx = registry.pbxs.get(defaults.pbx).unwrap();
    let queue = registry.create_queue(samples::queue(&registry, &pbx.value, None)).unwrap().value.id;
    assert!(invalid(&registry.update_user(stranger, None, |user| {
        user.queues.push(queue);
        Ok(())
    })));
    assert!(invalid(&registry.create_site(samples::site(&registry, AccountId(uuid::Uuid::nil())))));
    assert!(invalid(&registry.create_token(samples::token(&registry, defaults.account, Some(stranger)))));
    let mut theirs = samples::queue(&registry, &pbx.value, None);
    theirs.account = other;
    assert!(invalid(&registry.create_queue(theirs)));
    let ghost = QueueId(uuid::Uuid::nil());
    assert!(invalid(&registry.update_pbx(defaults.pbx, None, |pbx| {
        pbx.queue_rules = samples::rules(ghost);
        Ok(())
    })));
}

#[tokio::test]
async fn accounts_nest_but_never_in_circles() {
    let (registry, defaults) = office(&Clock::manual(START), Limits::default()).await;
    let below = |parent| Account { domains: Vec::new(), ..samples::account(&registry, Some(parent)) };
    let child = registry.create_account(below(defaults.account)).unwrap().value.id;
    let grandchild = registry.create_account(below(child)).unwrap().value.id;
    assert!(registry.account_within(grandchild, defaults.account));
    assert!(!registry.account_within(defaults.account, grandchild));
    let circle = registry.update_account(defaults.account, None, |account| {
        account.parent = Some(grandchild);
        Ok(())
    });
    assert!(matches!(circle, Err(ChangeError::Invalid { .. })));
    let mut deepest = grandchild;
    let too_deep = (0..20).find_map(|_| match registry.create_account(below(deepest)) {
        Ok(account) => {
            deepest = account.value.id;
            None
        }
        Err(error) => Some(error),
    });
    assert!(matches!(too_deep, Some(ChangeError::Invalid { .. })));
    let names: Vec<_> =
        registry.accounts.page(child, None, 10, |_| true).items.iter().map(|row| row.value.id).collect();
    assert!(names.contains(&child) && names.contains(&grandchild), "an account lists itself and those below it");
}

#[tokio::test]
async fn pages_of_users_are_in_order_of_name_and_miss_nobody() {
    let (registry, defaults) = office(&Clock::manual(START), Limits::default()).await;
    let names = ["Zoe", "anna", "Bob", "bob", "Ärger", "~tilde", "cy"];
    for (n, name) in names.into_iter().enumerate() {
        let user = User {
            name: name.into(),
            email: None,
            enabled: n % 2 == 0,
            ..samples::user(&registry, defaults.account, "x")
        };
        registry.create_user(user).unwrap();
    }
    let mut listed = Vec::new();
    let mut after = None;
    loop {
        let page = registry.users.page(defaults.account, after.as_deref(), 2, |_| true);
        assert!(page.items.len() <= 2);
        listed.extend(page.items.iter().map(|user| user.value.name.clone()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let listed: Vec<String> = listed.iter().map(|name| name.to_lowercase()).collect();
    assert_eq!(listed, ["admin", "anna", "bob", "bob", "cy", "zoe", "~tilde", "ärger"]);
    let enabled = registry.users.page(defaults.account, None, 10, |user| user.enabled);
    assert_eq!(enabled.items.len(), 5);
}

#[tokio::test]
async fn membership_keeps_its_beginning_and_ends_once() {
    let (registry, defaults) = office(&Clock::manual(START), Limits::default()).await;
    let (device, _) = samples::register(&registry, &defaults, "101");
    let pbx = registry.pbxs.get(defaults.pbx).unwrap();
    let queue = registry.create_queue(samples::queue(&registry, &pbx.value, Some(device))).unwrap().value.id;
    let since = hookswitch::model::UnixMillis(START.0 + 60_000);
    let row = registry.set_member(queue, Member::manual(device, false, None, since)).unwrap();
    assert_eq!(row.value.members, [Member::manual(device, false, None, START)]);
    registry.remove_member(queue, device).unwrap();
    assert_eq!(registry.remove_member(queue, device), Err(ChangeError::NotFound));
}

#[tokio::test]
async fn limits_are_kept_and_named() {
    let limits = Limits { users_max: 2, links_max: 1, ..Limits::default() };
    let (registry, defaults) = office(&Clock::manual(START), limits).await;
    let ann = registry.create_user(samples::user(&registry, defaults.account, "ann")).unwrap().value.id;
    let third = registry.create_user(samples::user(&registry, defaults.account, "bob"));
    assert_eq!(third.unwrap_err(), ChangeError::Limit { what: "users_max" });
    let (one, _) = samples::register(&registry, &defaults, "101");
    let (two, _) = samples::register(&registry, &defaults, "102");
    registry.link(ann, one, START).unwrap();
    assert_eq!(registry.link(ann, two, START).unwrap_err(), ChangeError::Limit { what: "links_max" });
}

fn invalid<T>(result: &Result<T, ChangeError>) -> bool {
    matches!(result, Err(ChangeError::Invalid { .. }))
}

fn in_use<T>(result: &Result<T, ChangeError>) -> bool {
    matches!(result, Err(ChangeError::InUse { .. }))
}

fn conflict<T>(result: Result<T, ChangeError>) -> String {
    match result {
        Err(ChangeError::Conflict { detail }) => detail,
        _ => panic!("no conflict"),
    }
}
