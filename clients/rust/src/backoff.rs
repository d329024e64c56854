//! Waits between attempts: full jitter over a bound that doubles from 0.1 to 5 seconds, or as long as the broker asks.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

use crate::Error;

const FIRST_BOUND: Duration = Duration::from_millis(100);
/// The longest wait.
pub(crate) const LAST_BOUND: Duration = Duration::from_secs(5);

/// The waits of one row of attempts.
pub(crate) struct Backoff {
    bound: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { bound: FIRST_BOUND }
    }
}

impl Backoff {
    /// Starts over, after something worked.
    pub(crate) fn reset(&mut self) {
        self.bound = FIRST_BOUND;
    }

    /// The time before the next attempt.
    pub(crate) fn after(&mut self, error: Option<&Error>) -> Duration {
        let jittered = self.bound.mul_f64(fraction());
        self.bound = (self.bound * 2).min(LAST_BOUND);
        error.and_then(Error::retry_after).unwrap_or(jittered)
    }
}

/// A random number in `0.0..1.0`, from the seed that the standard library draws for hash maps.
fn fraction() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(random >> 32).unwrap_or_default()) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::Reason;

    #[test]
    fn waits_are_spread_and_bounded() {
        let mut backoff = Backoff::default();
        let bounds = (0..).map(|doubled| (FIRST_BOUND * (1 << doubled.min(8))).min(LAST_BOUND));
        let waits: Vec<_> = bounds.take(50).map(|bound| (backoff.after(None), bound)).collect();
        assert!(waits.iter().all(|(wait, bound)| wait < bound), "{waits:?}");
        let distinct: BTreeSet<_> = waits.iter().map(|(wait, _)| wait).collect();
        assert!(distinct.len() > 45, "{distinct:?}");
        backoff.reset();
        assert!(backoff.after(None) < FIRST_BOUND);
    }

    #[test]
    fn the_broker_s_wish_is_granted() {
        let retry_after = Some(Duration::from_secs(7));
        let sealed =
            Error::Refused { reason: Reason::SourceSealed, message: String::new(), retry_after };
        assert_eq!(Some(Backoff::default().after(Some(&sealed))), retry_after);
    }
}
