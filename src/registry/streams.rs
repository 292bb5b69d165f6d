//! Who listens: event streams of admins and popup sessions of users.

use serde_json::Value;

use crate::model::{AccountId, Offer, UserId};

/// Where changes are announced.
#[derive(Debug, Default)]
pub struct Streams {}

impl Streams {
    /// Tells the account's admins what happened.
    pub fn publish(&self, _account: AccountId, _kind: &'static str, _data: Value) {}

    /// Tells the user's sessions what became of an offer.
    pub fn publish_offer(&self, _offer: &Offer) {}

    /// How many sessions this user has connected.
    #[must_use]
    pub fn sessions(&self, _user: UserId) -> u32 {
        0
    }
}
