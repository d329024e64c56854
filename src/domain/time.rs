//! Moments and jitter: time as the domain sees it.
//!
//! A [`Moment`] never goes backwards and does not follow the wall clock, so no step of that
//! clock can lengthen or cut a lease.

use std::{
    ops::{Add, Sub},
    time::Duration,
};

/// A point in monotonic time, counted from an arbitrary origin that all moments of a process share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Duration);

impl Moment {
    /// The moment that lies `since_origin` after the origin.
    pub const fn at(since_origin: Duration) -> Self {
        Self(since_origin)
    }

    /// Time from the origin to this moment.
    pub const fn since_origin(self) -> Duration {
        self.0
    }

    /// Time from `now` until this moment; zero when it has passed.
    pub fn left(self, now: Self) -> Duration {
        self.0.saturating_sub(now.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }
}

impl Sub for Moment {
    type Output = Duration;

    /// Time from `earlier` to `self`; zero when `earlier` is the later one.
    fn sub(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// A small deterministic source of jitter (SplitMix64): spreads calls, protects nothing.
#[derive(Clone, Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// Jitter that repeats for the same seed.
    pub const fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// A duration spread evenly over `low..high` of `base`, both as fractions.
    pub fn spread(&mut self, base: Duration, low: f64, high: f64) -> Duration {
        let share = low + (high - low) * self.unit();
        Duration::try_from_secs_f64(base.as_secs_f64() * share).unwrap_or(Duration::MAX)
    }

    /// The next number in `0.0..1.0`.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit an f64 exactly")]
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}
