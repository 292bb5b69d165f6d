//! Secrets at rest: what the database keeps of them is sealed under a key that is not in it.
//!
//! The cipher is XChaCha20-Poly1305 (RFC 8439 with the longer nonce of draft-irtf-cfrg-xchacha, which may be drawn at
//! random without counting). A sealed text opens in its place only: where it belongs to is authenticated with it, so that a
//! row copied elsewhere is good for nothing.

mod file;

use std::fmt::{self, Write as _};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD, STANDARD_NO_PAD};
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};

pub use file::KeyFile;

/// A key of 32 random bytes. Never shown; its [`id`](Self::id) is.
#[derive(Clone)]
pub struct Key {
    id: Box<str>,
    cipher: XChaCha20Poly1305,
}

/// Keys, of which the first seals and all open.
#[derive(Clone, Debug)]
pub struct Keys {
    sealing: Key,
    others: Vec<Key>,
}

/// Nothing can be sealed: the system gives no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct SealError;

/// Why something can't be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// We don't have the key it was sealed with.
    #[error("it was sealed with another key")]
    Key,
    /// It was not written by us, or by a later version.
    #[error("it is no sealed text of this version")]
    Format,
    /// It was changed, or belongs elsewhere.
    #[error("it was changed, or belongs to another row")]
    Seal,
}

impl Key {
    /// Reads one: 32 bytes in hexadecimal or base64, as `openssl rand` writes them. None when it is neither.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let bytes = if text.len() == 2 * KEY_BYTES { from_hex(text) } else { from_base64(text) };
        bytes.map(|bytes| Self::new(&bytes))
    }

    fn new(bytes: &[u8; KEY_BYTES]) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"hookswitch key id");
        hash.update(bytes);
        // Of 256 random bits a hash of them tells nothing.
        let id = hash.finalize();
        let id = hex(id.get(..ID_BYTES).unwrap_or_default());
        Self { id: id.into(), cipher: XChaCha20Poly1305::new(&(*bytes).into()) }
    }

    /// Tells keys apart: eight hexadecimal digits that say nothing of the key itself.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, …)", self.id)
    }
}

impl Keys {
    /// Seals with `sealing`; `others` are older ones, whose work can still be opened.
    #[must_use]
    pub fn new(sealing: Key, others: Vec<Key>) -> Self {
        Self { sealing, others }
    }

    /// The id of the key that seals.
    #[must_use]
    pub fn sealing(&self) -> &str {
        self.sealing.id()
    }

    /// Whether there is a key of this id.
    #[must_use]
    pub fn holds(&self, id: &str) -> bool {
        self.key(id).is_some()
    }

    /// The ids of all keys, for people.
    #[must_use]
    pub fn ids(&self) -> String {
        let ids: Vec<&str> = std::iter::once(&self.sealing).chain(&self.others).map(Key::id).collect();
        ids.join(", ")
    }

    /// Seals `secret` for `place`: a version, and nonce, ciphertext and tag in base64. Not the same text twice.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal(&self, place: &[u8], secret: &[u8]) -> Result<String, SealError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| SealError)?;
        let payload = Payload { msg: secret, aad: place };
        let sealed = self.sealing.cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| SealError)?;
        Ok(format!("{VERSION}{}", STANDARD_NO_PAD.encode([&nonce[..], &sealed].concat())))
    }

    /// Opens what [`Keys::seal`] of the key `id` made for `place`.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self, id: &str, place: &[u8], sealed: &str) -> Result<Vec<u8>, OpenError> {
        let key = self.key(id).ok_or(OpenError::Key)?;
        let text = sealed.strip_prefix(VERSION).ok_or(OpenError::Format)?;
        let bytes = STANDARD_NO_PAD.decode(text).map_err(|_| OpenError::Format)?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>().ok_or(OpenError::Format)?;
        key.cipher.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: place }).map_err(|_| OpenError::Seal)
    }

    fn key(&self, id: &str) -> Option<&Key> {
        std::iter::once(&self.sealing).chain(&self.others).find(|key| key.id() == id)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex(text: &str) -> Option<[u8; KEY_BYTES]> {
    let mut bytes = [0; KEY_BYTES];
    if !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

fn from_base64(text: &str) -> Option<[u8; KEY_BYTES]> {
    BASE64.decode(text).ok()?.try_into().ok()
}

/// With or without padding.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, NO_PAD.with_decode_padding_mode(DecodePaddingMode::Indifferent));
const KEY_BYTES: usize = 32;
const ID_BYTES: usize = 4;
const NONCE_BYTES: usize = 24;
/// Of the cipher and of how its parts are written down. Another one gets another prefix.
const VERSION: &str = "v1:";

#[cfg(test)]
mod tests {
    use super::*;

    fn key(digit: &str) -> Key {
        Key::parse(&digit.repeat(64)).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_with_its_key_and_nowhere_else() {
        let keys = Keys::new(key("1"), vec![key("2")]);
        let sealed = keys.seal(b"here", b"secret").unwrap();
        let id = keys.sealing();
        assert!(sealed.starts_with("v1:") && !sealed.contains("secret"), "{sealed}");
        assert_eq!(keys.open(id, b"here", &sealed).unwrap(), b"secret");
        assert_eq!(keys.open(id, b"there", &sealed), Err(OpenError::Seal));
        assert_eq!(keys.open(key("2").id(), b"here", &sealed), Err(OpenError::Seal));
        assert_eq!(keys.open(key("3").id(), b"here", &sealed), Err(OpenError::Key));
        for (at, _) in sealed.char_indices().skip(3) {
            let other = if sealed.as_bytes()[at] == b'A' { "B" } else { "A" };
            let changed = format!("{}{other}{}", &sealed[..at], &sealed[at + 1..]);
            assert!(keys.open(id, b"here", &changed).is_err(), "{changed}");
        }
        for strange in ["", "v1:", "v1:AAAA", "v2:AAAA", "v1:?", "0123456789abcdef0123456789abcdef"] {
            assert_eq!(keys.open(id, b"here", strange), Err(OpenError::Format), "{strange}");
        }
    }

    #[test]
    fn the_same_secret_never_looks_the_same() {
        let keys = Keys::new(key("1"), Vec::new());
        assert_ne!(keys.seal(b"here", b"secret").unwrap(), keys.seal(b"here", b"secret").unwrap());
    }

    #[test]
    fn an_older_key_opens_and_does_not_seal() {
        let old = Keys::new(key("1"), Vec::new());
        let sealed = old.seal(b"here", b"secret").unwrap();
        let both = Keys::new(key("2"), vec![key("1")]);
        assert_eq!(both.open(old.sealing(), b"here", &sealed).unwrap(), b"secret");
        assert_eq!(both.sealing(), key("2").id());
        assert!(both.holds(old.sealing()) && !old.holds(both.sealing()));
    }

    #[test]
    fn a_key_is_32_bytes_in_hexadecimal_or_base64() {
        let hex = "000102030405060708090a0b0c0d0e0f101112131415161718191A1b1c1d1e1f";
        let base64 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
        let ids = [hex, base64, &format!("{base64}=\n"), &format!(" {hex}\n")].map(|text| Key::parse(text).unwrap());
        assert!(ids.windows(2).all(|pair| pair[0].id() == pair[1].id()), "{ids:?}");
        for bad in ["", "0123", &hex.replace('1', "g"), &base64[1..], "\u{e9}".repeat(32).as_str()] {
            assert!(Key::parse(bad).is_none(), "{bad}");
        }
        assert_eq!(format!("{:?}", key("1")), format!("Key({}, …)", key("1").id()));
    }
}
