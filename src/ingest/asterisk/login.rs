//! From a new connection to one that is let in.

use std::time::Duration;

use md5::{Digest, Md5};

use super::action::Action;
use super::codec::Frame;
use super::message::Message;
use super::wire::Wire;
use crate::config;
use crate::ingest::feed::FeedError;

/// Waits for the greeting and logs in, with the secret unsaid (challenge) where the PBX can do that. From then on events
/// come in.
pub(super) async fn login(wire: &mut Wire, config: &config::Feed) -> Result<(), FeedError> {
    let late = |_| FeedError::Broken("Asterisk answers too slowly to log in".into());
    tokio::time::timeout(GREETING_WAIT, greeting(wire)).await.map_err(|_| not_asterisk(&config.address))??;
    tokio::time::timeout(LOGIN_WAIT, enter(wire, config)).await.map_err(late)?
}

async fn greeting(wire: &mut Wire) -> Result<(), FeedError> {
    loop {
        match wire.take() {
            Some(Frame::Banner(_)) => return Ok(()),
            Some(Frame::Message(_)) => return Err(FeedError::Broken(NO_GREETING.into())),
            None => wire.turn().await?,
        }
    }
}

async fn enter(wire: &mut Wire, config: &config::Feed) -> Result<(), FeedError> {
    let user = config.user.as_deref().unwrap_or_default();
    let bad = |error: super::action::BadValue| FeedError::Refused(format!("feeds.{}: {error}", config.name));
    let challenge = Action::new("Challenge").with("AuthType", "MD5").map_err(bad)?;
    let answer = ask(wire, &challenge, "challenge").await?;
    let login = Action::new("Login").with("Username", user).map_err(bad)?;
    let login = match answer.text("Challenge").filter(|_| is_success(&answer)) {
        Some(challenge) => {
            let key = hex(&Md5::new_with_prefix(challenge).chain_update(config.secret.reveal()).finalize());
            login.with("AuthType", "MD5").and_then(|login| login.with("Key", key))
        }
        None => login.with("Secret", config.secret.reveal()),
    };
    let login = login.and_then(|login| login.with("Events", "on")).map_err(bad)?;
    let answer = ask(wire, &login, "login").await?;
    if is_success(&answer) {
        return Ok(());
    }
    let said = answer.text("Message").unwrap_or("no reason given");
    Err(FeedError::Refused(format!(
        "Asterisk refuses the login of {user:?} ({said}): check the secret of [{user}] in manager.conf, and that its \
         permit line has our address"
    )))
}

/// Sends an action and waits for its answer; what else comes is let go, since a snapshot follows.
async fn ask(wire: &mut Wire, action: &Action, id: &str) -> Result<Message, FeedError> {
    let id = format!("hookswitch-{id}");
    wire.send(action, &id)?;
    loop {
        match wire.take() {
            // Old versions leave the id out when they refuse.
            Some(Frame::Message(message)) if message.text("Response").is_some() => {
                if message.text("ActionID").is_none_or(|answered| answered == id) {
                    return Ok(message);
                }
            }
            Some(_) => {}
            None => wire.turn().await?,
        }
    }
}

fn is_success(answer: &Message) -> bool {
    answer.text("Response").is_some_and(|response| response.eq_ignore_ascii_case("Success"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn not_asterisk(address: &str) -> FeedError {
    FeedError::Broken(format!("{NO_GREETING} on {address}"))
}

const NO_GREETING: &str = "no Asterisk manager interface answers";
const GREETING_WAIT: Duration = Duration::from_secs(10);
const LOGIN_WAIT: Duration = Duration::from_secs(20);
