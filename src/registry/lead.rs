//! Whether connectors of a PBX are up. Asked at every message and at every expiry, so it is a few atomics.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::record::NEVER;
use crate::model::{FeedKind, Tick};

/// The connectors of one PBX that are up.
#[derive(Debug, Default)]
pub(super) struct Lead {
    /// Those that follow its channels.
    channels: AtomicU32,
    /// Those that list its contacts.
    contacts: AtomicU32,
    /// Tick at which the last one that lists contacts went away.
    left_at: AtomicU64,
}

impl Lead {
    /// A connector has told where things stand.
    pub(super) fn join(&self, kind: FeedKind) {
        for count in self.counts(kind) {
            count.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// It is not up any more.
    pub(super) fn leave(&self, kind: FeedKind, at: Tick) {
        self.left_at.fetch_max(at.0, Ordering::AcqRel);
        for count in self.counts(kind) {
            count.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Whether the PBX's own channels are the measure of what goes on there.
    pub(super) fn has_channels(&self) -> bool {
        self.channels.load(Ordering::Acquire) > 0
    }

    /// How long a contact that a connector listed is believed: while one is up, for it would tell when the contact goes;
    /// then until its own time is over, but no shorter than until the connector left.
    pub(super) fn believes(&self, expires_at: Tick) -> Tick {
        if self.contacts.load(Ordering::Acquire) > 0 {
            return NEVER;
        }
        expires_at.max(Tick(self.left_at.load(Ordering::Acquire)))
    }

    fn counts(&self, kind: FeedKind) -> impl Iterator<Item = &AtomicU32> {
        let channels = matches!(kind, FeedKind::Asterisk | FeedKind::Freeswitch).then_some(&self.channels);
        // A webhook has no connection that could break, so nothing says that it would tell.
        let contacts = (kind.is_connector() && kind != FeedKind::Webhook).then_some(&self.contacts);
        channels.into_iter().chain(contacts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_contact_is_believed_while_a_connector_is_up_and_until_it_left() {
        let lead = Lead::default();
        assert_eq!(lead.believes(Tick(5)), Tick(5));
        lead.join(FeedKind::Asterisk);
        assert_eq!((lead.believes(Tick(5)), lead.has_channels()), (NEVER, true));
        lead.leave(FeedKind::Asterisk, Tick(90));
        assert_eq!((lead.believes(Tick(5)), lead.believes(Tick(100))), (Tick(90), Tick(100)));
        assert!(!lead.has_channels());
    }

    #[test]
    fn a_webhook_and_a_listener_vouch_for_nothing() {
        let lead = Lead::default();
        lead.join(FeedKind::Webhook);
        lead.join(FeedKind::Hep);
        assert_eq!((lead.believes(Tick(5)), lead.has_channels()), (Tick(5), false));
        lead.join(FeedKind::Subscription);
        assert_eq!((lead.believes(Tick(5)), lead.has_channels()), (NEVER, false));
    }
}
