//! Which PBXs a listener hears from: each is a feed, open from its first packet on.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use crate::model::{FeedKind, Now, PbxId};
use crate::registry::{FeedHandle, Registry};

/// The PBXs one listener has heard from; there are no more than PBXs.
pub(super) struct Heard {
    listener: String,
    kind: FeedKind,
    feeds: RwLock<HashMap<PbxId, FeedHandle>>,
}

impl Heard {
    pub(super) fn new(listener: &str, kind: FeedKind) -> Self {
        Self { listener: listener.to_owned(), kind, feeds: RwLock::default() }
    }

    /// Something came from this PBX.
    pub(super) fn note(&self, registry: &Registry, pbx: PbxId, now: Now) {
        if let Some(feed) = self.feeds.read().unwrap_or_else(PoisonError::into_inner).get(&pbx) {
            return feed.event(now);
        }
        let feed = registry.feeds.open(pbx, &self.listener, self.kind, now);
        feed.event(now);
        self.feeds.write().unwrap_or_else(PoisonError::into_inner).insert(pbx, feed);
    }
}
