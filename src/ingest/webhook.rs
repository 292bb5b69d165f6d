//! Events that a PBX, or a program beside it, posts over HTTP: CloudEvents 1.0, one type each for what can happen to a
//! device, a leg, a queue. Any cloud PBX can be fed in through these.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::sip::recent::Recent;
use super::site::Sites;
use crate::model::{
    Caller, ContactKey, Endpoint, FeedKind, Hop, LegEnd, LegEvent, LegKey, LegStart, MemberKind, MemberState, Now,
    PbxEvent, PbxId, Queued, Transport, UnixMillis,
};
use crate::registry::{Registry, ReportedContact, ReportedMember, ReportedQueue};

/// Takes in what is posted for any PBX.
pub struct Webhook {
    registry: Arc<Registry>,
    sites: Sites,
    /// Events taken in lately, by PBX, source and id.
    seen: Mutex<Recent<EventName, ()>>,
}

/// PBX, source and id.
type EventName = (PbxId, Box<str>, Box<str>);

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Taken {
    /// It was applied.
    Applied,
    /// An event of this source and id was applied before; nothing was done.
    Duplicate,
    /// The PBX's site is behind: post it again.
    Busy,
    /// It can't be applied as it is.
    Refused,
}

/// A phone has a registration, or has refreshed it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceRegistered {
    /// User part of its address-of-record.
    #[schema(example = "101")]
    pub user: String,
    /// Its domain, where the PBX serves several.
    pub domain: Option<String>,
    /// The contact URI; made up of `user` when the PBX does not tell.
    pub contact: Option<String>,
    /// Seconds until it ends unless it is refreshed; the PBX's `passive_expires_max_s` when absent.
    pub expires_s: Option<u32>,
    /// Where the phone is.
    #[schema(value_type = Option<String>, example = "198.51.100.7:5060")]
    pub address: Option<SocketAddr>,
    /// Its User-Agent.
    pub user_agent: Option<String>,
}

/// A phone's registration has ended.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceUnregistered {
    /// User part of its address-of-record.
    pub user: String,
    /// Its domain, where the PBX serves several.
    pub domain: Option<String>,
    /// The contact that ended; all of them when absent.
    pub contact: Option<String>,
}

/// A leg began: somebody calls the PBX, or the PBX calls a phone or the outside.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LegStarted {
    /// The leg's id on the PBX.
    pub leg: String,
    /// The call's id on the PBX: legs with the same one are one call.
    pub call: String,
    /// Who called whom.
    pub direction: LegDirection,
    /// User part of the device at the leg's far end; absent = the outside.
    pub device: Option<String>,
    /// Its domain, where the PBX serves several.
    pub domain: Option<String>,
    /// Who calls.
    #[serde(default)]
    pub caller: LegCaller,
    /// What was dialled (`to_pbx`), or the number the PBX calls (`from_pbx`).
    pub to: String,
    /// The queue it is called for.
    pub queue: Option<String>,
    /// Its SIP Call-ID, where the PBX tells: it ties the leg to what SIP feeds see of it.
    pub sip_call_id: Option<String>,
}

/// Which way a leg was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LegDirection {
    /// A phone or the outside called the PBX.
    ToPbx,
    /// The PBX called a phone or the outside.
    FromPbx,
}

/// Who calls on a leg.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LegCaller {
    /// The number.
    pub number: String,
    /// The name.
    pub name: String,
    /// The caller asked not to be named.
    pub withheld: bool,
}

/// Something happened on a leg that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LegNamed {
    /// The leg's id on the PBX.
    pub leg: String,
}

/// A leg is over.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LegEnded {
    /// The leg's id on the PBX.
    pub leg: String,
    /// How it ended.
    pub end: LegEnd,
}

/// A leg belongs to another call from now on (attended transfer, pick-up).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LegMoved {
    /// The leg's id on the PBX.
    pub leg: String,
    /// The call it belongs to now.
    pub call: String,
}

