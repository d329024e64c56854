//! Waits for the answer that is expected, where a target takes time to know a change everywhere.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::ports::TargetError;

/// The wait after the first attempt; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait between attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Repeats an attempt that is refused until it succeeds or `patience` ends; then the last refusal
/// counts. A fault is returned at once: the engine knows when to try again.
pub(super) async fn until<T, F>(
    patience: Duration,
    attempt: impl Fn() -> F,
) -> Result<T, TargetError>
where
    F: Future<Output = Result<T, TargetError>>,
{
    let end = Instant::now() + patience;
    let mut wait = FIRST_WAIT;
    loop {
        let refused = match attempt().await {
            Err(TargetError::Refused(refused)) => refused,
            other => return other,
        };
        if Instant::now() + wait > end {
            return Err(TargetError::Refused(refused));
        }
        sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::domain::fault::Reason;

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_believed_only_when_patience_ends() {
        let count = AtomicU32::new(0);
        let third = until(Duration::from_mins(1), || async {
            if count.fetch_add(1, Ordering::Relaxed) < 2 {
                return Err(TargetError::refused("not yet"));
            }
            Ok(7)
        });
        assert_eq!(third.await, Ok(7));
        let started = Instant::now();
        let never =
            until(Duration::from_mins(1), async || Err::<(), _>(TargetError::refused("never")));
        assert_eq!(never.await, Err(TargetError::refused("never")));
        let took = started.elapsed();
        assert!((Duration::from_secs(50)..=Duration::from_mins(1)).contains(&took), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_is_returned_at_once() {
        let started = Instant::now();
        let fault = until(Duration::from_mins(1), || async {
            Err::<(), _>(TargetError::fault(Reason::Unavailable, "down"))
        });
        assert!(matches!(fault.await, Err(TargetError::Fault(_))));
        assert_eq!(started.elapsed(), Duration::ZERO);
    }
}
