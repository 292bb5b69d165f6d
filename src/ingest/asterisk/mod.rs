//! Asterisk by its manager interface (AMI): log in, take a snapshot, follow the events, ask what they leave out.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`codec`], [`message`], [`action`] | the wire, without sockets |
//! | [`decode`] | what messages mean: a state machine without clock or sockets |
//! | `wire`, `login`, `session` | one connection, from the greeting until something breaks |
//! | `report`, `control` | what is told to the registry and the site, and what they may have changed |

pub mod action;
pub mod codec;
mod control;
pub mod decode;
mod login;
pub mod message;
mod report;
mod session;
mod wire;

use decode::{Decoder, Output};
use login::login;
use session::Session;
use wire::Wire;

use super::dial::{DialError, dial};
use super::feed::{Feed, FeedError};
use super::feeds::Connector;

/// A connection to one Asterisk.
pub struct Asterisk {
    connector: Connector,
    /// It outlives a connection, so that calls that went on meanwhile are known.
    decoder: Decoder,
}

impl Asterisk {
    /// A feed that is not connected yet.
    #[must_use]
    pub fn new(connector: Connector) -> Self {
        let decoder = Decoder::new(connector.pbx);
        Self { connector, decoder }
    }

    async fn connect(&mut self) -> Result<Wire, FeedError> {
        let config = &self.connector.config;
        let stream = match dial(&config.address, config.tls).await {
            Ok(stream) => stream,
            Err(error) => {
                if matches!(error, DialError::Closed(_)) {
                    self.all_ended();
                }
                return Err(FeedError::Broken(error.to_string()));
            }
        };
        let mut wire = Wire::new(stream);
        login(&mut wire, &self.connector.config).await?;
        Ok(wire)
    }

    /// An Asterisk that does not run has no calls.
    fn all_ended(&mut self) {
        let now = self.connector.clock.now();
        // A site that is behind hears it with the next attempt.
        let _lost = report::apply(&self.connector, Output::Legs(self.decoder.all_ended()), now);
    }
}

impl Feed for Asterisk {
    async fn session(&mut self) -> FeedError {
        match self.connect().await {
            Ok(wire) => Session::new(&self.connector, &mut self.decoder, wire).run().await,
            Err(error) => error,
        }
    }

    fn abandon(&mut self) {}
}
