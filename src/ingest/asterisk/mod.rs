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

use decode::Decoder;
use login::login;
use session::Session;
use wire::Wire;

use super::connect::connect;
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

    async fn enter(&self) -> Result<Wire, FeedError> {
        let config = &self.connector.config;
        let mut wire = Wire::new(connect(&config.address, config.tls).await?);
        login(&mut wire, config).await?;
        Ok(wire)
    }
}

impl Feed for Asterisk {
    async fn session(&mut self) -> FeedError {
        match self.enter().await {
            Ok(wire) => Session::new(&self.connector, &mut self.decoder, wire).run().await,
            Err(error) => error,
        }
    }

    fn abandon(&mut self) {
        let now = self.connector.clock.now();
        let mut ended = Vec::new();
        self.decoder.all_ended(&mut ended);
        for output in ended {
            // A site that is behind hears it with the next snapshot.
            let _lost = report::apply(&self.connector, output, now, now);
        }
    }
}
