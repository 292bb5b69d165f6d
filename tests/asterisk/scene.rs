//! An office: Asterisk, its phones, the trunk, and a hookswitch for each set of feeds beside it. What happens is driven
//! once and looked at in each.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::pbx::{Pbx, Version};
use crate::proxy::Proxy;
use crate::record::{Expected, Feeds};
use crate::support::baresip::{Account, Phone};
use crate::support::folder::Folder;
use crate::support::sipp::{Scenario, Sipp};
use crate::tee::{Mirrored, Tee};
use crate::watcher::Watcher;

/// The office. [`Scene::close`] says whether everything was as expected.
#[derive(Debug)]
pub struct Scene {
    // First, so that they can still unregister when the office is closed.
    phones: BTreeMap<String, Phone>,
    /// One for each of [`FEEDS`].
    pub watchers: Vec<Watcher>,
    /// The PBX.
    pub pbx: Pbx,
    /// What the PBX mirrors.
    pub tee: Tee,
    left: Option<Expected>,
    members: BTreeSet<(String, String)>,
    wrong: Vec<String>,
    folder: Folder,
}

impl Scene {
    /// Opens the office with these phones, and their people at them.
    pub async fn open(name: &str, version: Version, extensions: &[&str]) -> Self {
        Self::open_with(Self::open_empty(name, version, None).await, "udp", extensions).await
    }

    /// The same with hookswitch finding the manager interface behind a wire that can be cut.
    pub async fn open_over(name: &str, wire: &Proxy, extensions: &[&str]) -> Self {
        Self::open_with(Self::open_empty(name, Version::TwentyTwo, Some(wire)).await, "udp", extensions).await
    }

    /// The same with phones that speak SIP over `transport`.
    pub async fn open_on(name: &str, transport: &str, extensions: &[&str]) -> Self {
        Self::open_with(Self::open_empty(name, Version::TwentyTwo, None).await, transport, extensions).await
    }

    async fn open_with(mut scene: Self, transport: &str, extensions: &[&str]) -> Self {
        for extension in extensions {
            scene.plug_in(extension, transport, 60).await;
        }
        for watcher in &mut scene.watchers {
            watcher.sit_down(extensions).await;
        }
        scene
    }

    /// Opens it without phones.
    pub async fn open_empty(name: &str, version: Version, wire: Option<&Proxy>) -> Self {
        let folder = Folder::new(name);
        let tee = Tee::open().await;
        let pbx = Pbx::start(&folder, version, tee.address).await;
        if let Some(wire) = wire {
            wire.lead_to(pbx.manager);
        }
        let manager = wire.map_or(pbx.manager, |wire| wire.address);
        let watchers = join_all(FEEDS.iter().map(|feeds| Watcher::start(name, *feeds, manager))).await;
        for watcher in &watchers {
            watcher.is_up().await;
            if watcher.feeds.has_hep() {
                tee.feed(watcher.hep);
            }
        }
        Self {
            phones: BTreeMap::new(),
            watchers,
            pbx,
            tee,
            left: None,
            members: static_members(),
            wrong: Vec::new(),
            folder,
        }
    }

    /// Plugs a phone in, and waits until Asterisk has it.
    pub async fn plug_in(&mut self, extension: &str, transport: &str, expires_s: u32) {
        let domain = self.pbx.address.to_string();
        let account = Account { extension, domain: &domain, proxy: self.pbx.address, transport, expires_s };
        let phone = Phone::start(&self.folder, account).await;
        self.phones.insert(extension.to_owned(), phone);
    }

    /// Unplugs a phone or switches it off: what was done to it is the caller's.
    pub fn take_phone(&mut self, extension: &str) -> Phone {
        self.phones.remove(extension).expect("the phone is plugged in")
    }

    /// A phone.
    pub fn phone(&mut self, extension: &str) -> &mut Phone {
        self.phones.get_mut(extension).expect("the phone is plugged in")
    }

    /// Somebody outside, +14155550100, calls `number` as `tests/sipp/<file>.xml` says, pausing for `pause_ms`.
    pub fn trunk(&self, file: &str, number: &str, pause_ms: u64) -> Sipp {
        let (target, source) = (Some(self.pbx.address), Some(self.pbx.trunk));
        let pause = Duration::from_millis(pause_ms);
        Scenario { target, source, service: number, pause, ..Scenario::new(file) }.start(&self.folder)
    }

    /// A second caller from outside, over the same trunk's other port, who talks until the other side hangs up.
    pub fn second_trunk(&self, number: &str) -> Sipp {
        let (target, source) = (Some(self.pbx.address), Some(self.pbx.second_trunk));
        Scenario { target, source, service: number, ..Scenario::new("trunk-calls") }.start(&self.folder)
    }

    /// Somebody outside waits for a call, lets it ring for `pause_ms` and answers.
    pub fn outside(&self, pause_ms: u64) -> Sipp {
        let pause = Duration::from_millis(pause_ms);
        Scenario { source: Some(self.pbx.trunk), pause, ..Scenario::new("trunk-answers") }.start(&self.folder)
    }

