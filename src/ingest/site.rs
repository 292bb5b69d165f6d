//! Stand-in until the site task is merged.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::model::{FeedKind, Hop, Now, PbxId};
use crate::registry::Registry;

/// All site tasks.
#[derive(Clone)]
pub struct Sites {}

/// One message a feed saw.
pub struct Observation {
    /// PBX.
    pub pbx: PbxId,
    /// Feed.
    pub feed: FeedKind,
    /// Message.
    pub bytes: Bytes,
    /// Source.
    pub source: Option<SocketAddr>,
    /// Destination.
    pub destination: Option<SocketAddr>,
    /// Hop.
    pub hop: Hop,
    /// When.
    pub at: Now,
}

impl Sites {
    /// New.
    pub fn new(_registry: Arc<Registry>) -> Self {
        Self {}
    }

    /// Observe.
    pub fn observe(&self, _observation: Observation) {}
}
