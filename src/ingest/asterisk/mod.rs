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

use uuid::Uuid;

use decode::Decoder;
use login::login;
use session::Session;
use wire::Wire;

use super::connect::connect;
use super::feed::{Feed, FeedError};
use super::feeds::Connector;
use crate::model::{Now, PbxId, Tick, UnixMillis};

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
        let mut wire = Wire::new(connect(&config.address, config.tls).await?.wire);
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

/// Reads arbitrary bytes as a manager interface's. It must come to an end without a panic, keep what it holds within its
/// bounds, and say in the end that nothing is live; for fuzzing.
///
/// # Panics
/// When the decoder keeps something back that it should have told: a bug of ours.
pub fn exercise(bytes: &[u8]) {
    let mut now = Now { tick: Tick(1_000_000), unix: UnixMillis(1_795_304_600_000) };
    let (mut codec, mut decoder, mut out) = (codec::Codec::default(), Decoder::new(PbxId(Uuid::nil())), Vec::new());
    decoder.connected(&mut out);
    decoder.snapshot(&mut out);
    // The pieces are as uneven as what the network makes of it.
    for piece in bytes.chunks(1 + bytes.len() / 3) {
        codec.push(piece);
        while let Some(frame) = codec.next_frame() {
            if let codec::Frame::Message(message) = frame {
                decoder.message(&message, now, &mut out);
            }
            now = now.after(50);
            out.clear();
        }
    }
    decoder.release(&mut out);
    assert!(!decoder.is_holding(), "what was held back is told");
    decoder.all_ended(&mut out);
    assert!(matches!(out.last(), Some(decode::Output::Legs(legs)) if legs.is_empty()), "nothing is left");
}
