//! What phones with passwords remember: the challenge they were given, and how often they have answered it.

use hookswitch::sip::digest::{Challenge, Credentials};
use hookswitch::sip::scan;

use super::request::URI;

/// Of all phones of a kind. Each has a nonce of its own and uses it for as long as it is taken.
#[derive(Debug)]
pub struct Wallet {
    prefix: &'static str,
    held: Vec<Option<(Challenge, u32)>>,
}

impl Wallet {
    /// Of phones that have never been asked.
    pub fn new(prefix: &'static str, users: usize) -> Self {
        Self { prefix, held: vec![None; users] }
    }

    /// Keeps the challenge of a 401; false when there is none in it that a phone can answer.
    pub fn keep(&mut self, user: usize, answer: &[u8]) -> bool {
        let challenge = scan(answer).ok().and_then(|response| Challenge::strongest(&response));
        let is_one = challenge.is_some();
        self.held[user] = challenge.map(|challenge| (challenge, 0));
        is_one
    }

    /// The answer to the challenge the user has, with the next count; none when there is none yet.
    pub fn proof(&mut self, user: usize) -> Option<String> {
        let (challenge, count) = self.held[user].as_mut()?;
        *count += 1;
        let credentials = Credentials { user: format!("{}{user}", self.prefix), password: PASSWORD.to_owned() };
        // A client's nonce guards phones, not registrars; how it is drawn costs the registrar nothing.
        let cnonce = format!("{user:08x}{count:08x}");
        Some(challenge.answer(&credentials, "REGISTER", URI, *count, &cnonce).1)
    }
}

/// Of every phone.
pub const PASSWORD: &str = "pX7-not-this-one";
