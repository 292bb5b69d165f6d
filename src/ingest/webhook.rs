//! Events that a PBX, or a program beside it, posts over HTTP: CloudEvents 1.0, each with a [`Report`]. Any cloud PBX can be
//! fed in through these.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use utoipa::ToSchema;

pub use super::report::{KINDS, Report, Unreadable};

use super::report::{DeviceRegistered, LegCaller, LegDirection, LegQueued, LegStarted, MemberReport};
use super::sip::recent::Recent;
use super::site::Sites;
use crate::model::{
    Caller, ContactKey, Endpoint, FeedKind, Hop, LegEvent, LegKey, LegStart, MemberKind, Now, PbxEvent, PbxId, Queued,
    Transport, UnixMillis,
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