/// The caller on a leg waits in a queue.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LegQueued {
    /// The leg's id on the PBX.
    pub leg: String,
    /// The queue's name on the PBX.
    pub queue: String,
    /// Place in the line, from 1.
    pub position: Option<u32>,
    /// Milliseconds the caller has been waiting already.
    #[serde(default)]
    pub waited_ms: u64,
}

/// All there is to know of a queue's members: these and no others.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueReport {
    /// The queue's name on the PBX; it appears when it is new.
    pub queue: String,
    /// The number callers dial to reach it.
    pub number: Option<String>,
    /// Its members.
    pub members: Vec<MemberReport>,
}

/// One member of a queue came, or something about it changed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberChanged {
    /// The queue's name on the PBX; it appears when it is new.
    pub queue: String,
    /// The member as it is now.
    pub member: MemberReport,
}

/// A member left a queue.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberRemoved {
    /// The queue's name on the PBX.
    pub queue: String,
    /// User part of the device.
    pub user: String,
}

/// A member of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberReport {
    /// User part of the device.
    pub user: String,
    /// Its domain, where the PBX serves several.
    pub domain: Option<String>,
    /// Whether calls are held back from it.
    #[serde(default)]
    pub paused: bool,
    /// Why.
    pub pause_reason: Option<String>,
    /// Order of preference: lower ones are called first.
    #[serde(default)]
    pub penalty: u32,
    /// What the PBX says of it.
    #[serde(default)]
    pub state: MemberState,
}

/// The legs that live now, all of them: others have ended unseen. Post it after a gap.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LegSnapshot {
    /// Their ids on the PBX.
    pub legs: Vec<String>,
}

/// Why an event can't be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Its type is none of [`KINDS`].
    #[error("there is no such type of event; there are {}", KINDS.join(", "))]
    Type,
    /// Its data does not fit its type.
    #[error("{}", .0.inner())]
    Data(#[from] serde_path_to_error::Error<serde_json::Error>),
}

