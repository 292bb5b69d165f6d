//! One site under test: tracker and switchboard in a row, settable time, everything that came out remembered.

use std::collections::BTreeMap;

use hookswitch::model::*;
use hookswitch::sip::dialog::{Seen, Sighting, Tracker};
use hookswitch::sip::scan;
use hookswitch::switchboard::{Effect, Input, Switchboard};

use super::world::{PBX, SITE, World};

/// A state of an offer, as [`Site::states`] has it.
pub type State = (OfferState, Option<RescindReason>);

pub const OFFERED: State = (OfferState::Offered, None);
pub const ANSWERED: State = (OfferState::Answered, None);
pub const ENDED: State = (OfferState::Ended, None);

pub fn rescinded(reason: RescindReason) -> State {
    (OfferState::Rescinded, Some(reason))
}

pub struct Site {
    pub world: World,
    pub now: Now,
    tracker: Tracker,
    switchboard: Switchboard,
    /// Every state each offer went through.
    pub offers: BTreeMap<OfferId, Vec<Offer>>,
    pub trail: Vec<TrailEntry>,
    /// The latest record of each call.
    pub calls: BTreeMap<CallId, Call>,
    pub called: Vec<(DeviceId, Option<String>, bool)>,
    pub effects: Vec<Effect>,
    pub hop: Hop,
    pub feed: FeedKind,
}

impl Site {
    pub fn new(world: World) -> Self {
        Self {
            world,
            now: Now { tick: Tick(1_000_000), unix: UnixMillis(1_800_000_000_000) },
            tracker: Tracker::default(),
            switchboard: Switchboard::new(SITE),
            offers: BTreeMap::new(),
            trail: Vec::new(),
            calls: BTreeMap::new(),
            called: Vec::new(),
            effects: Vec::new(),
            hop: Hop::Unknown,
            feed: FeedKind::Mirror,
        }
    }

    /// A message arrives; 5 ms pass first.
    pub fn see(&mut self, text: &str) -> Seen {
        self.now = self.now.after(5);
        self.see_now(text)
    }

    pub fn see_now(&mut self, text: &str) -> Seen {
        let message = scan(text.as_bytes()).unwrap_or_else(|error| panic!("{error:?} in {text}"));
        let (feed, hop) = (self.feed, self.hop);
        let sighting = Sighting { message: &message, pbx: PBX, feed, source: None, destination: None, hop };
        let mut events = Vec::new();
        let seen = self.tracker.observe(self.now, &sighting, &mut events);
        self.events(&events);
        seen
    }

    /// Messages arrive one after the other.
    pub fn see_all(&mut self, messages: impl IntoIterator<Item = String>) {
        for message in messages {
            self.see(&message);
        }
    }

    /// Lets time pass, stopping at every deadline on the way.
    pub fn wait(&mut self, milliseconds: u64) {
        let until = self.now.tick + milliseconds;
        loop {
            let next = [self.tracker.next_deadline(), self.switchboard.next_deadline()].into_iter().flatten().min();
            match next.filter(|at| *at <= until) {
                Some(at) => self.now = self.now.after(at - self.now.tick),
                None => break,
            }
            let mut events = Vec::new();
            self.tracker.poll(self.now, &mut events);
            self.events(&events);
            self.tell(&Input::Time);
        }
        self.now = self.now.after(until - self.now.tick);
    }

    pub fn tell(&mut self, input: &Input<'_>) {
        let effects = self.switchboard.apply(self.now, input, &self.world);
        for effect in &effects {
            match effect {
                Effect::Offer(offer) => self.take_offer(offer),
                Effect::Trail(entry) => self.trail.push((**entry).clone()),
                Effect::Call(call) => {
                    self.calls.insert(call.id, (**call).clone());
                }
                Effect::DeviceCalled { device, external_number, external, .. } => {
                    self.called.push((*device, external_number.clone(), *external));
                }
                Effect::Merged { from, .. } => {
                    self.calls.remove(from);
                }
                Effect::Dropped("leg_of_ended_call" | "unnamed_leg") => {}
                Effect::Dropped(what) => panic!("dropped: {what}"),
            }
        }
        self.effects.extend(effects);
    }

    /// Stops and starts again with nothing but what was written down.
    pub fn restart(&mut self) {
        self.tracker = Tracker::default();
        self.switchboard = Switchboard::new(SITE);
        for call in self.calls.values() {
            let text = serde_json::to_string(call).expect("calls serialise");
            let call: Call = serde_json::from_str(&text).expect("and come back");
            for leg in call.legs.iter().filter(|leg| leg.state != LegState::Ended) {
                self.tracker.restore(self.now, leg, self.feed);
            }
            let trail = u32::try_from(self.trail.iter().filter(|entry| entry.call == call.id).count()).expect("few");
            self.switchboard.restore(self.now, call, trail);
        }
    }

    /// `user`'s only offer, by its states in order.
    pub fn states(&self, user: UserId) -> Vec<State> {
        let mut offers = self.offers.values().filter(|states| states[0].user == user);
        let states: Vec<_> = offers.next().into_iter().flatten().map(|o| (o.state, o.reason)).collect();
        assert!(offers.next().is_none(), "two offers for one user");
        let mut states = states;
        states.dedup();
        states
    }

    pub fn reasons(&self, user: UserId) -> Vec<Reason> {
        self.trail.iter().filter(|entry| entry.user == Some(user)).map(|entry| entry.reason).collect()
    }

    pub fn only_call(&self) -> &Call {
        assert_eq!(self.calls.len(), 1, "{:#?}", self.calls.keys());
        self.calls.values().next().expect("one call")
    }

    fn events(&mut self, events: &[PbxEvent]) {
        for event in events {
            self.tell(&Input::Event(event));
        }
    }

    fn take_offer(&mut self, offer: &Offer) {
        let states = self.offers.entry(offer.id).or_default();
        if let Some(last) = states.last() {
            assert_eq!(offer.version, last.version + 1, "versions count up by one");
            assert_eq!((offer.call, offer.user), (last.call, last.user));
        }
        assert_eq!(offer.reason.is_some(), offer.state == OfferState::Rescinded);
        states.push(offer.clone());
    }
}

/// The steps of several feeds in the order they come, each at its milliseconds plus what its feed lags by then: a feed keeps its
/// own order, but how far it lags changes from step to step.
pub fn lagging<S>(feeds: impl IntoIterator<Item = Vec<(u64, S)>>, lags: &[u64]) -> Vec<(u64, S)> {
    let mut lags = lags.iter().copied().cycle();
    let mut steps = Vec::new();
    for feed in feeds {
        let mut last = 0;
        for (at, step) in feed {
            last = last.max(at + lags.next().unwrap_or(0));
            steps.push((last, step));
        }
    }
    steps.sort_by_key(|(at, _)| *at);
    steps
}
