//! Nonces (RFC 7616 §3.3): signed when they are given out, remembered once somebody has proved a password with one.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::model::Tick;

/// Gives nonces out and knows how often each was used. A challenge costs no memory, so nobody can push others' nonces out
/// by asking for some; only a right password enters one.
pub(super) struct Nonces {
    mac: Hmac<Sha256>,
    issued: AtomicU64,
    shards: Box<[Mutex<Shard>]>,
    used_max: usize,
    lifetime_ms: u64,
}

/// A nonce that is ours, made out to who shows it and not too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nonce {
    issued_at: Tick,
    number: u64,
}

/// Why a nonce is not taken; the phone is to try again with another one (`stale=true`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stale;

/// What a right password with a nonce means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// A request not seen before.
    New,
    /// The last request sent again.
    Again,
}

#[derive(Default)]
struct Shard {
    used: HashMap<u64, Used>,
    /// In the order in which they were first used.
    order: VecDeque<Nonce>,
    /// Nonces given out up to here may have been used and forgotten.
    forgotten: Option<Tick>,
}

struct Used {
    count: u32,
    /// What the request looked like that came with this count.
    print: u64,
}

impl Nonces {
    /// Signs with `key`; remembers `used_max` nonces (about 100 bytes each) for `lifetime_ms`.
    pub(super) fn new(key: [u8; 64], used_max: usize, lifetime_ms: u64) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        let mac = Hmac::new(&key.into());
        Self { mac, issued: AtomicU64::new(0), shards, used_max: used_max.div_ceil(SHARDS), lifetime_ms }
    }

    /// A new nonce for whoever is at `source`.
    pub(super) fn issue(&self, source: IpAddr, now: Tick) -> String {
        let nonce = Nonce { issued_at: now, number: self.issued.fetch_add(1, Ordering::Relaxed) };
        let mut bytes = [0; NONCE_BYTES];
        let (facts, signature) = bytes.split_at_mut(FACT_BYTES);
        facts.copy_from_slice(&nonce.facts());
        signature.copy_from_slice(&self.signature(nonce, source));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a nonce that came from `source`. Being made out to an address, it lets nobody spend another one's attempts from
    /// a forged address.
    pub(super) fn read(&self, text: &str, source: IpAddr, now: Tick) -> Result<Nonce, Stale> {
        let mut bytes = [0; NONCE_BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).map_err(|_| Stale)?;
        let (at, rest) = bytes.split_first_chunk().ok_or(Stale)?;
        let (number, signature) = rest.split_first_chunk().ok_or(Stale)?;
        let nonce = Nonce { issued_at: Tick(u64::from_be_bytes(*at)), number: u64::from_be_bytes(*number) };
        let is_ours: bool = self.signature(nonce, source).ct_eq(signature).into();
        let age_ms = now - nonce.issued_at;
        if length == NONCE_BYTES && is_ours && age_ms <= self.lifetime_ms { Ok(nonce) } else { Err(Stale) }
    }

    /// Notes that a right password came with this nonce, for the `count`th time. `print` tells that request from any other.
    pub(super) fn spend(&self, nonce: Nonce, count: u32, print: u64, now: Tick) -> Result<Use, Stale> {
        let at = usize::try_from(nonce.number % SHARDS as u64).unwrap_or_default();
        let shard = self.shards.get(at).ok_or(Stale)?;
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(used) = shard.used.get_mut(&nonce.number) {
            if count > used.count {
                *used = Used { count, print };
                return Ok(Use::New);
            }
            // UDP: the phone sends it again when its answer waits for a commit. Anything else with this count is a replay.
            return if count == used.count && print == used.print { Ok(Use::Again) } else { Err(Stale) };
        }
        let may_be_forgotten = shard.forgotten.is_some_and(|until| nonce.issued_at <= until);
        if may_be_forgotten || now - nonce.issued_at > FIRST_USE_MS || count == 0 {
            return Err(Stale);
        }
        shard.make_room(self.used_max, self.lifetime_ms, now);
        shard.used.insert(nonce.number, Used { count, print });
        shard.order.push_back(nonce);
        Ok(Use::New)
    }

    fn signature(&self, nonce: Nonce, source: IpAddr) -> [u8; SIGNATURE_BYTES] {
        let mut mac = self.mac.clone();
        mac.update(&nonce.facts());
        match source.to_canonical() {
            IpAddr::V4(address) => mac.update(&address.octets()),
            IpAddr::V6(address) => mac.update(&address.octets()),
        }
        let whole: [u8; 32] = mac.finalize().into_bytes().into();
        std::array::from_fn(|at| whole[at])
    }
}

impl Nonce {
    fn facts(self) -> [u8; FACT_BYTES] {
        let mut facts = [0; FACT_BYTES];
        let (at, number) = facts.split_at_mut(8);
        at.copy_from_slice(&self.issued_at.0.to_be_bytes());
        number.copy_from_slice(&self.number.to_be_bytes());
        facts
    }
}

