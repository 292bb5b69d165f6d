//! A seeded simulation of a busy office: calls of every shape at once, their copies late, doubled or lost, clocks that
//! jump, users edited and restarts in between. It checks the promises, not a script. A failure prints the seed;
//! `HOOKSWITCH_SEED=N` runs that one again.

use std::collections::{BTreeMap, BTreeSet};

use hookswitch::model::*;
use hookswitch::switchboard::Input;

use super::site::Site;
use super::wire::Invite;
use super::world::{World, device};

/// `SplitMix64`: the same seed gives the same office on every machine.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What the network does to the copies.
#[derive(Clone, Copy)]
struct Weather {
    jitter_ms: u64,
    double_percent: u64,
    lose_percent: u64,
    edits: bool,
}

/// One call as it really was.
struct Truth {
    call_ids: BTreeSet<String>,
    outcome: Outcome,
    /// Whose screen must have shown it as answered.
    answered_by: Option<UserId>,
}

const PHONES: [&str; 6] = ["101", "102", "103", "104", "105", "106"];

struct Office {
    site: Site,
    dice: Dice,
    /// (when, in ms; order; text)
    messages: Vec<(u64, usize, String)>,
    truths: Vec<Truth>,
}

impl Office {
    fn new(seed: u64) -> Self {
        let mut world = World::new();
        let devices: Vec<DeviceId> = PHONES.iter().map(|phone| world.phone(phone)).collect();
        for (number, id) in (1..).zip(&devices) {
            world.user(number, &[*id]);
        }
        let queue = world.queue("sales", "600", &devices);
        let users: Vec<UserId> = world.users.keys().copied().collect();
        for user in users {
            world.facts(user).queues.push(queue);
        }
        Self { site: Site::new(world), dice: Dice(seed), messages: Vec::new(), truths: Vec::new() }
    }

    fn say(&mut self, at: u64, text: String) {
        self.messages.push((at, self.messages.len(), text));
    }

