//! Carries what the decoder says to where it is kept: legs to the site, devices and queues to the registry.

use super::decode::Output;
use crate::ingest::feeds::Connector;
use crate::model::{FeedKind, Now};

/// Applies one output; false when it was lost, so that a snapshot is due.
pub(super) fn apply(connector: &Connector, output: Output, now: Now) -> bool {
    let (registry, pbx) = (&connector.registry, connector.pbx);
    match output {
        Output::Leg(event) => return connector.sites.tell(event, now),
        Output::Legs(legs) => return connector.sites.snapshot(pbx, FeedKind::Asterisk, legs, now),
        Output::Contacts { user, contacts, complete } => {
            let Some(target) = registry.resolve(pbx, &user, "") else { return true };
            // An extension that never registered is no device yet.
            let known = || registry.device(target.device()).is_some();
            if !contacts.is_empty() || known() {
                registry.contacts_reported(&target, contacts, complete, now);
            }
        }
        Output::ContactGone { user, uri } => {
            if let Some(target) = registry.resolve(pbx, &user, "") {
                registry.contact_gone(&target, &uri, now);
            }
        }
        Output::Reachability { user, uri, reachable, rtt_us } => {
            if let Some(target) = registry.resolve(pbx, &user, "") {
                registry.reachability(&target, uri.as_deref(), reachable, rtt_us, now);
            }
        }
        Output::Endpoints(users) => registry.endpoints_reported(pbx, users, now),
        Output::Queues(queues) => registry.queues_reported(pbx, queues, now),
        Output::Member { queue, member } => registry.member_reported(pbx, &queue, member, now),
        Output::MemberGone { queue, user } => registry.member_gone(pbx, &queue, &user, now),
        Output::Ask(_) | Output::Refused { .. } | Output::Settled | Output::Booted | Output::ShuttingDown => {}
    }
    true
}
