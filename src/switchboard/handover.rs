//! Legs that come from elsewhere: another feed's sight of the same leg, another call's leg, a whole call.

use super::call::LiveCall;
use super::effect::Context;
use super::legs::is_connectors;
use super::{offers, outcome};
use crate::model::{Leg, LegKey, LegRole, LegState, PbxId, UserAction};

impl LiveCall {
    /// The leg that SIP shows under this Call-ID on this PBX, unless it is `other` itself.
    pub fn sip_leg(&self, pbx: PbxId, call_id: &str, other: &LegKey) -> Option<LegKey> {
        let wanted = |leg: &&Leg| leg.pbx == pbx && *leg.call_key == *call_id && leg.key != *other;
        self.call.legs.iter().find(wanted).map(|leg| leg.key.clone())
    }

    /// Whether a connector tells of it, which names the queue where there is one.
    pub fn is_told(&self) -> bool {
        self.call.legs.iter().any(|leg| is_connectors(&leg.key))
    }

    /// A leg that has not ended.
    pub fn live_leg(&self, key: &LegKey) -> Option<&Leg> {
        self.call.legs.iter().find(|leg| leg.key == *key && leg.state != LegState::Ended)
    }

    /// Two legs are one: what was known of `sip` is now known of `leg`.
    pub fn absorb(&mut self, leg: &LegKey, sip: &LegKey) {
        let Some(at) = self.call.legs.iter().position(|known| known.key == *sip) else { return };
        let seen = self.edit().legs.remove(at);
        self.rename(sip, leg);
        self.changed = true;
        let Some(own) = self.edit().legs.iter_mut().find(|known| known.key == *leg) else { return };
        own.began_at = own.began_at.min(seen.began_at);
        own.rang_at = earlier(own.rang_at, seen.rang_at);
        own.answered_at = earlier(own.answered_at, seen.answered_at);
        own.ended_at = earlier(own.ended_at, seen.ended_at);
        own.end = own.end.or(seen.end);
        own.device = own.device.or(seen.device);
        if progress(seen.state) > progress(own.state) {
            own.state = seen.state;
        }
    }

    /// Everything of a call that turned out to be this one. A user who has it on the screen twice keeps this one's popup.
    pub fn take_over(&mut self, context: &mut Context<'_>, mut gone: Self) {
        offers::withdraw_all(&mut gone, context);
        self.edit().began_at = self.call.began_at.min(gone.call.began_at);
        self.edit().answered_at = earlier(self.call.answered_at, gone.call.answered_at);
        self.edit().queue = self.call.queue.or(gone.call.queue);
        self.edit().waiting = self.call.waiting.or(gone.call.waiting);
        for (key, user) in gone.call.users.iter().map(|user| ((user.user, user.device), user)) {
            let users = &mut self.edit().users;
            match users.iter_mut().find(|known| (known.user, known.device) == key) {
                Some(known) => known.action = known.action.max(user.action),
                None => users.push(user.clone()),
            }
        }
        let caller_came = !self.has_caller_leg() && gone.has_caller_leg();
        if caller_came {
            self.edit().caller = gone.call.caller.clone();
            self.edit().callee = gone.call.callee.clone();
        }
        self.edit().legs.append(&mut gone.edit().legs);
        self.adopt_marks(gone);
        self.edit().direction = outcome::direction(&self.call.caller, &self.call.callee);
        self.changed = true;
        offers::refresh_parties(self, context);
    }

    /// A leg of another call goes on in this one: whoever is on it has this call now.
    pub fn adopt(&mut self, context: &mut Context<'_>, leg: Leg) {
        let (device, role, state) = (leg.device, leg.role, leg.state);
        let answered_at = leg.answered_at;
        self.edit().legs.push(leg);
        self.changed = true;
        let (Some(device), LegRole::ToDevice | LegRole::FromDevice) = (device, role) else { return };
        match state {
            LegState::Answered => {
                self.edit().answered_at = self.call.answered_at.or(answered_at);
                if !self.call.callee.external {
                    self.reached(Some(device));
                }
                self.attribute(context, device, UserAction::Answered);
                offers::on_answer(self, context, device);
            }
            LegState::Ringing => {
                self.attribute(context, device, UserAction::Rang);
                offers::on_ring(self, context, device);
            }
            LegState::Calling | LegState::Ended => {}
        }
    }

    /// What is remembered of one leg is remembered of another.
    fn rename(&mut self, from: &LegKey, to: &LegKey) {
        for set in [&mut self.cancelling, &mut self.referred] {
            if set.remove(from) {
                set.insert(to.clone());
            }
        }
    }

    /// What another call's legs are remembered for.
    fn adopt_marks(&mut self, other: Self) {
        self.cancelling.extend(other.cancelling);
        self.referred.extend(other.referred);
        self.parties_known |= other.parties_known;
        self.heard_at = self.heard_at.max(other.heard_at);
    }
}

fn earlier<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    one.into_iter().chain(other).min()
}

fn progress(state: LegState) -> u8 {
    match state {
        LegState::Calling => 0,
        LegState::Ringing => 1,
        LegState::Answered => 2,
        LegState::Ended => 3,
    }
}
