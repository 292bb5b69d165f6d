//! The registrar's rules (RFC 3261 §10.3), without a clock, a socket or a store.
//!
//! [`RegisterRequest`] is what a REGISTER asks for, [`decide()`] what becomes of an address-of-record's bindings, and
//! [`answer`] what its 200 says. Mirrors, which see what another registrar answered, take [`bindings_from_response`].

mod decide;
mod passive;
mod request;

pub use decide::{Decision, Policy, bad_extension, decide};
pub use passive::{RequestFacts, Snapshot, bindings_from_response, origin};
pub use request::{
    AOR_PART_LEN_MAX, CONTACT_LEN_MAX, CONTACTS_MAX, INSTANCE_LEN_MAX, PATH_LEN_MAX, USER_AGENT_LEN_MAX,
};
pub use request::{ContactRequest, Contacts, RegisterRequest, unsupported};

pub use super::refusal::Refusal;
use super::reply::{Reply, Response};
pub use crate::model::Overflow;
use crate::model::{Binding, Now};

/// The 200 to `request`: every contact that lives at `now` with the seconds it has left, the Path that was asked to be
/// shown (RFC 3327 §5.3), Date.
pub fn answer(reply: &Reply<'_, '_>, request: &RegisterRequest<'_>, bindings: &[Binding], now: Now) -> Response {
    let response = reply.status(200, "OK").contacts(bindings, now);
    let response = match &request.path {
        Some(path) if request.supports_path => response.header("Path", path).header("Supported", "path"),
        _ => response,
    };
    response.date(now.unix)
}
