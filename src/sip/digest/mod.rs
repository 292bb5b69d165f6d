//! Digest authentication (RFC 7616, and RFC 8760 for SIP), both sides of it: [`Challenge`] is what we are asked and answer,
//! [`Authorization`] what we are shown and judge.

mod client;
mod server;

use md5::Md5;
use sha2::{Digest, Sha256, Sha512_256};

pub use crate::model::DigestAlgorithm as Algorithm;
pub use client::{Challenge, Credentials};
pub use server::{Authorization, AuthorizationFault, ha1};

/// The hash of all `parts` one after another.
fn hash(algorithm: Algorithm, parts: &[&str]) -> Hex {
    match algorithm {
        Algorithm::Md5 => Hex::of(&digest::<Md5>(parts)),
        Algorithm::Sha256 => Hex::of(&digest::<Sha256>(parts)),
        Algorithm::Sha512_256 => Hex::of(&digest::<Sha512_256>(parts)),
    }
}

/// A hash in lower-case hexadecimal, without an allocation: there are three in every judged request.
#[derive(Clone, Copy)]
struct Hex {
    digits: [u8; 64],
    length: usize,
}

impl Hex {
    /// Of up to 32 bytes.
    fn of(bytes: &[u8]) -> Self {
        let mut hex = Self { digits: [0; 64], length: 2 * bytes.len().min(32) };
        for (pair, byte) in hex.digits.chunks_exact_mut(2).zip(bytes) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(*byte)]);
        }
        hex
    }

    fn as_str(&self) -> &str {
        self.digits.get(..self.length).and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or_default()
    }
}

fn digest<D: Digest>(parts: &[&str]) -> sha2::digest::Output<D> {
    #[cfg(test)]
    work::note(parts);
    let mut hash = D::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize()
}

/// The text between the quotes, escapes kept as they are: RFC 7616 hashes and repeats it that way. None when it would not
/// stay between them.
fn between_quotes(text: &str) -> Option<&str> {
    let inner = match text.strip_prefix('"') {
        Some(inner) => inner.strip_suffix('"')?,
        None => text,
    };
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => return None,
            '\\' => drop(characters.next()?),
            _ => {}
        }
    }
    Some(inner)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [char::from(digit(byte >> 4)), char::from(digit(*byte))]).collect()
}

fn digit(nibble: u8) -> u8 {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    DIGITS[usize::from(nibble & 15)]
}

/// What was hashed, for tests of how much that is.
#[cfg(test)]
pub(crate) mod work {
    use std::cell::Cell;

    thread_local! {
        static DONE: Cell<(u32, usize)> = const { Cell::new((0, 0)) };
    }

    pub(super) fn note(parts: &[&str]) {
        let (hashes, bytes) = DONE.get();
        DONE.set((hashes + 1, bytes + parts.iter().map(|part| part.len()).sum::<usize>()));
    }

    /// How many hashes this thread has made since it was last asked, and of how many bytes in all.
    pub(crate) fn take() -> (u32, usize) {
        DONE.take()
    }
}
