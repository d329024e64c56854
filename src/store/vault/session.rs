//! The broker's token: one login for all, renewed at two thirds, replaced before its end.
//!
//! Invariants: callers that need a login at the same time share one, its failure too; a token that
//! was replaced is kept for the leases that were minted under it; nothing is minted that would
//! outlive its token when a new login gives more time.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex as StdMutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Mutex, watch},
    time::sleep,
};
use vaultrs::{client::VaultClient, token};
use zeroize::Zeroizing;

use super::{
    client::Client,
    fault::Doing,
    login::{self, Token},
};
use crate::{
    broker::ports::Clock,
    config::{AuthMethod, Vault},
    domain::{
        fault::{Fault, Reason},
        secret::SecretValue,
        time::{Jitter, Moment},
    },
};

/// The share of a token's time after which it is renewed or replaced: two thirds, spread.
const RENEW_SHARE: (f64, f64) = (0.6, 0.73);
/// A renewal that grants less than this share of the login's time met the token's maximum.
const CAPPED_SHARE: f64 = 0.9;
/// How long the verdict that a token is good holds, so that many refused paths cost one look-up.
const VERDICT: Duration = Duration::from_secs(5);
/// How long a failed login is shared with those who ask for one.
const SHARED_FAILURE: Duration = Duration::from_secs(1);
/// The wait after a renewal or login that failed.
const RETRY: Duration = Duration::from_secs(5);
/// How often the state of the session is looked at when nothing is due.
const IDLE: Duration = Duration::from_mins(1);

/// One token and what is known of its time.
pub(super) struct Session {
    pub(super) token: SecretValue,
    number: u64,
    /// The time that the login granted; zero for a token without an end.
    granted: Duration,
    times: StdMutex<Times>,
}

#[derive(Clone, Copy)]
struct Times {
    /// When the token ends unless it is renewed.
    ends_at: Option<Moment>,
    /// When it ends whatever is done, once that is known.
    max_at: Option<Moment>,
    renewable: bool,
    renew_at: Option<Moment>,
    good_until: Moment,
}

