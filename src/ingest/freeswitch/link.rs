//! A connection to an event socket: frames in, commands out, and the way in.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::connect::{Wire, connect};
use super::super::feed::FeedError;
use super::EVENTS;
use super::codec::{Codec, Frame, command};
use crate::config;

/// See the module.
pub(super) struct Link {
    wire: Box<dyn Wire>,
    codec: Codec,
    buffer: Vec<u8>,
    /// Bytes read since they were last asked for.
    bytes: u64,
}

impl Link {
    /// Connects, logs in and subscribes.
    ///
    /// # Errors
    /// [`FeedError::Refused`] when the other side does not let us in, [`FeedError::Gone`] when nobody listens there,
    /// [`FeedError::Broken`] when it can't be reached or is no event socket.
    pub async fn open(config: &config::Feed) -> Result<Self, FeedError> {
        let wire = connect(&config.address, config.tls).await?.wire;
        let mut link = Self { wire, codec: Codec::default(), buffer: vec![0; BUFFER], bytes: 0 };
        let wait = Duration::from_secs(config.answer_s.into());
        match tokio::time::timeout(wait, link.log_in(config)).await {
            Ok(done) => done?,
            Err(_) => {
                return Err(FeedError::Broken("it says nothing; is this the port of event_socket.conf.xml?".into()));
            }
        }
        Ok(link)
    }

    /// The next frame. May be cancelled at any time.
    pub async fn frame(&mut self) -> Result<Frame, FeedError> {
        loop {
            match self.codec.take() {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {}
                Err(error) => {
                    metrics::counter!("hookswitch_dropped_total", "where" => "freeswitch", "reason" => error.label())
                        .increment(1);
                    return Err(FeedError::Broken(error.to_string()));
                }
            }
            let read = self.wire.read(&mut self.buffer).await.map_err(|error| broken(&error))?;
            if read == 0 {
                return Err(FeedError::Broken("the other side closed the connection".into()));
            }
            self.bytes += read as u64;
            self.codec.push(self.buffer.get(..read).unwrap_or_default());
        }
    }

    /// Sends a command. Not to be cancelled.
    pub async fn send(&mut self, command: &[u8]) -> Result<(), FeedError> {
        match tokio::time::timeout(SEND_WAIT, self.wire.write_all(command)).await {
            Ok(sent) => sent.map_err(|error| broken(&error)),
            Err(_) => Err(FeedError::Broken("it takes no commands any more".into())),
        }
    }

    /// How many bytes were read since this was last asked.
    pub fn take_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.bytes)
    }

    async fn log_in(&mut self, config: &config::Feed) -> Result<(), FeedError> {
        match self.frame().await? {
            Frame::AuthRequest => {}
            Frame::Rejected => return Err(FeedError::Refused(REJECTED.into())),
            _ => return Err(FeedError::Broken("it is no event socket: it did not begin with auth/request".into())),
        }
        let secret = config.secret.reveal();
        let login = match &config.user {
            Some(user) => format!("userauth {user}:{secret}"),
            None => format!("auth {secret}"),
        };
        let login = command(&login).map_err(|_| FeedError::Refused("user or secret has a line end".into()))?;
        self.send(&login).await?;
        let reply = self.reply().await?;
        if !reply.starts_with("+OK") {
            return Err(FeedError::Refused(refused(config.user.as_deref(), &reply)));
        }
        for format in ["json", "plain"] {
            let subscribe = command(&format!("event {format} {EVENTS}"));
            self.send(&subscribe.map_err(|error| FeedError::Broken(error.to_string()))?).await?;
            let reply = self.reply().await?;
            if reply.starts_with("+OK") {
                return Ok(());
            }
            tracing::debug!(format, reply, "the event socket refuses a format");
        }
        Err(FeedError::Refused("it gives no events: the user's esl-allowed-events lacks those that are needed".into()))
    }

    /// The reply to a command, before any question is under way. Events may come first.
    async fn reply(&mut self) -> Result<String, FeedError> {
        loop {
            match self.frame().await? {
                Frame::Reply(text) => return Ok(text),
                Frame::Rejected => return Err(FeedError::Refused(REJECTED.into())),
                Frame::Disconnect => return Err(FeedError::Broken("the other side ended the connection".into())),
                _ => {}
            }
        }
    }
}

fn broken(error: &io::Error) -> FeedError {
    FeedError::Broken(match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => {
            "the other side cut the connection".into()
        }
        _ => format!("the connection broke: {error}"),
    })
}

fn refused(user: Option<&str>, reply: &str) -> String {
    let what = match user {
        Some(_) => "user and secret must be those of a directory user with the parameter esl-password, as user@domain",
        None => "secret must be the password of event_socket.conf.xml",
    };
    // The reply is the peer's text; nothing of ours is in it.
    format!("the event socket does not let us in ({}): {what}", super::event::short(reply, REPLY_MAX))
}

const REJECTED: &str =
    "the event socket's access list refuses this host: apply-inbound-acl in event_socket.conf.xml must let it in";
const BUFFER: usize = 64 * 1024;
const REPLY_MAX: usize = 100;
const SEND_WAIT: Duration = Duration::from_secs(5);
