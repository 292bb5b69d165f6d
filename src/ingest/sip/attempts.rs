//! How often may somebody try? Counted by address-of-record and source, so that neither an office behind one address nor a
//! phone that is being guessed at from elsewhere is shut out; and by source alone, so that nobody can try all names.
//!
//! What is counted is what has not led to a right password. An office of any size comes back after a power cut: each phone
//! owes a challenge for the moment it takes to answer it.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use crate::census::source_of;
use crate::model::{DeviceId, Tick};

/// Debts that are paid off with time, or at once by a right password. Of constant size: under an attack from more sources
/// than it has room for it forgets those that owe least.
pub(super) struct Attempts {
    hasher: RandomState,
    of_aor: Ledger,
    of_source: Ledger,
}

/// What an attempt costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// No credentials, or none that say anything.
    Challenge,
    /// A wrong password.
    Wrong,
}

/// Too many attempts; which kind, as a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany(pub(super) &'static str);

struct Ledger {
    sets: Box<[Mutex<[Entry; WAYS]>]>,
    /// Thousandths of an attempt that may be owed.
    debt_max: u64,
    /// How many of them a millisecond pays off.
    paid_per_ms: u64,
}

#[derive(Clone, Copy, Default)]
struct Entry {
    key: u64,
    debt: u64,
    at: Tick,
}

impl Attempts {
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            // A phone with a wrong password: four tries, and then one in 20 seconds.
            of_aor: Ledger::new(4096, 20 * ATTEMPT, ATTEMPT / 4_000),
            // More than an office that comes back in one instant; then ten names a second.
            of_source: Ledger::new(1024, 600 * ATTEMPT, ATTEMPT / 100),
        }
    }

    /// Whether `source` may try `aor` once more.
    pub(super) fn allows(&self, aor: DeviceId, source: IpAddr, now: Tick) -> Result<(), TooMany> {
        let (aor, source) = self.keys(aor, source);
        if self.of_aor.debt(aor, now) + ATTEMPT > self.of_aor.debt_max {
            return Err(TooMany("attempts_aor"));
        }
        if self.of_source.debt(source, now) + ATTEMPT > self.of_source.debt_max {
            return Err(TooMany("attempts_source"));
        }
        Ok(())
    }

    /// Notes an attempt.
    pub(super) fn charge(&self, attempt: Attempt, aor: DeviceId, source: IpAddr, now: Tick) {
        let cost = match attempt {
            Attempt::Challenge => ATTEMPT,
            Attempt::Wrong => 4 * ATTEMPT,
        };
        let (aor, source) = self.keys(aor, source);
        self.of_aor.charge(aor, cost, now);
        self.of_source.charge(source, cost, now);
    }

    /// A right password: what this phone owes is forgiven, and its source owes that much less.
    pub(super) fn forgive(&self, aor: DeviceId, source: IpAddr, now: Tick) {
        let (aor, source) = self.keys(aor, source);
        let owed = self.of_aor.pay(aor, u64::MAX, now);
        if owed > 0 {
            self.of_source.pay(source, owed, now);
        }
    }

    fn keys(&self, aor: DeviceId, source: IpAddr) -> (u64, u64) {
        let source = source_of(source);
        (self.hasher.hash_one((aor, source)), self.hasher.hash_one(source))
    }
}

impl Ledger {
    fn new(sets: usize, debt_max: u64, paid_per_ms: u64) -> Self {
        let sets = (0..sets).map(|_| Mutex::default()).collect();
        Self { sets, debt_max, paid_per_ms }
    }

    fn debt(&self, key: u64, now: Tick) -> u64 {
        self.with(key, |set| set.iter().find(|entry| entry.key == key).map_or(0, |entry| self.left(entry, now)))
    }

    /// Owes up to what is allowed and one wrong password more, so that it is never paid off much later than it should.
    fn charge(&self, key: u64, cost: u64, now: Tick) {
        self.with(key, |set| {
            let known = set.iter().position(|entry| entry.key == key);
            let least = || (0..WAYS).min_by_key(|at| set.get(*at).map_or(0, |entry| self.left(entry, now)));
            let Some(entry) = known.or_else(least).and_then(|at| set.get_mut(at)) else { return };
            let debt = if entry.key == key { self.left(entry, now) } else { 0 };
            *entry = Entry { key, debt: (debt + cost).min(self.debt_max + 4 * ATTEMPT), at: now };
        });
    }

    /// Pays up to `amount`; answers how much that was.
    fn pay(&self, key: u64, amount: u64, now: Tick) -> u64 {
        self.with(key, |set| {
            let Some(entry) = set.iter_mut().find(|entry| entry.key == key) else { return 0 };
            let debt = self.left(entry, now);
            let paid = debt.min(amount);
            *entry = Entry { key, debt: debt - paid, at: now };
            paid
        })
    }

