//! Asterisk by its manager interface (AMI).

use super::feed::{Feed, FeedError};
use super::feeds::Connector;

/// A connection to one Asterisk.
pub struct Asterisk {
    connector: Connector,
}

impl Asterisk {
    /// A feed that is not connected yet.
    #[must_use]
    pub fn new(connector: Connector) -> Self {
        Self { connector }
    }
}

impl Feed for Asterisk {
    async fn session(&mut self) -> FeedError {
        FeedError::Broken(format!("no session with {} yet", self.connector.config.address))
    }

    fn abandon(&mut self) {}
}
