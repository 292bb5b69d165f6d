//! Hands on what the decoder found: legs to the site, devices and queues to the registry.

use super::super::feeds::Connector;
use super::decode::{Aor, Output};
use super::question::Question;
use crate::model::{FeedKind, Now};
use crate::registry::Target;

/// What is left to do after an output was handed on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Nothing.
    Nothing,
    /// This must be asked.
    Ask(Question),
    /// The site was behind and lost it.
    Lost,
}

/// Hands one output on.
pub(super) fn apply(connector: &Connector, output: Output, now: Now) -> Left {
    let (registry, pbx) = (&connector.registry, connector.pbx);
    let resolved = |aor: &Aor, then: &dyn Fn(&Target<'_>)| match registry.resolve(
        pbx,
        &aor.user,
        aor.domain.as_deref().unwrap_or_default(),
    ) {
        Some(target) => then(&target),
        None => dropped("unknown_domain"),
    };
    match output {
        Output::Leg(event) => {
            if !connector.sites.tell(event, now) {
                return Left::Lost;
            }
        }
        Output::Live(legs) => {
            if !connector.sites.snapshot(pbx, FeedKind::Freeswitch, legs, now) {
                return Left::Lost;
            }
        }
        Output::Contact(aor, contact) => {
            resolved(&aor, &|target| registry.contacts_reported(target, vec![contact.clone()], false, now));
        }
        Output::ContactGone(aor, uri) => resolved(&aor, &|target| registry.contact_gone(target, &uri, now)),
        Output::Unregistered(aor) => resolved(&aor, &|target| {
            if registry.device(target.device()).is_some() {
                registry.contacts_reported(target, Vec::new(), true, now);
            }
        }),
        Output::AllContacts(all, asked) => {
            let table = all.into_iter().map(|(aor, contacts)| (aor.user, aor.domain, contacts)).collect();
            registry.pbx_contacts_reported(pbx, table, asked);
        }
        Output::Users(users) => registry.endpoints_reported(pbx, users, now),
        Output::Queues(queues) => registry.queues_reported(pbx, queues, now),
        Output::Member(queue, member) => registry.member_reported(pbx, &queue, member, now),
        Output::Ask(question) => return Left::Ask(question),
        Output::Dropped(reason) => dropped(reason),
    }
    Left::Nothing
}

/// Counts what could not be used.
pub(super) fn dropped(reason: &'static str) {
    metrics::counter!("hookswitch_dropped_total", "where" => "freeswitch", "reason" => reason).increment(1);
}