    /// One call from a number of its own; returns how it really ended.
    fn call(&mut self, number: usize, start: u64) {
        let call_id = format!("c{number}");
        let caller = format!("+1415555{:04}", 100 + number);
        let kind = self.dice.below(4);
        let ring = 500 + self.dice.below(8_000);
        let talk = 500 + self.dice.below(30_000);
        let picks = self.dice.below(6);
        let phone = PHONES[usize::try_from(picks).expect("small")];
        let (outer, inners) = match kind {
            0 => {
                let outer = Invite::from_trunk(&call_id, &caller, phone);
                let inner = outer.proxied_to(phone);
                (outer, vec![(inner, phone)])
            }
            1 => {
                let outer = Invite::from_trunk(&call_id, &caller, "4155550199");
                let legs = PHONES.iter().take(3).map(|phone| (outer.proxied_to(phone), *phone)).collect();
                (outer, legs)
            }
            2 => {
                let outer = Invite::from_trunk(&call_id, &caller, "600");
                let from = format!("<sip:{caller}@192.0.2.1>");
                let leg = |phone: &&'static str| {
                    let inner = Invite::b2b(&format!("{call_id}-leg-{phone}x"), phone, &from);
                    (inner.with(&format!("X-CID: {call_id}")), *phone)
                };
                let legs = PHONES.iter().skip(2).take(3).map(leg).collect();
                (outer, legs)
            }
            _ => {
                let outer = Invite::from_phone(&call_id, phone, &caller);
                let inner = outer.proxied(&format!("sip:{caller}@trunk.example"), "trunk");
                (outer, vec![(inner, phone)])
            }
        };
        self.play(&outer, &inners, start, ring, talk, kind);
    }

    fn play(&mut self, outer: &Invite, legs: &[(Invite, &'static str)], start: u64, ring: u64, talk: u64, kind: u64) {
        self.say(start, outer.text());
        self.say(start + 1, outer.response(100, ""));
        for (at, (leg, _)) in legs.iter().enumerate() {
            let at = start + 60 + 5 * at as u64;
            self.say(at, leg.text());
            self.say(at + 30, leg.response(180, "callee"));
        }
        let over = start + ring + 100;
        let answered = self.dice.chance(60);
        let ours = kind == 3;
        let outcome = if answered {
            let at = usize::try_from(self.dice.below(legs.len() as u64)).expect("small");
            for (other, (leg, _)) in legs.iter().enumerate() {
                if other == at {
                    self.say(over, leg.response(200, "callee"));
                    self.say(over + 40, leg.ack("callee"));
                    self.say(over + talk + 30, leg.bye("callee"));
                } else {
                    self.say(over + 40, leg.cancel("SIP;cause=200;text=\"Call completed elsewhere\""));
                    self.say(over + 80, leg.response(487, "callee"));
                }
            }
            self.say(over + 5, outer.response(200, "callee"));
            self.say(over + 35, outer.ack("callee"));
            self.say(over + talk, outer.bye("callee"));
            (Outcome::Answered, Some(user_of(legs[at].1)))
        } else {
            self.say(over, outer.cancel(""));
            for (leg, _) in legs {
                self.say(over + 30, leg.cancel(""));
                self.say(over + 70, leg.response(487, "callee"));
            }
            self.say(over + 75, outer.response(487, "callee"));
            (if ours { Outcome::Cancelled } else { Outcome::Missed }, None)
        };
        let call_ids = legs.iter().map(|(leg, _)| leg.call_id.clone()).chain([outer.call_id.clone()]).collect();
        self.truths.push(Truth { call_ids, outcome: outcome.0, answered_by: outcome.1 });
    }

    fn run(&mut self, weather: Weather) {
        for number in 0..25 {
            let start = self.dice.below(60_000);
            self.call(number, start);
        }
        let mut arrivals = Vec::new();
        for (at, order, text) in std::mem::take(&mut self.messages) {
            let copies = if self.dice.chance(weather.double_percent) { 2 } else { 1 };
            for _ in 0..copies {
                if !self.dice.chance(weather.lose_percent) {
                    arrivals.push((at + self.dice.below(weather.jitter_ms + 1), order, text.clone()));
                }
            }
        }
        arrivals.sort();
        let mut clock = 0;
        for (at, _, text) in arrivals {
            self.site.wait(at.saturating_sub(clock));
            clock = at;
            self.site.see_now(&text);
            if weather.edits && self.dice.chance(2) {
                self.edit();
            }
        }
        self.site.wait(12 * 3_600_000);
    }

    fn edit(&mut self) {
        let user = user_of(PHONES[usize::try_from(self.dice.below(6)).expect("small")]);
        match self.dice.below(4) {
            0 => self.site.world.facts(user).dnd ^= true,
            1 => self.site.world.facts(user).enabled ^= true,
            2 => self.site.restart(),
            // The wall clock is stepped; deadlines must not notice.
            _ => self.site.now.unix.0 += 3_600_000 - 7_200_000 * i64::from(self.dice.chance(50)),
        }
        self.site.tell(&Input::UserChanged(user));
    }

    /// Promise 5, whatever happened: one offer per real call and user, and every offer closed in the end.
    fn keeps_promise_five(&self) {
        let mut seen: BTreeMap<(usize, UserId), OfferId> = BTreeMap::new();
        for (id, states) in &self.site.offers {
            let last = states.last().expect("an offer has a state");
            assert!(matches!(last.state, OfferState::Rescinded | OfferState::Ended), "left open: {last:?}");
            let call = &self.site.calls[&last.call];
            let real = self.truth_of(call);
            let before = seen.insert((real, last.user), *id);
            assert!(before.is_none(), "user {} has two offers for one call", last.user);
        }
        for call in self.site.calls.values() {
            assert_eq!(call.state, CallState::Ended, "{call:#?}");
            assert!(call.legs.iter().all(|leg| leg.state == LegState::Ended));
        }
    }

    /// With every message there, however late or often, the record is what happened.
    fn tells_the_truth(&self) {
        assert_eq!(self.site.calls.len(), self.truths.len());
        for call in self.site.calls.values() {
            let truth = &self.truths[self.truth_of(call)];
            assert_eq!(call.outcome, Some(truth.outcome), "{call:#?}");
            let answered: Vec<UserId> =
                call.offers.iter().filter(|offer| offer.state == OfferState::Ended).map(|offer| offer.user).collect();
            assert_eq!(answered, Vec::from_iter(truth.answered_by), "{call:#?}");
        }
    }

    fn truth_of(&self, call: &Call) -> usize {
        let mut real = call.legs.iter().map(|leg| {
            self.truths.iter().position(|truth| truth.call_ids.contains(&*leg.call_key)).expect("a leg we sent")
        });
        let first = real.next().expect("a call has a leg");
        assert!(real.all(|other| other == first), "legs of two calls were joined");
        first
    }
}

fn user_of(phone: &str) -> UserId {
    let mut world = World::new();
    let number = PHONES.iter().position(|p| *p == phone).expect("one of ours");
    world.user(number as u128 + 1, &[device(phone)])
}

fn each_seed(rounds: u64, mut check: impl FnMut(u64)) {
    let only = std::env::var("HOOKSWITCH_SEED").ok().and_then(|text| text.parse().ok());
    let seeds = only.map_or_else(|| (0..rounds).collect(), |seed| vec![seed]);
    for seed in seeds {
        println!("seed {seed}");
        check(seed);
    }
}

#[test]
fn late_and_doubled_copies_change_nothing_of_the_record() {
    each_seed(60, |seed| {
        let mut office = Office::new(seed);
        office.run(Weather { jitter_ms: 18, double_percent: 20, lose_percent: 0, edits: false });
        office.keeps_promise_five();
        office.tells_the_truth();
    });
}

#[test]
fn whatever_is_lost_edited_restarted_or_stepped_each_offer_is_single_and_closed_in_the_end() {
    each_seed(60, |seed| {
        let mut office = Office::new(seed);
        office.run(Weather { jitter_ms: 2_000, double_percent: 30, lose_percent: 15, edits: true });
        office.keeps_promise_five();
    });
}

#[test]
fn the_same_events_replayed_give_the_same_effects() {
    each_seed(10, |seed| {
        let weather = Weather { jitter_ms: 500, double_percent: 30, lose_percent: 10, edits: true };
        let (mut one, mut two) = (Office::new(seed), Office::new(seed));
        one.run(weather);
        two.run(weather);
        assert_eq!(one.site.effects, two.site.effects);
    });
}
