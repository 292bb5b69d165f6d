//! The nouns: what hookswitch knows, as plain serde values without behaviour that needs a clock, a socket or a database.
//!
//! Everything above this module imports it; it imports nothing of ours. A noun that is also an HTTP answer derives its
//! OpenAPI schema where it stands, so that the documentation can't drift from the value.

mod account;
mod aor;
mod call;
mod device;
mod event;
mod id;
mod network;
mod offer;
mod pbx;
mod queue;
mod registration;
mod secret;
mod time;
mod token;
mod user;

pub use account::{Account, AccountSettings, NumberPlan, OutboundNotice, QueueNotice, UserQueues};
pub use aor::{Aor, canonical_host, canonical_user};
pub use call::{Call, CallState, CallUser, Direction, Leg, LegRole, LegState, Outcome, Party, UserAction, Waiting};
pub use device::{Binding, BindingSource, Device, DeviceState, Transition, TransitionKind, Transport};
pub use event::{
    Caller, ContactKey, Endpoint, FeedKind, Hop, JoinHints, LegEnd, LegEvent, LegKey, LegStart, PbxEvent, Queued,
};
pub use id::{AccountId, CallId, DeviceId, LinkId, OfferId, PbxId, QueueId, SiteId, TokenId, UserId};
pub use network::{Network, NetworkError};
pub use offer::{Offer, OfferState, Reason, RescindReason, TrailEntry};
pub use pbx::{Pbx, QueueRule, Site};
pub use queue::{Member, MemberKind, MemberState, Queue};
pub use registration::{Overflow, RegistrationSettings};
pub use secret::{DeviceSecret, DigestAlgorithm, Ha1};
pub use time::{Now, Tick, UnixMillis};
pub use token::{Scope, Token};
pub use user::{Link, Parked, PopOn, QueueLogin, User};
