//! `wait`: until the broker serves all that it should have; what starts after it finds its secrets there.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{
    Failure,
    args::{Connection, WaitArgs},
    check,
    failure::{DEADLINE, OK},
};

/// The waits between two looks.
const LOOK: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// The longest time for one look: what gives no answer now may be gone, and another in its place.
const LONGEST_LOOK: Duration = Duration::from_secs(3);

pub(super) async fn run(args: WaitArgs) -> Result<u8, Failure> {
    let WaitArgs { address, cert_dir, timeout: longest } = args;
    let connection = Connection { address, cert_dir, timeout: longest.min(LONGEST_LOOK) };
    // Its certificates may not be there yet, so no failure is final before the time is over.
    let mut last = None;
    let looks = async {
        let mut wait = LOOK.0;
        while let Err(failure) = check::ready(&connection).await {
            last = failure.message;
            sleep(wait).await;
            wait = (wait * 2).min(LOOK.1);
        }
    };
    if timeout(longest, looks).await.is_ok() {
        return Ok(OK);
    }
    let why = last.unwrap_or_else(|| "it gave no answer".to_owned());
    let within = longest.as_secs_f64();
    Err(Failure::new(DEADLINE, format!("not ready within {within} s: {why}")))
}
