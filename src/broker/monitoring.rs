//! Secrets whose readers are watched closely for a time, as after a compromise.

use std::collections::BTreeMap;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;

use crate::domain::secret::SecretName;

/// Until when accesses are watched closely, by secret.
#[derive(Default)]
pub(super) struct Monitoring(ArcSwapOption<BTreeMap<SecretName, Timestamp>>);

impl Monitoring {
    /// Watches these secrets until then; without a time, no more. What is over at `now` is
    /// forgotten.
    pub(super) fn set(&self, names: &[SecretName], until: Option<Timestamp>, now: Timestamp) {
        self.0.rcu(|before| {
            let before = before.iter().flat_map(|before| before.iter());
            let mut all: BTreeMap<_, _> = before
                .filter(|(name, until)| **until > now && !names.contains(name))
                .map(|(name, until)| (name.clone(), *until))
                .collect();
            if let Some(until) = until.filter(|until| *until > now) {
                all.extend(names.iter().map(|name| (name.clone(), until)));
            }
            (!all.is_empty()).then(|| all.into())
        });
    }

    /// Whether a secret is watched at the time that `now` tells. The clock is not asked while
    /// none is.
    pub(super) fn covers(&self, name: &str, now: impl FnOnce() -> Timestamp) -> bool {
        let all = self.0.load();
        all.as_ref().and_then(|all| all.get(name)).is_some_and(|until| now() < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_watched_until_its_time_or_until_that_is_called_off() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let [a, b] = ["A", "B"].map(|name| name.parse::<SecretName>().unwrap());
        let monitoring = Monitoring::default();
        assert!(!monitoring.covers("A", || unreachable!("nothing is watched")));
        monitoring.set(std::slice::from_ref(&a), Some(at(10)), at(0));
        monitoring.set(&[b], Some(at(20)), at(0));
        assert!(monitoring.covers("A", || at(9)) && !monitoring.covers("A", || at(10)));
        monitoring.set(&[a], None, at(5));
        assert!(!monitoring.covers("A", || at(9)) && monitoring.covers("B", || at(19)));
        monitoring.set(&[], None, at(20));
        assert!(!monitoring.covers("B", || unreachable!("it was forgotten")));
    }
}
