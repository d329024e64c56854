//! What the broker tells of itself, as metrics and log lines.

use super::Metrics;
use crate::{
    broker::observe::Observer,
    domain::{
        life::Change,
        secret::{Generation, SecretName},
    },
};

impl Observer for Metrics {
    #[inline]
    fn hit(&self) {
        self.hits.inc();
    }

    fn missed(&self) {
        self.misses.inc();
    }

    fn joined(&self) {
        self.joined.inc();
    }

    fn stale_served(&self) {
        self.stale_serves.inc();
    }

    fn changed(&self, secret: &SecretName, change: Change, generation: Generation) {
        let name = change_name(change);
        let labels = [("secret", secret.as_str().to_owned().into()), ("change", name.into())];
        self.changes.get_or_create(&labels).inc();
        tracing::info!(%secret, change = name, generation = generation.0, "secret changed");
    }

    fn watch_overrun(&self) {
        self.overruns.inc();
    }
}

const fn change_name(change: Change) -> &'static str {
    match change {
        Change::Rotated => "rotated",
        Change::Renewed => "renewed",
        Change::Expiring => "expiring",
        Change::Stale => "stale",
        Change::Recovered => "recovered",
        Change::Revoked => "revoked",
    }
}
