//! What the broker tells of itself, as metrics and log lines.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    Metrics,
    events::{ConnectionRefused, HandshakeFailed},
};
use crate::{
    broker::observe::{FeedNews, Lasting, Method, Observer, Refused},
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

    #[inline]
    fn answered(&self, method: Method, code: usize, took: Duration) {
        self.requests.answered(method, code, took);
    }

    fn lasting(&self, what: Lasting, begins: bool) {
        let gauge = match what {
            Lasting::Connection => &self.connections,
            Lasting::Watch => &self.watches,
        };
        if begins {
            gauge.inc()
        } else {
            gauge.dec()
        };
    }

    fn delivered(&self, lag: Duration) {
        self.watch_lag.observe(lag.as_secs_f64());
    }

    fn monitored(&self, secret: &str, identity: &str) {
        self.feed.monitored(secret, identity);
    }

    fn feed(&self, news: FeedNews<'_>, now: Timestamp) {
        self.feed.take(news, now);
    }

    fn refused(&self, why: Refused) {
        match why {
            Refused::Limit => ConnectionRefused { reason: "limit" }.record(self),
            Refused::Identity => ConnectionRefused { reason: "identity" }.record(self),
            Refused::Silent => HandshakeFailed { reason: "silent" }.record(self),
            Refused::Handshake => HandshakeFailed { reason: "untrusted" }.record(self),
        }
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
