//! Calls as they come out of the switchboard: their trails until they end, and what they do in queues.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::news::{CallRecord, News, QueueEvent, QueueHappening};
use super::office::Office;
use crate::model::{Call, CallId, CallState, Outcome, QueueId, TrailEntry, UnixMillis};
use crate::switchboard::View as _;

/// What is known beside the switchboard about calls that go on.
#[derive(Default)]
pub(super) struct Calls {
    live: HashMap<CallId, Live, foldhash::fast::RandomState>,
    outcomes: BTreeMap<&'static str, u64>,
    queue_events: BTreeMap<QueueHappening, u64>,
    offers: u64,
}

#[derive(Default)]
struct Live {
    trail: Vec<TrailEntry>,
    queue: Option<QueueId>,
    is_answered: bool,
}

impl Calls {
    /// Keeps a reason until its call ends.
    pub(super) fn note(&mut self, entry: TrailEntry) {
        self.live.entry(entry.call).or_default().trail.push(entry);
    }

    /// Two calls turned out to be one: what was noted of the one that never was belongs to the other.
    pub(super) fn merge(&mut self, from: CallId, into: CallId) {
        let Some(mut gone) = self.live.remove(&from) else { return };
        let stays = self.live.entry(into).or_default();
        stays.trail.append(&mut gone.trail);
        stays.queue = stays.queue.or(gone.queue);
        stays.is_answered |= gone.is_answered;
    }

    /// Takes a call's new state; one that has ended is told.
    pub(super) fn change(&mut self, call: &Arc<Call>, at: UnixMillis, office: &Office, news: &mut Vec<News>) {
        self.queue_events(call, at, office, news);
        if call.state == CallState::Ended {
            self.tell(call.clone(), outcome(call), office, news);
        }
    }

    /// Tells of a call that went on when the capture ended.
    pub(super) fn left_over(&mut self, call: &Call, office: &Office, news: &mut Vec<News>) {
        self.tell(Arc::new(call.clone()), "live", office, news);
    }

    pub(super) fn outcomes(&self) -> BTreeMap<&'static str, u64> {
        self.outcomes.clone()
    }

    pub(super) fn queue_events_by_kind(&self) -> BTreeMap<QueueHappening, u64> {
        self.queue_events.clone()
    }

    pub(super) fn offers(&self) -> u64 {
        self.offers
    }

    pub(super) fn count_queue_event(&mut self, event: QueueHappening) {
        *self.queue_events.entry(event).or_default() += 1;
    }

    fn tell(&mut self, call: Arc<Call>, outcome: &'static str, office: &Office, news: &mut Vec<News>) {
        *self.outcomes.entry(outcome).or_default() += 1;
        self.offers += u64::try_from(call.offers.len()).unwrap_or(u64::MAX);
        let trail = self.live.remove(&call.id).map(|live| live.trail).unwrap_or_default();
        let named = [call.caller.device, call.callee.device].into_iter().chain(call.legs.iter().map(|leg| leg.device));
        let devices = named.flatten().filter_map(|id| Some((id, office.phone(id)?.user().to_owned()))).collect();
        news.push(News::Call(Box::new(CallRecord { call, devices, trail })));
    }

    fn queue_events(&mut self, call: &Call, at: UnixMillis, office: &Office, news: &mut Vec<News>) {
        let Some(queue) = call.queue else { return };
        let live = self.live.entry(call.id).or_default();
        let mut found = Vec::new();
        if live.queue.replace(queue) != Some(queue) {
            found.push(QueueHappening::Joined);
        }
        let ended = call.state == CallState::Ended;
        if call.answered_at.is_some() && !std::mem::replace(&mut live.is_answered, true) {
            found.push(QueueHappening::Answered);
        }
        if ended && !live.is_answered {
            let caller_gone = call.outcome == Some(Outcome::Missed) && caller_hung_up(call);
            found.push(if caller_gone { QueueHappening::Abandoned } else { QueueHappening::Left });
        }
        let name = office.queue(queue).map(|queue| queue.name.clone()).unwrap_or_default();
        for event in found {
            *self.queue_events.entry(event).or_default() += 1;
            let device = (event == QueueHappening::Answered).then_some(call.callee.device).flatten();
            let user = device.and_then(|device| office.phone(device)).map(|phone| phone.user().to_owned());
            let (queue, name) = (Some(queue), name.clone());
            news.push(News::Queue(QueueEvent { at, queue, name, event, call: Some(call.id), device, user }));
        }
    }
}

/// The caller's own leg ended by the caller: a CANCEL, or a BYE after the queue had picked up.
fn caller_hung_up(call: &Call) -> bool {
    use crate::model::{LegEnd, LegRole};

    let mut callers = call.legs.iter().filter(|leg| matches!(leg.role, LegRole::TrunkIn | LegRole::FromDevice));
    callers.any(|leg| matches!(leg.end, Some(LegEnd::Cancelled | LegEnd::Bye)))
}

/// As it is counted and written.
fn outcome(call: &Call) -> &'static str {
    match call.outcome {
        Some(Outcome::Answered) => "answered",
        Some(Outcome::Missed) => "missed",
        Some(Outcome::Busy) => "busy",
        Some(Outcome::Declined) => "declined",
        Some(Outcome::Cancelled) => "cancelled",
        Some(Outcome::Failed) | None => "failed",
    }
}