impl Shard {
    /// The oldest go: those past their lifetime, and one more when it is full.
    fn make_room(&mut self, used_max: usize, lifetime_ms: u64, now: Tick) {
        while let Some(oldest) = self.order.front().copied() {
            if self.order.len() < used_max && now - oldest.issued_at <= lifetime_ms {
                return;
            }
            self.order.pop_front();
            self.used.remove(&oldest.number);
            self.forgotten = self.forgotten.max(Some(oldest.issued_at));
        }
    }
}

const SHARDS: usize = 16;
const FACT_BYTES: usize = 16;
const SIGNATURE_BYTES: usize = 16;
const NONCE_BYTES: usize = FACT_BYTES + SIGNATURE_BYTES;
/// How long a new nonce waits for its first use: a phone answers at once, or after its user has typed a password.
const FIRST_USE_MS: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Tick = Tick(5_000_000);
    const DAY_MS: u64 = 86_400_000;

    fn nonces(used_max: usize) -> Nonces {
        Nonces::new([7; 64], used_max, DAY_MS)
    }

    fn here() -> IpAddr {
        "192.0.2.7".parse().unwrap()
    }

    fn fresh(nonces: &Nonces, now: Tick) -> Nonce {
        nonces.read(&nonces.issue(here(), now), here(), now).unwrap()
    }

    #[test]
    fn only_our_own_nonces_are_taken_and_only_from_where_they_were_sent_to() {
        let nonces = nonces(100);
        let text = nonces.issue(here(), NOW);
        assert!(nonces.read(&text, here(), NOW).is_ok());
        assert!(nonces.read(&text, "::ffff:192.0.2.7".parse().unwrap(), NOW).is_ok(), "the same address");
        assert_eq!(nonces.read(&text, "192.0.2.8".parse().unwrap(), NOW), Err(Stale));
        assert_eq!(nonces.read(&text, here(), NOW + DAY_MS + 1), Err(Stale));
        assert_eq!(Nonces::new([8; 64], 100, DAY_MS).read(&text, here(), NOW), Err(Stale));
        for at in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            // The last letter has bits to spare, which the decoder refuses.
            assert_eq!(nonces.read(&other, here(), NOW), Err(Stale), "{at}");
        }
        for text in ["", "x", "\u{fc}", &text[..42], &format!("{text}A"), &"A".repeat(5_000)] {
            assert_eq!(nonces.read(text, here(), NOW), Err(Stale));
        }
        assert_ne!(nonces.issue(here(), NOW), nonces.issue(here(), NOW));
    }

    #[test]
    fn a_count_is_good_once_but_for_the_same_request_sent_again() {
        let nonces = nonces(100);
        let nonce = fresh(&nonces, NOW);
        assert_eq!(nonces.spend(nonce, 1, 11, NOW), Ok(Use::New));
        assert_eq!(nonces.spend(nonce, 1, 11, NOW), Ok(Use::Again));
        assert_eq!(nonces.spend(nonce, 1, 12, NOW), Err(Stale), "a replay with another contact");
        assert_eq!(nonces.spend(nonce, 7, 13, NOW), Ok(Use::New), "some were lost on the way");
        assert_eq!(nonces.spend(nonce, 6, 14, NOW), Err(Stale));
        assert_eq!(nonces.spend(nonce, 8, 15, NOW + DAY_MS), Ok(Use::New), "as long as it lives");
    }

    #[test]
    fn a_nonce_must_be_used_soon() {
        let nonces = nonces(100);
        let nonce = fresh(&nonces, NOW);
        assert_eq!(nonces.spend(nonce, 1, 1, NOW + FIRST_USE_MS + 1), Err(Stale));
        assert_eq!(nonces.spend(nonce, 0, 1, NOW), Err(Stale));
        assert_eq!(nonces.spend(nonce, 1, 1, NOW + FIRST_USE_MS), Ok(Use::New));
    }

    #[test]
    fn the_table_is_bounded_and_what_was_forgotten_is_not_taken_again() {
        let nonces = nonces(SHARDS * 4);
        let used: Vec<Nonce> = (0..200)
            .map(|n| {
                let nonce = fresh(&nonces, NOW + n);
                assert_eq!(nonces.spend(nonce, 1, n, NOW + n), Ok(Use::New), "{n}");
                nonce
            })
            .collect();
        for shard in &nonces.shards {
            let shard = shard.lock().unwrap();
            assert!(shard.used.len() <= 4 && shard.order.len() == shard.used.len());
        }
        assert_eq!(nonces.spend(used[0], 1, 0, NOW + 200), Err(Stale), "replayed after it was forgotten");
        assert_eq!(nonces.spend(used[0], 2, 0, NOW + 200), Err(Stale));
        assert_eq!(nonces.spend(used[199], 2, 0, NOW + 200), Ok(Use::New));
        assert_eq!(nonces.spend(fresh(&nonces, NOW + 300), 1, 0, NOW + 300), Ok(Use::New));
    }
}
