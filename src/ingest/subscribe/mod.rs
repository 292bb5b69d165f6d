//! PBXs that offer nothing else tell of their dialogs (RFC 4235) and registrations (RFC 3680) to whoever subscribes.
//!
//! [`crate::sip::subscriber`] keeps the subscriptions; here are the socket they go over, the bodies they bring, and what
//! follows from those: legs for the site, contacts for the registry.

pub(super) mod contacts;
pub mod dialog_info;
pub(super) mod dialogs;
mod halves;
mod link;
pub mod reginfo;
pub mod xml;

use std::collections::BTreeSet;
use std::time::Duration;

use self::dialog_info::DialogInfo;
use self::dialogs::{Dialogs, Resource};
use self::link::Link;
use self::reginfo::RegInfo;
use super::feed::{Feed, FeedError};
use super::feeds::Connector;
use crate::config::{EXTENSIONS_MAX, Extensions};
use crate::model::{FeedKind, Leg, Now, PbxEvent, canonical_host, canonical_user};
use crate::registry::Registry;
use crate::sip::client::Phone;
use crate::sip::digest::Credentials;
use crate::sip::subscriber::{Failure, Output, Package, Settings, Subscriber, Topic};
use crate::telemetry::Short;

/// A feed by subscription to one PBX.
pub struct Subscriptions {
    connector: Connector,
    domain: String,
    dialogs: Dialogs,
}

/// One try: a way to the PBX and what was subscribed over it.
struct Session {
    link: Link,
    subscriber: Subscriber,
    /// Everything had been told, or had failed, when it was last looked at.
    settled: bool,
    /// When it is looked again which devices there are.
    look_at: Now,
}

impl Drop for Session {
    /// The PBX need not go on notifying nobody. Its last words are not waited for.
    fn drop(&mut self) {
        for bytes in self.subscriber.farewell() {
            self.link.send_now(&bytes);
        }
    }
}

impl Subscriptions {
    /// A feed that is not connected yet.
    #[must_use]
    pub fn new(connector: Connector) -> Self {
        let host = connector.config.address.rsplit_once(':').map_or("", |(host, _)| host);
        let domain = connector.config.subscriptions.domain.as_deref().unwrap_or(host);
        let domain = canonical_host(domain).into_owned();
        let dialogs = Dialogs::new(connector.pbx, FeedKind::Subscription.as_str(), live_legs(&connector.registry));
        Self { connector, domain, dialogs }
    }

