//! Whose phone is it: domains, aliases, accounts.

use hookswitch::clock::Clock;
use hookswitch::model::{Account, DeviceId};
use hookswitch::registry::Limits;
use hookswitch::switchboard::View as _;

use crate::office;
use crate::samples::{self, START};

#[tokio::test]
async fn with_no_configuration_any_domain_is_the_default_pbx() {
    let (registry, defaults) = office(&Clock::manual(START), Limits::default()).await;
    for host in ["pbx.local", "PBX.Local.", "192.0.2.10", "[2001:db8::1]", "office.example"] {
        let target = registry.resolve(defaults.pbx, "%31%30%31", host).unwrap();
        assert_eq!((target.account, &*target.user), (defaults.account, "101"), "{host}");
        assert_eq!(target.device(), DeviceId::derive(defaults.account, defaults.pbx, "101"));
    }
    assert_eq!(registry.resolve(defaults.pbx, "", "pbx.local"), None);
    assert_eq!(registry.resolve(defaults.pbx, "1\0", "pbx.local"), None);
}

#[tokio::test]
async fn a_pbx_that_knows_its_domains_takes_those_aliases_and_addresses_only() {
    let (registry, defaults) = office(&Clock::manual(START), Limits::default()).await;
    let site = registry.sites.get(defaults.site).unwrap();
    let pbx = registry.create_pbx(samples::pbx(&registry, &site.value)).unwrap().value.id;
    let known = |host: &str| registry.resolve(pbx, "101", host).is_some();
    assert!(known("nord.example") && known("ALT.example") && known("198.51.100.1") && known("[2001:db8::9]"));
    assert!(known(""), "who names no domain means the PBX's own");
    assert!(!known("sued.example") && !known("nord.example.evil.example"));
}

#[tokio::test]
async fn a_domain_chooses_its_account_below_the_pbxs_and_draws_nobody_elses_phones() {
    let (registry, defaults) = office(&Clock::manual(START), Limits::default()).await;
    let domain = |name: &str, parent| Account {
        domains: vec![name.into()],
        name: name.into(),
        ..samples::account(&registry, parent)
    };
    let tenant = registry.create_account(domain("tenant.example", Some(defaults.account))).unwrap().value.id;
    let greedy = registry.create_account(domain("office.example", None)).unwrap().value.id;
    let sly = registry.create_account(domain("pbx.local", Some(defaults.account))).unwrap().value.id;
    let account = |host: &str| registry.resolve(defaults.pbx, "101", host).map(|target| target.account);
    assert_eq!(account("tenant.example"), Some(tenant));
    assert_eq!(account("Tenant.Example"), Some(tenant));
    assert_eq!(account("office.example"), Some(defaults.account), "{greedy} is not below the PBX's account");
    assert_eq!(account("pbx.local"), Some(defaults.account), "{sly} may not take the PBX's own domain");
}

#[tokio::test]
async fn extensions_find_their_devices_on_their_own_pbx_also_after_they_changed() {
    let (registry, defaults) = office(&Clock::manual(START), Limits::default()).await;
    let (device, _) = samples::register(&registry, &defaults, "yealink-1");
    let find = |extension: &str| registry.devices_by_extension(defaults.pbx, extension).to_vec();
    assert_eq!(find("yealink-1"), [device]);
    registry
        .update_device(device, None, |device| {
            device.extension = Some("204".into());
            Ok(())
        })
        .unwrap();
    assert_eq!((find("yealink-1"), find("204")), (vec![], vec![device]));
    let (same, _) = samples::register(&registry, &defaults, "204");
    let mut both = vec![device, same];
    both.sort();
    assert_eq!(find("204"), both, "never one of two");
    let site = registry.sites.get(defaults.site).unwrap();
    let other = registry.create_pbx(samples::pbx(&registry, &site.value)).unwrap().value.clone();
    assert!(registry.devices_by_extension(other.id, "204").is_empty());
    assert_eq!(registry.device_by_aor(defaults.pbx, "204", "pbx.local"), Some(same));
    assert_eq!(registry.device_by_aor(defaults.pbx, "999", "pbx.local"), None);
}
