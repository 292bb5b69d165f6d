//! A token bucket, for rates.

use crate::model::Tick;

/// Allows `burst` at once and `per_second` on average. Starts full.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// Thousandths that have been used and not yet refilled.
    used: u64,
    at: Tick,
}

impl Bucket {
    /// Takes one; false when there is none left.
    pub(super) fn take(&mut self, now: Tick, per_second: u32, burst: u32) -> bool {
        // One per second is one thousandth per millisecond.
        let refilled = (now - self.at).saturating_mul(u64::from(per_second));
        self.used = self.used.saturating_sub(refilled);
        self.at = self.at.max(now);
        let allowed = self.used + 1000 <= u64::from(burst) * 1000;
        if allowed {
            self.used += 1000;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_only_the_rate() {
        let mut bucket = Bucket::default();
        let now = Tick(5_000);
        assert_eq!((0..10).filter(|_| bucket.take(now, 2, 3)).count(), 3);
        assert!(!bucket.take(now + 499, 2, 3));
        assert!(bucket.take(now + 500, 2, 3));
        assert!(!bucket.take(now + 501, 2, 3));
        assert_eq!((0..10).filter(|_| bucket.take(now + 60_000, 2, 3)).count(), 3);
    }
}