    fn left(&self, entry: &Entry, now: Tick) -> u64 {
        entry.debt.saturating_sub((now - entry.at).saturating_mul(self.paid_per_ms))
    }

    fn with<R>(&self, key: u64, work: impl FnOnce(&mut [Entry; WAYS]) -> R) -> R {
        let count = self.sets.len().max(1) as u64;
        // The low bits; the whole of the key tells the entries of a set apart.
        let at = usize::try_from(key % count).unwrap_or_default();
        match self.sets.get(at) {
            Some(set) => work(&mut set.lock().unwrap_or_else(PoisonError::into_inner)),
            None => work(&mut Default::default()),
        }
    }
}

/// One attempt, in the ledgers' unit.
const ATTEMPT: u64 = 20_000;
const WAYS: usize = 4;

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use uuid::Uuid;

    use super::*;

    fn aor(n: u128) -> DeviceId {
        DeviceId(Uuid::from_u128(n))
    }

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_password_can_be_guessed_at_four_times_and_then_once_in_a_while() {
        let attempts = Attempts::new();
        let (here, mut now) = (at("192.0.2.7"), Tick(1_000));
        let guess = |now| {
            attempts.allows(aor(1), here, now)?;
            attempts.charge(Attempt::Challenge, aor(1), here, now);
            attempts.charge(Attempt::Wrong, aor(1), here, now);
            Ok::<(), TooMany>(())
        };
        for _ in 0..4 {
            assert_eq!(guess(now), Ok(()));
        }
        assert_eq!(guess(now), Err(TooMany("attempts_aor")));
        assert_eq!(attempts.allows(aor(2), here, now), Ok(()), "another phone of the office");
        assert_eq!(attempts.allows(aor(1), at("192.0.2.8"), now), Ok(()), "that phone from elsewhere");
        let mut guessed = 0;
        for _ in 0..3_600 {
            now = now + 1_000;
            guessed += u32::from(guess(now).is_ok());
        }
        assert!((150..=200).contains(&guessed), "{guessed} an hour");
        attempts.forgive(aor(1), here, now);
        for _ in 0..4 {
            assert_eq!(guess(now), Ok(()), "a right password wipes the slate");
        }
    }

    #[test]
    fn names_can_be_tried_six_hundred_times_and_then_ten_a_second() {
        let attempts = Attempts::new();
        let (here, mut now) = (at("192.0.2.7"), Tick(1_000));
        let mut answered = 0;
        for n in 0..6_000 {
            // A hundred a second for a minute.
            now = now + 10;
            if attempts.allows(aor(n), here, now).is_ok() {
                attempts.charge(Attempt::Challenge, aor(n), here, now);
                answered += 1;
            }
        }
        assert!((1_100..=1_300).contains(&answered), "{answered}");
        assert_eq!(attempts.allows(aor(1), here, now), Err(TooMany("attempts_source")));
        assert_eq!(attempts.allows(aor(1), at("192.0.2.8"), now), Ok(()));
    }

    #[test]
    fn an_office_of_any_size_comes_back_at_once_behind_one_address() {
        let attempts = Attempts::new();
        let (here, now) = (at("192.0.2.7"), Tick(1_000));
        // Ten waves of 500 in the same instant, each phone once without credentials, once with an old nonce, and then right.
        for wave in 0..10_u128 {
            let phones = || (0..500).map(|n| aor(wave * 500 + n));
            for phone in phones() {
                assert_eq!(attempts.allows(phone, here, now), Ok(()));
                attempts.charge(Attempt::Challenge, phone, here, now);
            }
            for phone in phones() {
                assert_eq!(attempts.allows(phone, here, now), Ok(()));
                attempts.forgive(phone, here, now);
            }
        }
    }

    #[test]
    fn a_network_of_ipv6_is_one_source_and_the_ledger_does_not_grow() {
        let attempts = Attempts::new();
        let now = Tick(1_000);
        for n in 0..1_000_u128 {
            let address = IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8 << 96) + n));
            attempts.charge(Attempt::Challenge, aor(n), address, now);
        }
        assert_eq!(attempts.allows(aor(5_000), at("2001:db8::ffff"), now), Err(TooMany("attempts_source")));
        assert_eq!(attempts.allows(aor(5_000), at("2001:db8:0:1::1"), now), Ok(()));
        for n in 0..100_000_u32 {
            attempts.charge(Attempt::Wrong, aor(n.into()), IpAddr::V4(n.into()), now);
        }
        assert_eq!(attempts.of_aor.sets.len() * WAYS, 16_384);
    }
}
