//! Changes that go to the PBX, with the connector itself and a registry in memory.

use std::sync::Arc;

use hookswitch::clock::Clock;
use hookswitch::config::{Config, Kind};
use hookswitch::ingest::feed::Feed as _;
use hookswitch::ingest::feeds::Connector;
use hookswitch::ingest::freeswitch::Freeswitch;
use hookswitch::ingest::site::Sites;
use hookswitch::model::{FeedKind, Member, Pbx, PbxId};
use hookswitch::registry::{Command, ControlRequest, Limits, Registry};
use hookswitch::store::Store;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::recorded::answers;
use crate::server::{EventSocket, Manners};
use crate::support::wait::until;

/// A connector that runs, and its registry.
struct Desk {
    pbx: EventSocket,
    registry: Arc<Registry>,
    id: PbxId,
    stop: CancellationToken,
}

impl Desk {
    async fn open(control: bool) -> Self {
        let pbx = EventSocket::start(Manners::default()).await;
        let (clock, tasks, stop) = (Clock::system(), TaskTracker::new(), CancellationToken::new());
        let store = Store::open("sqlite::memory:").await.unwrap();
        let registry = Registry::open(store, clock.clone(), Limits::default()).await.unwrap();
        let id = registry.ensure_defaults().unwrap().pbx;
        may_be_changed(&registry, id, control);
        let settings =
            format!("[feeds.freeswitch]\naddress = \"{}\"\nsecret = \"ClueCon\"\npoll_s = 3600", pbx.address);
        let config = Config::parse(&settings, std::iter::empty()).unwrap().feeds.remove(0);
        assert_eq!(config.kind, Kind::Freeswitch);
        let sites = Sites::new(registry.clone(), &tasks, &stop, &Handle::current());
        let handle = registry.feeds.open(id, "freeswitch", FeedKind::Freeswitch, clock.now());
        let connector = Connector { config, pbx: id, registry: registry.clone(), sites, clock, handle: handle.clone() };
        let ended = stop.clone();
        tokio::spawn(async move {
            let mut feed = Freeswitch::new(connector);
            tokio::select! {
                error = feed.session() => panic!("{error}"),
                () = ended.cancelled() => {}
            }
        });
        until("the feed is up", async || handle.is_up().then_some(())).await;
        Self { pbx, registry, id, stop }
    }

    async fn order(&self, command: Command) -> Result<(), String> {
        let (done, outcome) = oneshot::channel();
        let control = self.registry.feeds.control(self.id).expect("the feed takes commands");
        control.send(ControlRequest { command, done }).await.unwrap();
        outcome.await.expect("the feed answers")
    }

    /// User parts and whether paused, of the members of sales.
    fn members(&self) -> Vec<(String, bool)> {
        let name = |device| self.registry.device(device).unwrap().device.user.to_string();
        let sales = self.sales();
        let mut members: Vec<_> = sales.iter().map(|member| (name(member.device), member.paused)).collect();
        members.sort();
        members
    }

    fn penalties(&self) -> Vec<u32> {
        self.sales().iter().map(|member| member.penalty).collect()
    }

