//! What follows from an input, and what a decision may look at.

use std::sync::Arc;

use super::View;
use crate::model::{Account, Call, CallId, DeviceId, Now, Offer, SiteId, TrailEntry, UnixMillis};

/// What the shell must do; in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Show, change or close this offer on its user's sessions.
    Offer(Box<Offer>),
    /// Keep this reason.
    Trail(Box<TrailEntry>),
    /// Keep this call as it now is; its state says whether it is over.
    Call(Arc<Call>),
    /// Two calls turned out to be one: forget `from`, in the history too.
    Merged {
        /// The one that never was.
        from: CallId,
        /// The one that goes on.
        into: CallId,
    },
    /// The device rang or placed a call: it is alive.
    DeviceCalled {
        /// The device.
        device: DeviceId,
        /// The other end, when it is external and not withheld.
        external_number: Option<String>,
        /// The other end is external, so the device is assignable from now on.
        external: bool,
        /// When.
        at: UnixMillis,
    },
    /// Something could not be followed; the word says which limit.
    Dropped(&'static str),
}

/// Everything a decision on one call may look at, and where its effects go.
pub(super) struct Context<'a> {
    pub now: Now,
    pub view: &'a dyn View,
    pub site: SiteId,
    pub account: &'a Account,
    /// The event behind the decision, for the trail.
    pub evidence: &'a str,
    pub effects: &'a mut Vec<Effect>,
}
