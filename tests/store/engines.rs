//! Both engines are told the same and must remember the same.

use std::sync::Arc;
use std::time::Duration;

use hookswitch::clock::Clock;
use hookswitch::model::{Account, AccountId, BindingSource, Pbx, PbxId, Site, SiteId, User};
use hookswitch::registry::{Defaults, LinksOf, Registry, Seq};
use hookswitch::store::Loaded;

use crate::database::Database;
use crate::samples::{self, START};

/// What each engine has after the same life; ids that the registry draws itself are left out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_life_leaves_the_same_rows() {
    let cast = Cast::new();
    let mut remembered = Vec::new();
    for database in [Database::sqlite(), Database::postgres()] {
        let registry = database.registry(&cast.clock).await;
        let mut past = cast.live(&registry).await;
        drop(registry);
        let mut loaded = database.store().await.load().await.unwrap();
        past.push(sorted(&mut loaded));
        remembered.push(past);
    }
    assert_eq!(remembered[0], remembered[1]);
}

/// Records with fixed ids.
struct Cast {
    clock: Clock,
    account: Account,
    site: Site,
    pbx: Pbx,
    ann: User,
    bob: User,
}

impl Cast {
    fn new() -> Self {
        let clock = Clock::manual(START);
        let account = Account {
            id: AccountId(clock.uuid()),
            parent: None,
            name: "quote ' \" backslash \\ tab \t newline \n \u{1f4de} \u{202e}".into(),
            domains: vec!["a.example".into(), "b.example".into()],
            number_plan: hookswitch::model::NumberPlan::default(),
            settings: hookswitch::model::AccountSettings::default(),
            created_at: START,
        };
        let site = Site { id: SiteId(clock.uuid()), account: account.id, name: "default".into(), created_at: START };
        let pbx = Pbx {
            id: PbxId(clock.uuid()),
            account: account.id,
            site: site.id,
            name: "default".into(),
            domain: "pbx.local".into(),
            aliases: Vec::new(),
            any_domain: true,
            networks: vec!["192.0.2.0/24".into()],
            passive_expires_max_s: u32::MAX,
            passive_grace_s: 0,
            queue_rules: Vec::new(),
            control: false,
            created_at: START,
        };
        let user = |name: &str, email: Option<&str>| User {
            id: hookswitch::model::UserId(clock.uuid()),
            account: account.id,
            email: email.map(Into::into),
            name: name.into(),
            enabled: false,
            dnd: false,
            pop_on: hookswitch::model::PopOn::Never,
            queues: Vec::new(),
            queue_login: hookswitch::model::QueueLogin::Manual,
            parked: Vec::new(),
            created_at: START,
        };
        let (ann, bob) = (user("ann", Some("ann@a.example")), user("", None));
        Self { clock, account, site, pbx, ann, bob }
    }

    /// Lives it, and tells what history says afterwards.
    async fn live(&self, registry: &Registry) -> Vec<String> {
        registry.create_account(self.account.clone()).unwrap();
        registry.create_site(self.site.clone()).unwrap();
        registry.create_pbx(self.pbx.clone()).unwrap();
        registry.create_user(self.ann.clone()).unwrap();
        registry.create_user(self.bob.clone()).unwrap();
        let defaults = Defaults {
            account: self.account.id,
            site: self.site.id,
            pbx: self.pbx.id,
            admin: None,
            created: false,
            seq: Seq(0),
        };
        let mut devices = Vec::new();
        for n in 0..30 {
            let user = format!("{n}'\"\\ü");
            let source = if n % 2 == 0 { BindingSource::Registrar } else { BindingSource::Passive };
            let mut bound = samples::binding(registry, &user, source, 60_000 * n);
            bound.user_agent = (n % 3 == 0).then(|| "agent \\\"'".into());
            bound.path = (n % 4 == 0).then(|| "<sip:p;lr>".into());
            let mut second = bound.clone();
            second.contact = "sip:second@192.0.2.3".into();
            let bindings = if n % 5 == 0 { vec![bound, second] } else { vec![bound] };
            devices.push(samples::set_bindings(registry, &defaults, &user, source, bindings).device);
        }
        for device in &devices[..10] {
            registry.link(self.ann.id, *device, START).unwrap();
            registry.device_in_call(*device, START, true, None);
        }
        registry.unlink(self.ann.id, devices[3], START).unwrap();
        registry
            .update_device(devices[4], None, |device| {
                device.label = Some("ü'".into());
                Ok(())
            })
            .unwrap();
        registry.delete_device(devices[5], None).unwrap();
        registry.delete_user(self.bob.id, None).unwrap();
        for n in 0..5 {
            let call = samples::call(&defaults, n, self.ann.id, devices[0]);
            registry.live.put_call(Arc::new(if n == 4 { samples::ringing(&call) } else { call }));
        }
        registry.drain(Duration::from_secs(10)).await.unwrap();
        let calls = registry.calls_page(self.account.id, &hookswitch::registry::CallFilter::default(), None, 100).await;
        let ups = registry.transitions(devices[6], None, 100).await;
        let held = registry.links_history(LinksOf::Device(devices[3]), None, 100).await.unwrap();
        let held: Vec<_> = held.items.iter().map(samples::facts).collect();
        vec![format!("{:#?}", calls.unwrap()), format!("{:#?}", ups.unwrap()), format!("{held:#?}")]
    }
}

/// Everything loaded, in one order, without the ids and numbers that the registry drew.
fn sorted(loaded: &mut Loaded) -> String {
    loaded.devices.sort_by_key(|row| row.value.id);
    loaded.bindings.sort_by_key(|bindings| bindings.device);
    // How many commits it took is chance.
    loaded.bindings.iter_mut().for_each(|bindings| bindings.commit = 0);
    loaded.log = hookswitch::store::Log::default();
    loaded.users.sort_by_key(|row| row.value.id);
    loaded.calls.sort_by_key(|(call, _)| call.id);
    let mut links: Vec<_> = loaded.links.drain(..).map(|row| samples::facts(&row.value)).collect();
    links.sort();
    format!("{loaded:#?} {links:#?}")
}
