//! The rules of a secret's life, with exact times.

#![allow(clippy::unchecked_time_subtraction, reason = "a test whose subtraction fails shall fail")]

mod ending;
mod failing;
mod labels;
mod renewing;
mod sequences;

use std::{sync::Arc, time::Duration};

use super::*;
use crate::domain::{
    fault::Reason,
    secret::{Fields, SecretValue},
    time::Jitter,
};

const HOUR: Duration = Duration::from_hours(1);
const SECOND: Duration = Duration::from_secs(1);

fn terms() -> Terms {
    Terms {
        prefetch: true,
        poll_interval: Duration::from_mins(5),
        max_stale: Duration::from_mins(30),
        overlap: Duration::from_mins(10),
        max_age: None,
        retry_min: SECOND,
        retry_max: Duration::from_mins(1),
    }
}

fn secs(secs: f64) -> Duration {
    Duration::from_secs_f64(secs)
}

fn lease(id: &str) -> Lease {
    Lease { id: id.into(), renewable: true }
}

fn issued(version: &str, lifetime: Lifetime) -> Issued {
    Issued {
        fields: Arc::new(Fields::single(SecretValue::new(version))),
        version: Version(version.into()),
        lifetime,
        max_left: None,
        predecessor: Predecessor::Untold,
    }
}

fn leased(id: &str, ttl: Duration) -> Issued {
    issued(id, Lifetime::Leased { lease: lease(id), ttl })
}

fn renewed(ttl: Duration) -> Renewed {
    Renewed { ttl, renewable: true, max_left: None }
}

fn fault(reason: Reason) -> Fault {
    Fault::new(reason, "as the test wants it")
}

/// A life with a clock of its own.
struct Bench {
    life: Life,
    now: Moment,
    next: u64,
}

impl Bench {
    fn new(terms: Terms, seed: u64) -> Self {
        let now = Moment::at(Duration::from_secs(1000));
        Self { life: Life::new(terms, Jitter::seeded(seed)), now, next: 0 }
    }

    /// A life that was just given its first value.
    fn holding(terms: Terms, seed: u64, first: Issued) -> Self {
        let mut bench = Self::new(terms, seed);
        assert_eq!(bench.tick(), [Effect::Fetch]);
        bench.fetched(first);
        bench
    }

    fn on(&mut self, event: Event) -> Vec<Effect> {
        self.life.on(event, self.now)
    }

    fn tick(&mut self) -> Vec<Effect> {
        self.on(Event::Tick)
    }

    fn fetched(&mut self, issued: Issued) -> Vec<Effect> {
        self.next += 1;
        self.on(Event::Fetched(issued, Generation(self.next)))
    }

    fn pass(&mut self, by: Duration) -> Vec<Effect> {
        self.now = self.now + by;
        self.tick()
    }

    /// The wait until time alone changes something.
    fn wait(&self) -> Duration {
        self.life.wake_at(self.now).expect("something is due") - self.now
    }

    /// Lets time pass until something is to be done.
    fn wake(&mut self) -> Vec<Effect> {
        let wait = self.wait();
        self.pass(wait)
    }

    /// Wakes until something other than a publication has to be done, and says when it was.
    fn next_call(&mut self) -> (Duration, Effect) {
        let start = self.now;
        for _ in 0..100 {
            let calls = calls(self.wake());
            if let Some(call) = calls.into_iter().next() {
                return (self.now - start, call);
            }
        }
        panic!("no call is ever made");
    }

    fn view(&self) -> View {
        self.life.view(self.now)
    }

    fn generation(&self) -> u64 {
        self.view().held.map_or(0, |held| held.generation.0)
    }

    fn ends_in(&self) -> Option<Duration> {
        self.view().held.and_then(|held| held.ends_at).map(|end| end - self.now)
    }
}

fn calls(effects: Vec<Effect>) -> Vec<Effect> {
    effects.into_iter().filter(|effect| !matches!(effect, Effect::Publish(_))).collect()
}

fn changes(effects: &[Effect]) -> Vec<Change> {
    effects.iter().filter_map(|e| if let Effect::Publish(c) = e { *c } else { None }).collect()
}

fn assert_share(part: Duration, whole: Duration, low: f64, high: f64) {
    let share = part.as_secs_f64() / whole.as_secs_f64();
    assert!((low..=high).contains(&share), "{share} is not in {low}..={high}");
}