macro_rules! reports {
    ($($(#[doc = $doc:literal])+ $kind:literal => $variant:ident($data:ty),)*) => {
        /// What an event's `type` and `data` say together.
        #[derive(Clone, Debug, PartialEq, Eq, ToSchema)]
        #[serde(tag = "type", content = "data")]
        pub enum Report {
            $($(#[doc = $doc])+ #[serde(rename = $kind)] $variant($data),)*
        }

        impl Report {
            /// Reads an event's data by its type.
            ///
            /// # Errors
            /// Where the type is unknown or the data does not fit it.
            pub fn read(kind: &str, data: Value) -> Result<Self, Unreadable> {
                match kind {
                    $($kind => Ok(Self::$variant(serde_path_to_error::deserialize(data)?)),)*
                    _ => Err(Unreadable::Type),
                }
            }
        }

        /// Every type of event.
        pub const KINDS: &[&str] = &[$($kind),*];
    };
}

reports! {
    /// A phone has a registration, or has refreshed it.
    "pbx.device.registered" => DeviceRegistered(DeviceRegistered),
    /// A phone's registration has ended.
    "pbx.device.unregistered" => DeviceUnregistered(DeviceUnregistered),
    /// A leg began.
    "pbx.leg.started" => LegStarted(LegStarted),
    /// A leg rings.
    "pbx.leg.ringing" => LegRinging(LegNamed),
    /// A leg was answered.
    "pbx.leg.answered" => LegAnswered(LegNamed),
    /// The caller on a leg is giving up.
    "pbx.leg.cancelling" => LegCancelling(LegNamed),
    /// A leg was sent elsewhere and ends soon.
    "pbx.leg.transferred" => LegTransferred(LegNamed),
    /// A leg belongs to another call from now on.
    "pbx.leg.moved" => LegMoved(LegMoved),
    /// The caller on a leg waits in a queue.
    "pbx.leg.queued" => LegQueued(LegQueued),
    /// The caller on a leg left the waiting line.
    "pbx.leg.unqueued" => LegUnqueued(LegNamed),
    /// A leg is over.
    "pbx.leg.ended" => LegEnded(LegEnded),
    /// The legs that live now.
    "pbx.legs" => Legs(LegSnapshot),
    /// A queue and all its members.
    "pbx.queue" => Queue(QueueReport),
    /// One member of a queue came or changed.
    "pbx.queue.member" => Member(MemberChanged),
    /// A member left a queue.
    "pbx.queue.member_removed" => MemberRemoved(MemberRemoved),
}

impl Webhook {
    /// Nothing was posted yet.
    #[must_use]
    pub fn new(registry: Arc<Registry>, sites: Sites) -> Self {
        Self { registry, sites, seen: Mutex::new(Recent::new(SEEN_MAX, SEEN_MS)) }
    }

    /// Applies one event of a PBX, unless one of this source and id was applied before. Never waits.
    pub fn take(&self, pbx: PbxId, source: &str, id: &str, report: Report, now: Now) -> Taken {
        let key = (pbx, source.into(), id.into());
        if self.seen.lock().unwrap_or_else(PoisonError::into_inner).peek(&key, now.tick).is_some() {
            return Taken::Duplicate;
        }
        let taken = self.apply(pbx, report, now);
        if taken == Taken::Applied {
            let feed = self.registry.feeds.open(pbx, FEED, FeedKind::Webhook, now);
            feed.event(now);
            feed.up(now);
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).put(key, (), now.tick);
        }
        taken
    }

    fn apply(&self, pbx: PbxId, report: Report, now: Now) -> Taken {
        let registry = &self.registry;
        match report {
            Report::DeviceRegistered(device) => return self.registered(pbx, device, now),
            Report::DeviceUnregistered(device) => {
                let Some(target) = registry.resolve(pbx, &device.user, device.domain.as_deref().unwrap_or_default())
                else {
                    return Taken::Refused;
                };
                match &device.contact {
                    Some(contact) => registry.contact_gone(&target, contact, now),
                    None => registry.contacts_reported(&target, Vec::new(), true, now),
                }
            }
            Report::Queue(report) => {
                let members = report.members.into_iter().map(to_member).collect();
                let queue = ReportedQueue { name: report.queue, number: report.number, members };
                registry.queue_reported(pbx, queue, now);
            }
            Report::Member(change) => {
                registry.member_reported(pbx, &change.queue, to_member(change.member), now);
            }
            Report::MemberRemoved(gone) => registry.member_gone(pbx, &gone.queue, &gone.user, now),
            Report::Legs(snapshot) => {
                let legs: HashSet<LegKey> = snapshot.legs.iter().map(|leg| leg_key(pbx, leg)).collect();
                return done(self.sites.snapshot(pbx, FeedKind::Webhook, legs, now));
            }
            report => {
                let Some(event) = report.on_leg(pbx) else { return Taken::Refused };
                return done(self.sites.tell(event, now));
            }
        }
        Taken::Applied
    }

    fn registered(&self, pbx: PbxId, device: DeviceRegistered, now: Now) -> Taken {
        let Some(target) = self.registry.resolve(pbx, &device.user, device.domain.as_deref().unwrap_or_default())
        else {
            return Taken::Refused;
        };
        let host = device.address.map_or_else(|| "webhook.invalid".to_owned(), |address| address.to_string());
        let contact = ReportedContact {
            uri: device.contact.unwrap_or_else(|| format!("sip:{}@{host}", target.user)),
            expires_at: device.expires_s.map(|s| UnixMillis(now.unix.0 + i64::from(s) * 1000)),
            received: device.address,
            user_agent: device.user_agent,
            call_id: None,
            transport: Transport::Udp,
            path: None,
            rtt_us: None,
            reachable: None,
        };
        self.registry.contacts_reported(&target, vec![contact], false, now);
        Taken::Applied
    }
}

fn done(sent: bool) -> Taken {
    if sent { Taken::Applied } else { Taken::Busy }
}

impl Report {
    /// What a report about one leg means for the site; none when it is about something else.
    #[must_use]
    pub fn on_leg(self, pbx: PbxId) -> Option<PbxEvent> {
        let (leg, event) = leg_event(pbx, self)?;
        let evidence = format!("posted: {} on {leg}", word(&event));
        Some(PbxEvent { pbx, feed: FeedKind::Webhook, leg: leg_key(pbx, &leg), event, evidence })
    }
}

fn leg_event(pbx: PbxId, report: Report) -> Option<(String, LegEvent)> {
    Some(match report {
        Report::LegStarted(start) => {
            let leg = start.leg.clone();
            (leg, LegEvent::Started(Box::new(leg_start(pbx, start))))
        }
        Report::LegRinging(named) => (named.leg, LegEvent::Rang),
        Report::LegAnswered(named) => (named.leg, LegEvent::Answered),
        Report::LegCancelling(named) => (named.leg, LegEvent::Cancelling),
        Report::LegTransferred(named) => (named.leg, LegEvent::Referred),
        Report::LegUnqueued(named) => (named.leg, LegEvent::Unqueued),
        Report::LegMoved(moved) => (moved.leg, LegEvent::Moved(leg_key(pbx, &moved.call).0)),
        Report::LegEnded(ended) => (ended.leg, LegEvent::Ended(ended.end)),
        Report::LegQueued(LegQueued { leg, queue, position, waited_ms }) => {
            (leg, LegEvent::Queued(Queued { queue, position, waited_ms }))
        }
        _ => return None,
    })
}

fn leg_start(pbx: PbxId, start: LegStarted) -> LegStart {
    let LegCaller { number, name, withheld } = start.caller;
    let caller = if withheld { Caller { withheld, ..Caller::default() } } else { Caller { number, name, withheld } };
    LegStart {
        call_key: leg_key(pbx, &start.call).0,
        hop: match start.direction {
            LegDirection::ToPbx => Hop::ToPbx,
            LegDirection::FromPbx => Hop::FromPbx,
        },
        target: ContactKey { user: start.to.into(), ..ContactKey::default() },
        caller,
        endpoint: Some(Endpoint { user: start.device.unwrap_or_default(), domain: start.domain }),
        sip_call_id: start.sip_call_id,
        queue: start.queue,
        ..LegStart::default()
    }
}

fn to_member(member: MemberReport) -> ReportedMember {
    ReportedMember {
        user: member.user,
        domain: member.domain,
        name: None,
        paused: member.paused,
        pause_reason: member.pause_reason,
        penalty: member.penalty,
        kind: MemberKind::Dynamic,
        state: member.state,
    }
}

fn leg_key(pbx: PbxId, id: &str) -> LegKey {
    LegKey(format!("{}:{pbx}:{id}", FeedKind::Webhook.as_str()).into())
}

fn word(event: &LegEvent) -> &'static str {
    match event {
        LegEvent::Started(_) => "started",
        LegEvent::Rang => "ringing",
        LegEvent::Answered => "answered",
        LegEvent::Cancelling => "cancelling",
        LegEvent::Referred => "transferred",
        LegEvent::Named(_) => "named",
        LegEvent::Queued(_) => "queued",
        LegEvent::Unqueued => "unqueued",
        LegEvent::Moved(_) => "moved",
        LegEvent::TakesOver(_) => "takes over",
        LegEvent::Ended(_) => "ended",
    }
}

/// The feed's name in listings.
const FEED: &str = "webhook";
/// Events remembered, so that one posted again is not applied again.
const SEEN_MAX: usize = 100_000;
/// For so long; a sender that tries longer than a day has given up.
const SEEN_MS: u64 = 24 * 3_600_000;