    fn sales(&self) -> Vec<Member> {
        let queues = self.registry.queues.all();
        queues.iter().find(|queue| queue.value.name == "sales@default").unwrap().value.members.clone()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test]
async fn a_change_goes_to_the_pbx_and_counts_when_its_list_shows_it() {
    let desk = Desk::open(true).await;
    assert_eq!(desk.members().len(), 2);
    let remove = || Command::RemoveMember { queue: "sales@default".into(), user: "202".into() };
    desk.pbx.answer("api callcenter_config tier del sales@default 202@default", "-ERR no thanks\n");
    assert_eq!(desk.order(remove()).await, Err("-ERR no thanks".into()));
    assert_eq!(desk.members().len(), 2);
    let tiers = answers("agent-tiers")["api callcenter_config tier list"][1].clone();
    let line = |line: &&str| !line.starts_with("sales@default|202");
    let without: String = tiers.lines().filter(line).fold(String::new(), |all, line| all + line + "\n");
    desk.pbx.answer("api callcenter_config tier list", &without);
    desk.pbx.answer("api callcenter_config tier del sales@default 202@default", "+OK\n");
    assert_eq!(desk.order(remove()).await, Ok(()));
    until("the list shows it", async || (desk.members().len() == 1).then_some(())).await;
    // 202 is logged out, so that a tier alone would bring it no call.
    desk.pbx.answer("api callcenter_config tier list", &tiers);
    desk.pbx.answer("api callcenter_config tier add sales@default 202@default 2 1", "+OK\n");
    desk.pbx.answer("api callcenter_config agent set status 202@default 'Available'", "+OK\n");
    let add = Command::AddMember { queue: "sales@default".into(), user: "202".into(), name: None, penalty: 2 };
    assert_eq!(desk.order(add).await, Ok(()));
    until("it is back", async || (desk.members().len() == 2).then_some(())).await;
}

#[tokio::test]
async fn a_pause_is_the_agents_and_counts_when_the_event_says_so() {
    let desk = Desk::open(true).await;
    desk.pbx.answer("api callcenter_config agent set status 201@default 'On Break'", "+OK\n");
    let list = answers("agent-tiers")["api callcenter_config agent list"][0].clone();
    desk.pbx.answer("api callcenter_config agent list", &list.replacen("|Available|", "|On Break|", 1));
    let pause =
        |user: &str| Command::Pause { queue: None, user: user.into(), paused: true, reason: Some("lunch".into()) };
    assert_eq!(desk.order(pause("201")).await, Ok(()));
    until("201 is paused", async || desk.members().iter().any(|(_, paused)| *paused).then_some(())).await;
    let out = desk.order(pause("202")).await.unwrap_err();
    assert!(out.contains("logged out"), "{out}");
    let unknown = desk.order(pause("999")).await.unwrap_err();
    assert!(unknown.contains("no agent"), "{unknown}");
}

#[tokio::test]
async fn a_penalty_is_a_tiers_level() {
    let desk = Desk::open(true).await;
    let prefer = |penalty| Command::SetPenalty { queue: "sales@default".into(), user: "201".into(), penalty };
    let tiers = answers("agent-tiers")["api callcenter_config tier list"][1].clone();
    let line = tiers.lines().find(|line| line.starts_with("sales@default|201")).expect("201 is in it");
    let mut cells: Vec<&str> = line.split('|').collect();
    cells[3] = "7";
    desk.pbx.answer("api callcenter_config tier list", &tiers.replace(line, &cells.join("|")));
    desk.pbx.answer("api callcenter_config tier set level sales@default 201@default 7", "+OK\n");
    assert_eq!(desk.order(prefer(7)).await, Ok(()));
    until("the list shows it", async || desk.penalties().contains(&7).then_some(())).await;
    let none = desk.order(prefer(0)).await.unwrap_err();
    assert!(none.contains("at least 1"), "{none}");
}

#[tokio::test]
async fn a_pbx_gets_commands_while_it_may_be_changed_and_only_then() {
    let desk = Desk::open(false).await;
    let prefer = || Command::SetPenalty { queue: "sales@default".into(), user: "201".into(), penalty: 7 };
    let off = desk.order(prefer()).await.unwrap_err();
    assert!(off.contains("control is off"), "{off}");
    let changing = |asked: &String| [" add ", " del ", " set "].iter().any(|word| asked.contains(word));
    assert!(!desk.pbx.asked().iter().any(changing), "{:?}", desk.pbx.asked());
    // There is no poll in an hour: it holds at once.
    may_be_changed(&desk.registry, desk.id, true);
    desk.pbx.answer("api callcenter_config tier set level sales@default 201@default 7", "+OK\n");
    assert_eq!(desk.order(prefer()).await, Ok(()));
    may_be_changed(&desk.registry, desk.id, false);
    assert!(desk.order(prefer()).await.is_err());
}

fn may_be_changed(registry: &Registry, pbx: PbxId, control: bool) {
    let change = |pbx: &mut Pbx| {
        pbx.control = control;
        Ok(())
    };
    registry.update_pbx(pbx, None, change).expect("a PBX can be edited");
}
