//! What connectors say of legs, phones and queues, as their logs have it.

use std::collections::HashSet;

use super::engine::Engine;
use super::news::{News, Origin, QueueEvent};
use super::office::EXPIRES_MAX_S;
use crate::model::{FeedKind, LegEvent, LegKey, Now, PbxEvent, PbxId};
use crate::registry::{ReportedContact, ReportedMember, ReportedQueue, merged};
use crate::switchboard::{Input, NumberClass};

impl Engine {
    /// Takes what a connector says happened on a leg.
    pub(super) fn leg(&mut self, event: &PbxEvent, now: Now) {
        match &event.event {
            LegEvent::Started(start) => {
                if let Some(queue) = &start.queue {
                    self.office.ensure_queue(queue);
                }
                let endpoint = start.endpoint.as_ref().map(|endpoint| endpoint.user.as_str()).unwrap_or_default();
                if self.office.by_user(endpoint).is_none() && self.plan.read(endpoint).class == NumberClass::Internal {
                    self.office.appear(endpoint, Origin::Connector, Some(now.unix));
                }
            }
            LegEvent::Queued(queued) => self.office.ensure_queue(&queued.queue),
            _ => {}
        }
        self.apply(now, &Input::Event(event));
    }

    /// Takes a connector's list of all live legs.
    pub(super) fn legs(&mut self, feed: FeedKind, legs: &HashSet<LegKey>, now: Now) {
        let pbx = self.office.pbx_id();
        self.apply(now, &Input::Snapshot { pbx, feed, legs });
    }

    /// Takes what a connector says the contacts of a user are.
    pub(super) fn contacts(&mut self, user: &str, contacts: &[ReportedContact], complete: bool, now: Now) {
        let known = self.office.by_user(user);
        let device = match known {
            None if !contacts.is_empty() => self.office.appear(user, Origin::Connector, Some(now.unix)),
            known => known,
        };
        let Some(id) = device else { return };
        let before = self.office.phone(id).map(|phone| phone.bindings.as_slice()).unwrap_or_default();
        let max_ms = u64::from(EXPIRES_MAX_S) * 1000;
        let (after, _) = merged(before, contacts, complete, max_ms, now);
        let news = self.office.bind(id, after, now, "unregistered");
        self.news.extend(news.into_iter().map(News::Transition));
    }

    /// Takes a connector's word that a contact is gone.
    pub(super) fn contact_gone(&mut self, user: &str, uri: &str, now: Now) {
        let Some(id) = self.office.by_user(user) else { return };
        let bindings = self.office.phone(id).map(|phone| phone.bindings.clone()).unwrap_or_default();
        let left = bindings.into_iter().filter(|binding| *binding.contact != *uri).collect();
        let news = self.office.bind(id, left, now, "unregistered");
        self.news.extend(news.into_iter().map(News::Transition));
    }

    /// Takes what a connector says of queues: all members of these.
    pub(super) fn queues(&mut self, queues: &[ReportedQueue], now: Now) {
        for queue in queues {
            let events = self.office.queue_reported(queue, now);
            self.queue_events(events);
        }
    }

    /// Takes what a connector says of one member.
    pub(super) fn member(&mut self, queue: &str, member: &ReportedMember, now: Now) {
        let events = self.office.member_reported(queue, member, now);
        self.queue_events(events);
    }

    /// Takes a connector's word that a member left.
    pub(super) fn member_gone(&mut self, queue: &str, user: &str, now: Now) {
        let events = self.office.member_gone(queue, user, now);
        self.queue_events(events);
    }

    /// The PBX everything belongs to.
    pub(super) fn pbx(&self) -> PbxId {
        self.office.pbx_id()
    }

    /// A connector's log is part of the capture: SIP legs wait a moment for their name there.
    pub(super) fn is_led(&mut self) {
        self.office.led = true;
    }

    fn queue_events(&mut self, events: Vec<QueueEvent>) {
        for event in events {
            self.calls.count_queue_event(event.event);
            self.news.push(News::Queue(event));
        }
    }
}
