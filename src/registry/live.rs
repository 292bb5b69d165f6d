//! Calls that go on, with their offers.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use foldhash::quality::RandomState;
use smallvec::SmallVec;

use super::Streams;
use crate::model::{AccountId, Call, CallId, CallState, Offer, OfferState, Queue, UserId};
use crate::store::Journal;

/// Calls that go on. Each change also goes to the history, so that a restart finds them.
#[derive(Debug)]
pub struct Live {
    inner: RwLock<Inner>,
    journal: Arc<Journal>,
    streams: Streams,
    calls_max: usize,
}

#[derive(Debug, Default)]
struct Inner {
    calls: HashMap<CallId, Arc<Call>, RandomState>,
    by_account: BTreeSet<(AccountId, CallId)>,
    by_user: BTreeSet<(UserId, CallId)>,
}

impl Live {
    pub(super) fn new(journal: Arc<Journal>, streams: Streams, calls_max: usize) -> Self {
        Self { inner: RwLock::default(), journal, streams, calls_max }
    }

    /// Notes how a call now stands, and returns how it stood before; an ended one leaves for the history.
    pub fn put_call(&self, call: Arc<Call>) -> Option<Arc<Call>> {
        let before = self.remember(&call);
        self.tell_line(before.as_deref(), &call);
        self.journal.record_call(call);
        before
    }

    /// The callers who wait in a queue, first come first, each in its call.
    #[must_use]
    pub fn waiting_in(&self, queue: &Queue) -> Vec<Arc<Call>> {
        let mut calls = self.calls(queue.account);
        calls.retain(|call| call.queue == Some(queue.id) && call.waiting.is_some());
        calls.sort_by_key(|call| (call.waiting, call.id));
        calls
    }

    /// The account's calls, by id.
    #[must_use]
    pub fn calls(&self, account: AccountId) -> Vec<Arc<Call>> {
        let inner = self.read();
        let from = inner.by_account.range((account, CallId(uuid::Uuid::nil()))..);
        from.take_while(|(of, _)| *of == account).filter_map(|(_, id)| inner.calls.get(id).cloned()).collect()
    }

    /// Every call, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Call>> {
        self.read().calls.values().cloned().collect()
    }

    /// One call.
    #[must_use]
    pub fn call(&self, id: CallId) -> Option<Arc<Call>> {
        self.read().calls.get(&id).cloned()
    }

    /// The offers on the user's screen, oldest first.
    #[must_use]
    pub fn offers_of(&self, user: UserId) -> Vec<Offer> {
        let inner = self.read();
        let calls = inner.by_user.range((user, CallId(uuid::Uuid::nil()))..).take_while(|(of, _)| *of == user);
        let offers = calls.filter_map(|(_, id)| inner.calls.get(id)).flat_map(|call| &call.offers);
        let mut offers: Vec<Offer> = offers.filter(|offer| offer.user == user && is_open(offer)).cloned().collect();
        offers.sort_by_key(|offer| (offer.offered_at, offer.id));
        offers
    }

    /// Puts in what the database had, without writing it again; what was there before comes back.
    pub(super) fn remember(&self, call: &Arc<Call>) -> Option<Arc<Call>> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let Inner { calls, by_account, by_user } = &mut *inner;
        let over = call.state == CallState::Ended;
        if !over && calls.len() >= self.calls_max && !calls.contains_key(&call.id) {
            super::count_dropped("live_calls_max");
            return None;
        }
        let known = if over { calls.remove(&call.id) } else { calls.insert(call.id, call.clone()) };
        // Most changes leave a call where it was: only what differs is filed anew.
        let account = (!over).then_some(call.account);
        let known_account = known.as_deref().map(|before| before.account);
        if let Some(left) = known_account.filter(|_| known_account != account) {
            by_account.remove(&(left, call.id));
        }
        if let Some(entered) = account.filter(|_| known_account != account) {
            by_account.insert((entered, call.id));
        }
        let users = |call: &Call| -> SmallVec<[UserId; 8]> {
            call.offers.iter().filter(|offer| is_open(offer)).map(|offer| offer.user).collect()
        };
        let (before, after) = (known.as_deref().map(users).unwrap_or_default(), users(call));
        for user in before.iter().filter(|user| over || !after.contains(user)) {
            by_user.remove(&(*user, call.id));
        }
        for user in after.iter().filter(|user| !over && !before.contains(user)) {
            by_user.insert((*user, call.id));
        }
        known
    }

    /// Tells admins who joined a queue's waiting line and who left it.
    fn tell_line(&self, before: Option<&Call>, after: &Call) {
        let place = |call: &Call| call.queue.filter(|_| call.waiting.is_some() && call.state != CallState::Ended);
        let (was, is) = (before.and_then(place), place(after));
        if was == is {
            return;
        }
        let tell = |event, queue, call: &Call| {
            let data = serde_json::json!({
                "queue": queue, "call": call.id, "caller": call.caller, "waiting": call.waiting,
            });
            self.streams.publish(call.account, event, data);
        };
        if let (Some(queue), Some(before)) = (was, before) {
            tell("queue.caller_left", queue, before);
        }
        if let Some(queue) = is {
            tell("queue.caller_joined", queue, after);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_open(offer: &Offer) -> bool {
    matches!(offer.state, OfferState::Offered | OfferState::Answered)
}
