//! How often a store may be called: a token bucket over all calls, and a gate that closes while
//! the whole store fails, so that an outage costs one probe at a time and not one per secret.

use std::time::Duration;

use super::{
    fault::{Fault, Reason},
    time::{Jitter, Moment},
};

/// The limits of a [`Budget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetTerms {
    /// Calls allowed in a minute, on average.
    pub calls_per_minute: u32,
    /// Calls allowed at once after a quiet time.
    pub burst: u32,
    /// The shortest wait between two probes of a store that fails.
    pub probe_min: Duration,
    /// The longest wait between two probes.
    pub probe_max: Duration,
}

/// What a caller of the store has to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Call.
    Go,
    /// Come back after this wait.
    Wait(Duration),
    /// Don't call: the store failed as a whole and is being probed.
    Refused(Fault),
}

/// Counts the calls to one store.
#[derive(Debug)]
pub struct Budget {
    terms: BudgetTerms,
    /// When the bucket would be full again: each call moves it on by the cost of one.
    full_at: Moment,
    gate: Option<Gate>,
    jitter: Jitter,
}

#[derive(Debug)]
struct Gate {
    fault: Fault,
    failures: u32,
    probe_at: Moment,
}

impl Budget {
    /// A full bucket and an open gate.
    pub const fn new(terms: BudgetTerms, jitter: Jitter) -> Self {
        Self { terms, full_at: Moment::at(Duration::ZERO), gate: None, jitter }
    }

    /// Asks for one call; [`Admission::Go`] spends it.
    pub fn admit(&mut self, now: Moment) -> Admission {
        if let Some(gate) = &self.gate
            && now < gate.probe_at
        {
            let wait = gate.probe_at - now;
            return Admission::Refused(gate.fault.clone().retry_after(wait));
        }
        let cost = Duration::from_mins(1) / self.terms.calls_per_minute.max(1);
        let full_at = self.full_at.max(now) + cost;
        let overdraft = (full_at - now).saturating_sub(cost * self.terms.burst.max(1));
        if !overdraft.is_zero() {
            return Admission::Wait(overdraft);
        }
        self.full_at = full_at;
        if let Some(gate) = &mut self.gate {
            // The others wait for what this probe finds out.
            gate.probe_at = now + self.terms.probe_max;
        }
        Admission::Go
    }

    /// Learns how a call ended: `None` when it succeeded.
    pub fn completed(&mut self, now: Moment, fault: Option<&Fault>) {
        // A probe that times out is no answer, and so does not open the gate.
        let outage = |fault: &&Fault| {
            fault.reason.is_store_wide() || (self.gate.is_some() && fault.reason == Reason::Timeout)
        };
        let Some(fault) = fault.filter(outage) else {
            self.gate = None;
            return;
        };
        let failures = self.gate.as_ref().map_or(0, |gate| gate.failures);
        let ceiling = (self.terms.probe_min * 2_u32.saturating_pow(failures.min(16)))
            .min(self.terms.probe_max);
        let wait = self.jitter.spread(ceiling, 0.5, 1.0).max(fault.retry_after.unwrap_or_default());
        self.gate =
            Some(Gate { fault: fault.clone(), failures: failures + 1, probe_at: now + wait });
    }

    /// Why the store as a whole can't be used now; `None` when it can, as far as is known.
    pub fn outage(&self) -> Option<Reason> {
        self.gate.as_ref().map(|gate| gate.fault.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: BudgetTerms = BudgetTerms {
        calls_per_minute: 60,
        burst: 3,
        probe_min: Duration::from_secs(1),
        probe_max: Duration::from_secs(30),
    };

    fn at(secs: u64) -> Moment {
        Moment::at(Duration::from_secs(secs))
    }

    fn budget() -> Budget {
        Budget::new(TERMS, Jitter::seeded(7))
    }

    #[test]
    fn the_bucket_allows_its_burst_and_then_its_rate() {
        let mut budget = budget();
        let go = (0..10).filter(|_| budget.admit(at(100)) == Admission::Go).count();
        assert_eq!(go, 3);
        assert_eq!(budget.admit(at(100)), Admission::Wait(Duration::from_secs(1)));
        assert_eq!(budget.admit(at(101)), Admission::Go);
    }

    #[test]
    fn a_store_that_fails_is_probed_by_one_caller_at_growing_intervals() {
        let mut budget = budget();
        let down = Fault::new(Reason::Unavailable, "refused");
        let mut calls = 0;
        for second in 0..3600 {
            while budget.admit(at(second)) == Admission::Go {
                calls += 1;
                budget.completed(at(second), Some(&down));
            }
        }
        assert!((120..=250).contains(&calls), "{calls} probes in an hour");
        assert_eq!(budget.outage(), Some(Reason::Unavailable));
    }

    #[test]
    fn an_answer_of_any_kind_opens_the_gate() {
        let mut budget = budget();
        budget.completed(at(0), Some(&Fault::new(Reason::Sealed, "sealed")));
        assert!(matches!(budget.admit(at(0)), Admission::Refused(_)));
        budget.completed(at(0), Some(&Fault::new(Reason::Forbidden, "no")));
        assert_eq!(budget.admit(at(0)), Admission::Go);
    }

    #[test]
    fn a_probe_that_times_out_is_no_answer() {
        let mut budget = budget();
        let timeout = Fault::new(Reason::Timeout, "slow");
        budget.completed(at(0), Some(&timeout));
        assert_eq!(budget.admit(at(0)), Admission::Go, "one slow call is no outage");
        budget.completed(at(0), Some(&Fault::new(Reason::Unavailable, "refused")));
        assert_eq!(budget.admit(at(1)), Admission::Go);
        budget.completed(at(1), Some(&timeout));
        assert!(matches!(budget.admit(at(1)), Admission::Refused(_)));
    }

    #[test]
    fn the_wait_that_the_store_asks_for_is_kept() {
        let mut budget = budget();
        let fault = Fault::new(Reason::Throttled, "429").retry_after(Duration::from_mins(2));
        budget.completed(at(0), Some(&fault));
        assert!(matches!(budget.admit(at(119)), Admission::Refused(_)));
        assert_eq!(budget.admit(at(120)), Admission::Go);
    }
}