    async fn follow(&mut self) -> Result<(), FeedError> {
        let config = &self.connector.config;
        let link = Link::open(&config.address, config.subscriptions.transport, config.tls).await?;
        let now = self.now();
        let subscriber = Subscriber::new(self.phone(&link), self.settings(), seed()?);
        let mut session = Session { link, subscriber, settled: false, look_at: now };
        loop {
            let now = self.now();
            if session.look_at.tick <= now.tick {
                session.look_at = now.after(LOOK_MS);
                session.subscriber.watch(&self.topics(now), now);
            }
            session.subscriber.poll(now);
            self.deliver(&mut session).await?;
            self.note_settled(&mut session)?;
            let next =
                session.subscriber.next_deadline().map_or(session.look_at.tick, |at| at.min(session.look_at.tick));
            let wait = Duration::from_millis(next - self.now().tick);
            tokio::select! {
                received = session.link.receive() => {
                    let bytes = received?;
                    session.subscriber.receive(&bytes, session.link.peer, self.now());
                }
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Does all that the subscriber wants done.
    async fn deliver(&mut self, session: &mut Session) -> Result<(), FeedError> {
        while let Some(output) = session.subscriber.next_output() {
            match output {
                Output::Send(bytes) => session.link.send(&bytes).await?,
                Output::Told { topic, body } => self.hear(session, &topic, &body),
                Output::Lost { topic, why } => self.lose(session, &topic, &why),
                Output::Failed(Failure::Refused(why)) => return Err(FeedError::Refused(why)),
                Output::Failed(Failure::Silent(why)) => return Err(FeedError::Broken(why)),
            }
        }
        Ok(())
    }

    fn hear(&mut self, session: &mut Session, topic: &Topic, body: &[u8]) {
        let now = self.now();
        self.connector.handle.event(now);
        let read = match topic.package {
            Package::Dialog => read_dialogs(body).map(|info| {
                let mut events = Vec::new();
                let resource = Resource { user: &topic.user, domain: Some(&self.domain) };
                if !self.dialogs.take_in(&topic.user, resource, &info, now, &mut events) {
                    count_dropped("dialogs");
                }
                self.tell(session, events);
            }),
            // Without a body nothing is known, which is not to say that there is no contact.
            Package::Reg if body.is_empty() => Ok(()),
            Package::Reg => RegInfo::parse(body).map(|info| {
                let strangers = contacts::report(&self.connector.registry, self.connector.pbx, &info, now);
                if strangers > 0 {
                    count_dropped("unknown_domain");
                }
            }),
        };
        if let Err(error) = read {
            count_dropped(error.label());
            tracing::debug!(feed = self.connector.handle.name(), %error, "a notification can't be read");
        }
    }

    fn lose(&mut self, session: &mut Session, topic: &Topic, why: &str) {
        let event = topic.package.event();
        let (feed, extension) = (self.connector.handle.name(), Short(&topic.user));
        tracing::warn!(feed, event, %extension, why, "a subscription failed");
        metrics::counter!("hookswitch_subscription_failures_total", "event" => event).increment(1);
        if topic.package == Package::Dialog {
            let mut events = Vec::new();
            self.dialogs.lose(&topic.user, why, &mut events);
            self.tell(session, events);
        }
    }

    /// Tells the site. When it is behind, everything is asked for again.
    fn tell(&mut self, session: &mut Session, events: Vec<PbxEvent>) {
        let now = self.now();
        let told = events.into_iter().all(|event| self.connector.sites.tell(event, now));
        if !told {
            let (pbx, live) = (self.connector.pbx, live_legs(&self.connector.registry));
            self.dialogs = Dialogs::new(pbx, FeedKind::Subscription.as_str(), live);
            session.subscriber.refresh_all(now.after(BEHIND_MS));
        }
    }

    /// Once everything was told, what was not is over.
    fn note_settled(&mut self, session: &mut Session) -> Result<(), FeedError> {
        let before = std::mem::replace(&mut session.settled, session.subscriber.is_settled());
        if before || !session.settled {
            return Ok(());
        }
        if let Some(why) = session.subscriber.failed_wholly() {
            return Err(FeedError::Refused(format!("no subscription is accepted: {why}")));
        }
        let (Connector { pbx, sites, handle, .. }, now) = (&self.connector, self.now());
        if !sites.snapshot(*pbx, FeedKind::Subscription, self.dialogs.live(), now) {
            session.subscriber.refresh_all(now.after(BEHIND_MS));
            session.settled = false;
            return Ok(());
        }
        handle.up(now);
        Ok(())
    }

    /// What to subscribe to. Extensions that the configuration names are devices, whether they ever registered or not.
    fn topics(&self, now: Now) -> BTreeSet<Topic> {
        let Connector { config, pbx, registry, .. } = &self.connector;
        let mut known = None;
        let mut topics = BTreeSet::new();
        let wanted =
            [(Package::Dialog, &config.subscriptions.dialogs), (Package::Reg, &config.subscriptions.registrations)];
        for (package, extensions) in wanted {
            let users = match extensions {
                Extensions::All => known.get_or_insert_with(|| registry.users_on(*pbx, EXTENSIONS_MAX)).clone(),
                Extensions::These(users) => users.iter().map(|user| canonical_user(user).into_owned()).collect(),
            };
            if matches!(extensions, Extensions::These(_)) {
                for target in users.iter().filter_map(|user| registry.resolve(*pbx, user, &self.domain)) {
                    // A limit that forbids it is counted there.
                    let _ = registry.ensure_device(&target, now);
                }
            }
            topics.extend(users.into_iter().map(|user| Topic { package, user }));
        }
        topics
    }

    fn phone(&self, link: &Link) -> Phone {
        Phone {
            user: self.connector.config.user.clone().unwrap_or_else(|| "hookswitch".into()),
            domain: self.domain.clone(),
            display: None,
            local: link.local,
            transport: self.connector.config.subscriptions.transport,
            user_agent: concat!("hookswitch/", env!("CARGO_PKG_VERSION")).into(),
        }
    }

    fn settings(&self) -> Settings {
        let config = &self.connector.config;
        let password = config.secret.reveal();
        let credentials = config.user.clone().map(|user| Credentials { user, password: password.to_owned() });
        Settings { credentials, expires_s: config.subscriptions.expires_s, refresh_s: config.snapshot_s }
    }

    fn now(&self) -> Now {
        self.connector.clock.now()
    }
}

impl Feed for Subscriptions {
    async fn session(&mut self) -> FeedError {
        match self.follow().await {
            Ok(()) => FeedError::Broken("ended".into()),
            Err(error) => error,
        }
    }

    fn abandon(&mut self) {
        let (Connector { pbx, sites, .. }, now) = (&self.connector, self.now());
        self.dialogs = Dialogs::new(*pbx, FeedKind::Subscription.as_str(), std::iter::empty());
        // A site that is behind has the next snapshot to catch up with.
        let _ = sites.snapshot(*pbx, FeedKind::Subscription, self.dialogs.live(), now);
    }
}

fn seed() -> Result<[u8; 16], FeedError> {
    let mut seed = [0; 16];
    getrandom::fill(&mut seed).map_err(|error| FeedError::Broken(format!("no random bytes: {error}")))?;
    Ok(seed)
}

/// What a notification's body says; an empty one says that there is no dialog.
fn read_dialogs(body: &[u8]) -> Result<DialogInfo, xml::XmlError> {
    if body.is_empty() {
        return Ok(DialogInfo { full: true, ..DialogInfo::default() });
    }
    DialogInfo::parse(body)
}

fn live_legs(registry: &Registry) -> impl Iterator<Item = Leg> {
    registry.live.all().into_iter().flat_map(|call| call.legs.clone())
}

fn count_dropped(reason: &'static str) {
    metrics::counter!("hookswitch_dropped_total", "where" => "subscription", "reason" => reason).increment(1);
}

/// How often it is looked which devices there are.
const LOOK_MS: u64 = 30_000;
/// How long a site that is behind gets to catch up.
const BEHIND_MS: u64 = 1_000;