    /// The PBX runs again. Who has been made a member is none any more.
    pub async fn starts_again(&mut self) {
        self.pbx.start_again().await;
        self.members = static_members();
    }

    /// Makes a phone a member of a queue, as an administrator does.
    pub async fn add_member(&mut self, queue: &str, extension: &str) {
        let interface = format!("PJSIP/{extension}");
        let fields = [("Queue", queue), ("Interface", &interface), ("StateInterface", &interface)];
        self.pbx.ami.act("QueueAdd", &fields).await;
        self.members.insert((queue.to_owned(), extension.to_owned()));
    }

    /// Takes one out again.
    pub async fn remove_member(&mut self, queue: &str, extension: &str) {
        let interface = format!("PJSIP/{extension}");
        self.pbx.ami.act("QueueRemove", &[("Queue", queue), ("Interface", &interface)]).await;
        self.members.remove(&(queue.to_owned(), extension.to_owned()));
    }

    /// Lets a story happen, checks what it leaves behind, and closes the office.
    pub async fn tells(mut self, story: impl AsyncFnOnce(&mut Self), left: Expected) {
        story(&mut self).await;
        self.leaves(left).await;
        self.close().await;
    }

    /// A phone rings, and a moment later its user answers and says something.
    pub async fn answers(&mut self, extension: &str) {
        self.rings(extension).await;
        a_moment().await;
        self.phone(extension).answer().await;
        a_moment().await;
    }

    /// A phone rings, and a moment later its user wants no call.
    pub async fn rejects(&mut self, extension: &str) {
        self.rings(extension).await;
        a_moment().await;
        self.phone(extension).reject().await;
    }

    /// The user of a phone hangs up, which the outside has waited for.
    pub async fn hangs_up(&mut self, extension: &str, outside: Sipp) {
        self.phone(extension).hang_up().await;
        outside.passes().await;
    }

    /// Waits until a phone rings.
    pub async fn rings(&self, extension: &str) {
        self.phones[extension].rings().await;
    }

    /// How often a phone's registration was accepted.
    pub fn registrations(&self, extension: &str) -> usize {
        let to = format!("sip:{extension}@");
        let is_of = |copy: &&Mirrored| copy.header("To").is_some_and(|to_| to_.contains(&to));
        self.tee.seen().iter().filter(|copy| copy.answers("REGISTER", 200)).filter(is_of).count()
    }

    /// Where the call is that a phone has answered, as a URI that takes its place (RFC 3891).
    pub fn dialog_of(&self, extension: &str) -> String {
        let seen = self.tee.seen();
        // What Asterisk calls is the phone's contact, whose user begins with the extension.
        let contact = format!("<sip:{extension}");
        let is_to = |copy: &&Mirrored| copy.header("To").is_some_and(|to| to.contains(&contact));
        let answer =
            seen.iter().filter(|copy| copy.answers("INVITE", 200)).find(is_to).expect("the phone has answered");
        let tag = |name| answer.header(name).and_then(|value| value.split_once(";tag=")).map_or("", |(_, tag)| tag);
        // As Asterisk, which is asked, sees them: its own tag is the one in From, for it placed this call.
        let (id, to_tag, from_tag) = (answer.header("Call-ID").unwrap_or_default(), tag("From"), tag("To"));
        let replaces = format!("{id};to-tag={to_tag};from-tag={from_tag}");
        let replaces = replaces.replace(';', "%3B").replace('=', "%3D").replace('@', "%40");
        format!("<sip:{}?Replaces={replaces}>", self.pbx.address)
    }

    /// All calls since the office was opened leave this behind.
    pub async fn leaves(&mut self, expected: Expected) {
        let look = async |watcher: &Watcher| expected.or_race(watcher.feeds, watcher.calls().await);
        self.all_show("calls", expected, look).await;
        self.left = Some(expected);
    }

    /// hookswitch's phones are these in the end: `101 connected, 102 disconnected`.
    pub async fn phones_are(&mut self, expected: Expected) {
        self.all_show("phones", expected, async |watcher| vec![watcher.phones().await]).await;
    }

    /// What a phone's history says, oldest first.
    pub async fn history_is(&mut self, extension: &str, expected: Expected) {
        self.all_show("history", expected, async |watcher| vec![watcher.history(extension).await]).await;
    }

    /// Who is in a queue.
    pub async fn members_are(&mut self, queue: &str, expected: Expected) {
        self.all_show("members", expected, async |watcher| vec![watcher.members(queue).await]).await;
    }

