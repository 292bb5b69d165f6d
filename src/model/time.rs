//! Two clocks, two types: deadlines count on the monotonic one, history is stamped on the wall.

use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// Milliseconds on the process's monotonic clock. Never stored: a stored deadline is an [`UnixMillis`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u64);

/// Milliseconds since 1970-01-01T00:00:00Z on the wall clock.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(transparent)]
#[schema(value_type = i64)]
pub struct UnixMillis(pub i64);

/// One instant read off both clocks. Sans-IO code is given it and never asks for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For deadlines.
    pub tick: Tick,
    /// For what people read.
    pub unix: UnixMillis,
}

impl Add<u64> for Tick {
    type Output = Self;

    /// `milliseconds` later, saturating.
    fn add(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }
}

impl Sub for Tick {
    type Output = u64;

    /// Milliseconds since `earlier`; 0 when `earlier` is in fact later.
    fn sub(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Sub for UnixMillis {
    type Output = i64;

    /// Milliseconds since `earlier`; negative when the wall clock was stepped back.
    fn sub(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Now {
    /// When, on the wall, a monotonic deadline falls.
    #[must_use]
    pub fn to_unix(self, tick: Tick) -> UnixMillis {
        let delta = i64::try_from(tick.0).unwrap_or(i64::MAX) - i64::try_from(self.tick.0).unwrap_or(i64::MAX);
        UnixMillis(self.unix.0.saturating_add(delta))
    }

    /// The monotonic deadline for a moment on the wall; a moment long past becomes [`Tick`] 0.
    #[must_use]
    pub fn to_tick(self, unix: UnixMillis) -> Tick {
        let delta = unix.0.saturating_sub(self.unix.0);
        Tick(self.tick.0.saturating_add_signed(delta))
    }

    /// The same instant moved forward by `milliseconds` on both clocks.
    #[must_use]
    pub fn after(self, milliseconds: u64) -> Self {
        Self { tick: self.tick + milliseconds, unix: UnixMillis(self.unix.0.saturating_add_unsigned(milliseconds)) }
    }
}
