//! Bearer secrets: `hs_` and 32 random bytes in base64url. They are shown once and kept only as their SHA-256.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// A bearer secret. It prints only when asked to by [`Secret::reveal`].
pub struct Secret(String);

impl Secret {
    /// A new one.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// Reads one a client sent. `None` when it can't be one of ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?;
        (bytes.len() == BYTES).then(|| Self(text.to_owned()))
    }

    /// What is stored of it: SHA-256 of its text, in hexadecimal. The secret has 256 random bits, so a slow password
    /// hash would add nothing.
    #[must_use]
    pub fn hash(&self) -> String {
        let mut hex = String::with_capacity(64);
        for byte in Sha256::digest(self.0.as_bytes()) {
            hex.push(char::from(HEX[usize::from(byte >> 4)]));
            hex.push(char::from(HEX[usize::from(byte & 15)]));
        }
        hex
    }

    /// Its text, to be shown to who made it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

const PREFIX: &str = "hs_";
const BYTES: usize = 32;
const HEX: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_reads_back_and_hashes_the_same() {
        let secret = Secret::generate().unwrap();
        let again = Secret::parse(secret.reveal()).unwrap();
        assert_eq!(secret.hash(), again.hash());
        assert_ne!(secret.hash(), Secret::generate().unwrap().hash());
        assert_eq!(secret.hash().len(), 64);
        assert_eq!(secret.reveal().len(), 46);
    }

    #[test]
    fn the_hash_is_plain_sha_256_of_the_text() {
        let secret = Secret::parse("hs_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap();
        // printf hs_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA | sha256sum
        assert_eq!(secret.hash(), "19d3ae3b7d6afaa86283c0ef6df78f8824f5ae38c101e23a8c987ffb0e0b416b");
    }

    #[test]
    fn other_texts_are_not_secrets_and_debug_shows_nothing() {
        for text in
            ["", "hs_", "hs_short", "xx_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "hs_AAAAAAAAAAAAAAAAAAAAA!"]
        {
            assert!(Secret::parse(text).is_none(), "{text}");
        }
        let secret = Secret::generate().unwrap();
        assert!(!format!("{secret:?}").contains(secret.reveal()));
    }
}