    /// Panics when something was not as expected, then or any more; or when the phones that are plugged in are not
    /// connected, or the queues' members are not those of the PBX.
    pub async fn close(mut self) {
        let plugged: Vec<String> = self.phones.keys().map(|extension| format!("{extension} connected")).collect();
        let watchers: Vec<&Watcher> = self.watchers.iter().collect();
        let connected = async |watcher: &Watcher| {
            let shown = watcher.phones().await;
            shown.split(", ").filter(|shown| plugged.iter().any(|phone| phone == shown)).map(str::to_owned).collect()
        };
        let mut wrong = differences(&watchers, "phones in the end", |_| plugged.clone(), connected).await;
        for queue in ["sales", "support"] {
            let members: Vec<&str> =
                self.members.iter().filter(|(of, _)| of == queue).map(|(_, member)| member.as_str()).collect();
            let members =
                format!("{queue}: {}", if members.is_empty() { "nobody".to_owned() } else { members.join(", ") });
            let wanted =
                |feeds: Feeds| vec![if feeds.has_ami() { members.clone() } else { format!("{queue}: nobody") }];
            let look = async |watcher: &Watcher| vec![watcher.members(queue).await];
            wrong.extend(differences(&watchers, "members in the end", wanted, look).await);
        }
        self.wrong.extend(wrong);
        if let (Some(expected), true) = (self.left, self.wrong.is_empty()) {
            tokio::time::sleep(STAYS).await;
            for watcher in &self.watchers {
                let shown = expected.or_race(watcher.feeds, watcher.calls().await);
                let wanted = expected.lines(watcher.feeds);
                self.wrong.extend(difference("calls, a while later", watcher.feeds, &wanted, &shown));
            }
        }
        assert!(self.wrong.is_empty(), "this was not as it should be, see above: {}", self.wrong.join("; "));
    }

    /// No offer is open any more, for those of these feeds.
    pub async fn no_offer_is_open(&mut self, of: impl Fn(Feeds) -> bool) {
        let watchers: Vec<&Watcher> = self.watchers.iter().filter(|watcher| of(watcher.feeds)).collect();
        let none = ["0".to_owned()];
        let look = async |watcher: &Watcher| vec![watcher.open_offers().await.to_string()];
        let wrong = differences(&watchers, "open offers", |_| none.to_vec(), look).await;
        self.wrong.extend(wrong);
    }

    /// What the daemon with these feeds shows is `wanted` in the end.
    pub async fn shows(
        &mut self,
        feeds: Feeds,
        what: &str,
        wanted: &[String],
        look: impl AsyncFn(&Watcher) -> Vec<String>,
    ) {
        let watchers: Vec<&Watcher> = self.watchers.iter().filter(|watcher| watcher.feeds == feeds).collect();
        let wrong = differences(&watchers, what, |_| wanted.to_vec(), look).await;
        self.wrong.extend(wrong);
    }

    async fn all_show(&mut self, what: &str, expected: Expected, look: impl AsyncFn(&Watcher) -> Vec<String>) {
        let watchers: Vec<&Watcher> = self.watchers.iter().collect();
        let wrong = differences(&watchers, what, |feeds| expected.lines(feeds), look).await;
        self.wrong.extend(wrong);
    }
}

/// Who `queues.conf` puts into queues.
fn static_members() -> BTreeSet<(String, String)> {
    [("sales", "103"), ("support", "101")].map(|(queue, member)| (queue.to_owned(), member.to_owned())).into()
}

/// What the daemons show, where it is not what is wanted in the end.
async fn differences(
    watchers: &[&Watcher],
    what: &str,
    wanted: impl Fn(Feeds) -> Vec<String>,
    look: impl AsyncFn(&Watcher) -> Vec<String>,
) -> Vec<String> {
    let all = watchers.iter().map(async |watcher| {
        let wanted = wanted(watcher.feeds);
        let shown = settled(&wanted, async || look(watcher).await).await;
        difference(what, watcher.feeds, &wanted, &shown)
    });
    join_all(all).await.into_iter().flatten().collect()
}

/// What a person takes to do the next thing. Feeds have long told of the last one then.
pub async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(300)).await;
}

/// What is shown once it is what is wanted, or when that has taken too long.
async fn settled(wanted: &[String], look: impl AsyncFn() -> Vec<String>) -> Vec<String> {
    let end = Instant::now() + SETTLES;
    loop {
        let shown = look().await;
        if shown == wanted || Instant::now() > end {
            return shown;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Prints how they differ; what does, if anything.
fn difference(what: &str, feeds: Feeds, wanted: &[String], shown: &[String]) -> Option<String> {
    (wanted != shown).then(|| {
        let (wanted, shown) = (wanted.join("\n    "), shown.join("\n    "));
        eprintln!("\n== {what} ({feeds:?})\nwanted:\n    {wanted}\nshown:\n    {shown}");
        format!("{what} ({feeds:?})")
    })
}

/// The sets of feeds that each scenario is looked at with.
const FEEDS: [Feeds; 3] = [Feeds::Ami, Feeds::Hep, Feeds::Both];
/// How long what is shown may take to be what it should be.
const SETTLES: Duration = Duration::from_secs(10);
/// How long it is watched whether it stays so.
const STAYS: Duration = Duration::from_millis(400);