impl Session {
    fn times(&self) -> Times {
        *self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut Times)) {
        change(&mut self.times.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The most that anything minted under it can still live; `None` while no end is known.
    pub(super) fn max_left(&self, now: Moment) -> Option<Duration> {
        self.times().max_at.map(|at| at.left(now))
    }

    fn is_over(&self, now: Moment) -> bool {
        self.times().ends_at.is_some_and(|at| at <= now)
    }

    /// Whether a new login should come before something is minted that lives for `ttl`.
    fn is_short_for(&self, ttl: Duration, now: Moment) -> bool {
        self.max_left(now).is_some_and(|left| left < ttl && left < self.granted / 2)
    }
}

/// What a session leaves for the next run of the process.
#[derive(Serialize, Deserialize)]
struct Record {
    token: Zeroizing<String>,
    ends_at: Option<Timestamp>,
}

/// All tokens of the broker at one Vault.
pub(super) struct Sessions {
    client: Arc<Client>,
    vault: Arc<Vault>,
    clock: Arc<dyn Clock>,
    current: ArcSwapOption<Session>,
    /// Held by whoever logs in; what it protects is the failure of the last login.
    login: Mutex<Option<(Moment, Fault)>>,
    minted: StdMutex<HashMap<Arc<str>, Arc<Session>>>,
    revoked: AtomicU64,
    jitter: StdMutex<Jitter>,
    /// Counts the times that leases may have died with their token.
    losses: watch::Sender<u64>,
}

impl Sessions {
    pub(super) fn new(
        client: Arc<Client>,
        vault: Arc<Vault>,
        clock: Arc<dyn Clock>,
        jitter: Jitter,
    ) -> Self {
        Self {
            client,
            vault,
            clock,
            current: ArcSwapOption::empty(),
            login: Mutex::new(None),
            minted: StdMutex::default(),
            revoked: AtomicU64::default(),
            jitter: StdMutex::new(jitter),
            losses: watch::Sender::new(0),
        }
    }

    /// The session to use for something that lives for `ttl`; logs in if that is needed.
    pub(super) async fn session(&self, ttl: Duration) -> Result<Arc<Session>, Fault> {
        match self.current.load_full() {
            Some(session) if self.serves(&session, ttl) => Ok(session),
            before => self.replace(before.map(|session| session.number), ttl).await,
        }
    }

    fn serves(&self, session: &Session, ttl: Duration) -> bool {
        let now = self.clock.now();
        !session.is_over(now) && !session.is_short_for(ttl, now)
    }

    /// Logs in unless somebody else did so meanwhile; callers that come together share one result.
    async fn replace(&self, before: Option<u64>, ttl: Duration) -> Result<Arc<Session>, Fault> {
        let asked_at = self.clock.now();
        let mut failed = self.login.lock().await;
        if let Some(session) = self.current.load_full()
            && Some(session.number) != before
            && self.serves(&session, ttl)
        {
            return Ok(session);
        }
        if let Some((at, fault)) = &*failed
            && *at + SHARED_FAILURE > asked_at
        {
            return Err(fault.clone());
        }
        let since = self.clock.now();
        match login::login(&self.client, &self.vault.auth).await {
            Ok(token) => {
                *failed = None;
                tracing::info!(
                    ttl_secs = token.ttl,
                    renewable = token.renewable,
                    "logged in to Vault"
                );
                Ok(self.install(token, since, VERDICT))
            }
            Err(fault) => {
                tracing::warn!(%fault, "the login to Vault failed");
                *failed = Some((self.clock.now(), fault.clone()));
                Err(fault)
            }
        }
    }

    fn install(&self, token: Token, since: Moment, good_for: Duration) -> Arc<Session> {
        let number = self.current.load().as_ref().map_or(1, |session| session.number + 1);
        let granted = Duration::from_secs(token.ttl);
        let ends_at = (token.ttl > 0).then(|| since + granted);
        let explicit = (token.explicit_max_ttl > 0)
            .then(|| since + Duration::from_secs(token.explicit_max_ttl));
        let times = Times {
            ends_at,
            max_at: if token.renewable { explicit } else { ends_at },
            renewable: token.renewable,
            renew_at: ends_at.map(|_| since + self.renew_after(granted)),
            good_until: since + good_for,
        };
        let session =
            Arc::new(Session { token: token.value, number, granted, times: StdMutex::new(times) });
        self.current.store(Some(Arc::clone(&session)));
        session
    }

    fn renew_after(&self, granted: Duration) -> Duration {
        let mut jitter = self.jitter.lock().unwrap_or_else(PoisonError::into_inner);
        jitter.spread(granted, RENEW_SHARE.0, RENEW_SHARE.1)
    }

    /// After Vault refused a call: whether it refuses the token. If it does, all leases minted
    /// under the token are dead, and the next [`session`](Self::session) logs in anew.
    pub(super) async fn is_lost(&self, session: &Arc<Session>) -> Result<bool, Fault> {
        if self.is_replaced(session) {
            return Ok(true);
        }
        let _one_at_a_time = self.login.lock().await;
        if self.is_replaced(session) {
            return Ok(true);
        }
        if self.clock.now() < session.times().good_until {
            return Ok(false);
        }
        let token = SecretValue::new(session.token.expose());
        match login::lookup(&self.client, token, Doing::Read).await {
            Ok(_) => {
                session.update(|times| times.good_until = self.clock.now() + VERDICT);
                Ok(false)
            }
            Err(fault) if matches!(fault.reason, Reason::Forbidden | Reason::Unauthenticated) => {
                self.lose(session);
                Ok(true)
            }
            Err(fault) => Err(fault),
        }
    }

    fn is_replaced(&self, session: &Session) -> bool {
        self.current.load().as_ref().is_none_or(|current| current.number != session.number)
    }

    fn lose(&self, session: &Session) {
        tracing::warn!("Vault does not accept the broker's token any more");
        // Ended, but kept: its number tells the next session from it.
        let now = self.clock.now();
        session.update(|times| times.ends_at = Some(now));
        self.losses.send_modify(|losses| *losses += 1);
    }

    /// Keeps the token alive: renews it, and logs in anew before it ends. Runs for ever.
    pub(super) async fn run(&self) {
        loop {
            let due = self.current.load().as_ref().and_then(|session| session.times().renew_at);
            let now = self.clock.now();
            match due {
                Some(at) if at <= now => {
                    if let Err(fault) = self.prolong().await {
                        tracing::warn!(%fault, "the token could not be renewed");
                        sleep(fault.retry_after.unwrap_or(RETRY)).await;
                    }
                }
                Some(at) => sleep(at.left(now).min(IDLE)).await,
                None => sleep(IDLE.min(RETRY)).await,
            }
        }
    }

    async fn prolong(&self) -> Result<(), Fault> {
        let Some(session) = self.current.load_full() else { return Ok(()) };
        let now = self.clock.now();
        if !session.times().renewable
            || session.is_over(now)
            || session.is_short_for(session.granted, now)
        {
            return self.replace_in_time(&session).await;
        }
        let call = |v: VaultClient| async move { token::renew_self(&v, None).await };
        match self.client.library("token_renew", Some(&session.token), Doing::Read, call).await {
            Ok(info) => {
                let ttl = Duration::from_secs(info.lease_duration);
                let capped = ttl < session.granted.mul_f64(CAPPED_SHARE);
                let renew_after = self.renew_after(ttl);
                session.update(|times| {
                    times.ends_at = Some(now + ttl);
                    times.renew_at = Some(now + renew_after);
                    if capped || !info.renewable {
                        times.max_at = Some(now + ttl);
                        times.renewable = false;
                    }
                });
                if capped { self.replace_in_time(&session).await } else { Ok(()) }
            }
            Err(fault) if fault.reason == Reason::Forbidden => {
                self.lose(&session);
                self.replace(Some(session.number), Duration::ZERO).await.map(drop)
            }
            Err(fault) => Err(fault),
        }
    }

    /// Logs in while the old token still lives: its leases stay good until its end, which they
    /// learn at their next renewal.
    async fn replace_in_time(&self, session: &Session) -> Result<(), Fault> {
        session.update(|times| times.max_at = times.ends_at);
        self.replace(Some(session.number), Duration::ZERO).await?;
        self.losses.send_modify(|losses| *losses += 1);
        Ok(())
    }

    /// Notes under which token a lease was minted.
    pub(super) fn minted(&self, lease: Arc<str>, session: Arc<Session>) {
        self.minted.lock().unwrap_or_else(PoisonError::into_inner).insert(lease, session);
    }

    /// The most that renewals can carry a lease, by the token that it was minted under.
    pub(super) fn lease_max_left(&self, lease: &str) -> Option<Duration> {
        let minted = self.minted.lock().unwrap_or_else(PoisonError::into_inner);
        minted.get(lease).and_then(|session| session.max_left(self.clock.now()))
    }

    /// Forgets a lease that was revoked.
    pub(super) fn gone(&self, lease: &str) {
        self.revoked.fetch_add(1, Ordering::Relaxed);
        self.minted.lock().unwrap_or_else(PoisonError::into_inner).remove(lease);
    }

    /// How many leases were revoked.
    pub(super) fn revoked(&self) -> u64 {
        self.revoked.load(Ordering::Relaxed)
    }

    /// Tells each time that leases may have died with their token.
    pub(super) fn losses(&self) -> watch::Receiver<u64> {
        self.losses.subscribe()
    }

    /// Revokes the current token, and with it whatever was minted under it. Answers whether that was all that is left: a
    /// token that was given to the broker is not the broker's to revoke, and leases of tokens before it live on.
    pub(super) async fn close(&self) -> Result<bool, Fault> {
        if matches!(self.vault.auth.method, AuthMethod::Token { .. }) {
            return Ok(false);
        }
        let Some(session) = self.current.swap(None) else { return Ok(false) };
        let call = |v: VaultClient| async move { token::revoke_self(&v).await };
        self.client.library("token_revoke", Some(&session.token), Doing::Read, call).await?;
        let minted = self.minted.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(minted.values().all(|of| Arc::ptr_eq(of, &session)))
    }

    /// The current token for the encrypted state.
    pub(super) fn export(&self) -> Option<SecretValue> {
        let session = self.current.load_full()?;
        let now = self.clock.now();
        let shift = |at: Moment| {
            let left = SignedDuration::try_from(at.left(now)).ok()?;
            self.clock.wall().checked_add(left).ok()
        };
        let record = Record {
            token: Zeroizing::new(String::from_utf8_lossy(session.token.expose()).into_owned()),
            ends_at: session.times().ends_at.and_then(shift),
        };
        serde_json::to_vec(&record).ok().map(SecretValue::new)
    }

    /// Takes over the token of an earlier run, on trust until its recorded end.
    pub(super) fn import(&self, record: &SecretValue) -> Result<(), Fault> {
        let record: Record = serde_json::from_slice(record.expose())
            .map_err(|_| Fault::new(Reason::Invalid, "the saved session can't be read"))?;
        let left = |at: Timestamp| Duration::try_from(at.duration_since(self.clock.wall()));
        let left = record.ends_at.map(|at| left(at).unwrap_or_default());
        let token = Token {
            value: SecretValue::new(record.token.as_str()),
            ttl: left.map_or(0, |left| left.as_secs().max(1)),
            renewable: left.is_some(),
            explicit_max_ttl: 0,
        };
        // Never looked up by this run: its first refusal asks Vault what the token is worth.
        self.install(token, self.clock.now(), Duration::ZERO);
        Ok(())
    }
}
