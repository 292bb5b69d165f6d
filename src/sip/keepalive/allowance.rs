//! How many may go out a second.

use crate::model::Tick;

/// A token bucket that holds a tenth of a second and may be overdrawn.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    /// Thousandths that were used and have not come back.
    used: u64,
    at: Tick,
}

impl Allowance {
    /// Takes one; false when there is none left.
    pub(super) fn take(&mut self, now: Tick, per_second: u32) -> bool {
        // One a second is one thousandth a millisecond.
        let back = (now - self.at).saturating_mul(u64::from(per_second));
        self.used = self.used.saturating_sub(back);
        self.at = self.at.max(now);
        let is_left = self.used + ONE <= (u64::from(per_second) * ONE / 10).max(ONE);
        if is_left {
            self.used += ONE;
        }
        is_left
    }

    /// Takes one whether it is there or not.
    pub(super) fn overdraw(&mut self) {
        self.used = self.used.saturating_add(ONE);
    }
}

const ONE: u64 = 1_000;
