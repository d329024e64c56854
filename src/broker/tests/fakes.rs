//! A clock on the paused time of tokio, and a store that records what it is asked.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use crate::{
    broker::{
        Broker, Entry, Kept,
        ports::{Clock, Origin},
        watch::{Occurrence, Scope, Watch},
    },
    domain::{
        budget::{Admission, Budget},
        fault::{Fault, Reason},
        life::{Change, Issued, Lease, Lifetime, Predecessor, Renewed, Terms},
        secret::{Fields, SecretName, SecretValue, Version},
        time::{Jitter, Moment},
    },
};

pub(super) const HOUR: Duration = Duration::from_hours(1);
pub(super) const MINUTE: Duration = Duration::from_mins(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// Monotonic time is tokio's; the wall and a suspension can be moved apart from it.
pub(super) struct TokioClock {
    start: Instant,
    suspended_ms: AtomicU64,
    wall_jump_ms: AtomicI64,
}

impl TokioClock {
    fn new() -> Self {
        let (suspended_ms, wall_jump_ms) = (AtomicU64::new(0), AtomicI64::new(0));
        Self { start: Instant::now(), suspended_ms, wall_jump_ms }
    }

    pub(super) fn jump_wall(&self, by: SignedDuration) {
        let by = i64::try_from(by.as_millis()).expect("a jump in range");
        self.wall_jump_ms.fetch_add(by, Ordering::Relaxed);
    }

    /// Lets time pass that no timer sees.
    pub(super) fn suspend(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).expect("a time in range");
        self.suspended_ms.fetch_add(by, Ordering::Relaxed);
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Moment {
        let suspended = Duration::from_millis(self.suspended_ms.load(Ordering::Relaxed));
        Moment::at(HOUR + self.start.elapsed() + suspended)
    }

    fn wall(&self) -> Timestamp {
        let base = Timestamp::from_second(1_800_000_000).expect("a time in range");
        let elapsed = SignedDuration::try_from(self.start.elapsed()).expect("a time in range");
        let jump = SignedDuration::from_millis(self.wall_jump_ms.load(Ordering::Relaxed));
        base + elapsed + jump
    }
}

/// A lease at the store.
#[derive(Clone, Debug)]
pub(super) struct Granted {
    pub(super) path: String,
    pub(super) ends_at: Moment,
    max_ends_at: Moment,
    pub(super) revocations: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Fetch,
    Renew,
    Revoke,
}

#[derive(Default)]
pub(super) struct Ledger {
    pub(super) calls: Vec<(Moment, Kind, String)>,
    pub(super) leases: HashMap<Arc<str>, Granted>,
    /// Fails every call.
    pub(super) fault: Option<Reason>,
    /// Fails the calls for paths that start so.
    pub(super) path_fault: Option<(String, Reason)>,
    /// Fails one call in this many.
    pub(super) one_fails_in: Option<u32>,
    /// Polled values by path.
    pub(super) versions: BTreeMap<String, String>,
    pub(super) latency: Duration,
    luck: Option<Jitter>,
    minted: u64,
}

/// The store behind all fake origins.
pub(super) struct FakeStore {
    clock: Arc<TokioClock>,
    ledger: Mutex<Ledger>,
    pub(super) hints: Notify,
}

impl FakeStore {
    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no test panics while it holds the ledger")
    }

    pub(super) fn count(&self, kind: Kind) -> usize {
        self.ledger().calls.iter().filter(|call| call.1 == kind).count()
    }

    pub(super) fn revocations(&self) -> Vec<String> {
        let ledger = self.ledger();
        let mut revoked = Vec::new();
        for (id, lease) in &ledger.leases {
            revoked.extend((0..lease.revocations).map(|_| id.to_string()));
        }
        revoked.sort();
        revoked
    }

    async fn called(&self, kind: Kind, path: &str) -> Result<MutexGuard<'_, Ledger>, Fault> {
        let latency = {
            let mut ledger = self.ledger();
            ledger.calls.push((self.clock.now(), kind, path.to_owned()));
            ledger.latency
        };
        if !latency.is_zero() {
            sleep(latency).await;
        }
        let mut ledger = self.ledger();
        let unlucky = ledger.one_fails_in.is_some_and(|n| {
            let luck = ledger.luck.get_or_insert(Jitter::seeded(5));
            luck.spread(SECOND * n, 0.0, 1.0) < SECOND
        });
        let on_path = ledger.path_fault.clone().filter(|(start, _)| path.starts_with(start));
        let reason = ledger.fault.or(on_path.map(|(_, reason)| reason));
        match reason.or(unlucky.then_some(Reason::Failed)) {
            Some(reason) => Err(Fault::new(reason, "as the test wants it")),
            None => Ok(ledger),
        }
    }
}

/// A place in the store.
#[derive(Clone)]
pub(super) struct FakeOrigin {
    pub(super) store: Arc<FakeStore>,
    pub(super) path: String,
    /// The lease's time and the most of it; `None` for a value that is polled.
    pub(super) ttl: Option<(Duration, Duration)>,
}

#[async_trait]
impl Origin for FakeOrigin {
    async fn fetch(&self) -> Result<Issued, Fault> {
        let now = self.store.clock.now();
        let mut ledger = self.store.called(Kind::Fetch, &self.path).await?;
        let Some((ttl, max_ttl)) = self.ttl else {
            let version = ledger.versions.get(&self.path).cloned().unwrap_or_else(|| "1".into());
            return Ok(issued(&version, Lifetime::Unbounded));
        };
        ledger.minted += 1;
        let id: Arc<str> = format!("{}#{}", self.path, ledger.minted).into();
        let (ends_at, max_ends_at) = (now + ttl, now + max_ttl);
        let granted = Granted { path: self.path.clone(), ends_at, max_ends_at, revocations: 0 };
        ledger.leases.insert(Arc::clone(&id), granted);
        let lease = Lease { id: Arc::clone(&id), renewable: true };
        Ok(issued(&id, Lifetime::Leased { lease, ttl }))
    }

    async fn renew(&self, lease: &Lease) -> Result<Renewed, Fault> {
        let now = self.store.clock.now();
        let mut ledger = self.store.called(Kind::Renew, &self.path).await?;
        let ttl = self.ttl.map_or(Duration::ZERO, |(ttl, _)| ttl);
        let live = |l: &&mut Granted| l.path == self.path && l.revocations == 0 && now < l.ends_at;
        let Some(granted) = ledger.leases.get_mut(&lease.id).filter(live) else {
            return Err(Fault::new(Reason::LeaseLost, "no such lease"));
        };
        granted.ends_at = (now + ttl).min(granted.max_ends_at);
        Ok(Renewed { ttl: granted.ends_at - now, renewable: true, max_left: None })
    }

    async fn revoke(&self, lease: &Lease) -> Result<(), Fault> {
        let mut ledger = self.store.called(Kind::Revoke, &self.path).await?;
        match ledger.leases.get_mut(&lease.id).filter(|granted| granted.path == self.path) {
            Some(granted) => granted.revocations += 1,
            None => return Err(Fault::new(Reason::Invalid, "not a lease of this path")),
        }
        Ok(())
    }

    async fn changed(&self) {
        self.store.hints.notified().await;
    }
}

fn issued(version: &str, lifetime: Lifetime) -> Issued {
    let fields = Arc::new(Fields::single(SecretValue::new(version)));
    Issued {
        fields,
        version: Version(version.into()),
        lifetime,
        max_left: None,
        predecessor: Predecessor::Untold,
    }
}

/// Asks the budget before each call, as the adapters of real stores do.
pub(super) struct WithBudget {
    pub(super) inner: FakeOrigin,
    pub(super) budget: Arc<(Mutex<Budget>, tokio::sync::Mutex<()>)>,
}

impl WithBudget {
    async fn within<T: Send>(
        &self,
        call: impl Future<Output = Result<T, Fault>> + Send,
    ) -> Result<T, Fault> {
        let clock = Arc::clone(&self.inner.store.clock);
        let budget = || self.budget.0.lock().expect("no test panics while it holds the budget");
        {
            let _turn = self.budget.1.lock().await;
            loop {
                let admission = budget().admit(clock.now());
                match admission {
                    Admission::Go => break,
                    Admission::Wait(wait) => sleep(wait).await,
                    Admission::Refused(fault) => return Err(fault),
                }
            }
        }
        let result = call.await;
        budget().completed(clock.now(), result.as_ref().err());
        result
    }
}

#[async_trait]
impl Origin for WithBudget {
    async fn fetch(&self) -> Result<Issued, Fault> {
        self.within(self.inner.fetch()).await
    }

    async fn renew(&self, lease: &Lease) -> Result<Renewed, Fault> {
        self.within(self.inner.renew(lease)).await
    }

    async fn revoke(&self, lease: &Lease) -> Result<(), Fault> {
        self.within(self.inner.revoke(lease)).await
    }
}

/// A broker at work, with its clock and its store.
pub(super) struct Rig {
    pub(super) broker: Arc<Broker>,
    pub(super) clock: Arc<TokioClock>,
    pub(super) store: Arc<FakeStore>,
}

impl Rig {
    pub(super) fn new() -> Self {
        let clock = Arc::new(TokioClock::new());
        let ledger = Mutex::default();
        let store = FakeStore { clock: Arc::clone(&clock), ledger, hints: Notify::new() };
        let (broker, keepers) = Broker::new(
            Arc::<TokioClock>::clone(&clock),
            Arc::new(crate::broker::observe::Unobserved),
            10_000,
            1,
        );
        tokio::spawn(keepers.run());
        Self { broker, clock, store: Arc::new(store) }
    }

    pub(super) async fn load(&self, entries: &[(&str, Entry)]) {
        let catalogue = entries.iter().map(|(n, entry)| (name(n), entry.clone())).collect();
        self.broker.load(catalogue, BTreeMap::new()).await;
    }

    pub(super) fn origin(&self, path: &str, ttl: Option<Duration>) -> FakeOrigin {
        let ttl = ttl.map(|ttl| (ttl, Duration::from_hours(24)));
        FakeOrigin { store: Arc::clone(&self.store), path: path.into(), ttl }
    }

    /// A secret of hourly leases at a path.
    pub(super) fn leased(&self, path: &str) -> Entry {
        entry(self.origin(path, Some(HOUR)))
    }

    /// A secret that is polled at a path.
    pub(super) fn polled(&self, path: &str) -> Entry {
        entry(self.origin(path, None))
    }

    pub(super) async fn secret(&self, name: &str) -> Arc<Kept> {
        self.broker.secret(name).await.expect("it is in the catalogue")
    }

    pub(super) async fn watch(&self) -> (Watch, usize) {
        let (watch, states) = self.broker.watch(Box::new(All)).await;
        (watch, states.len())
    }
}

pub(super) struct All;

impl Scope for All {
    fn covers(&self, _: &SecretName, _: &str) -> bool {
        true
    }
}

pub(super) fn name(text: &str) -> SecretName {
    text.parse().expect("a name")
}

pub(super) fn terms() -> Terms {
    Terms {
        prefetch: true,
        poll_interval: MINUTE * 5,
        max_stale: MINUTE * 30,
        overlap: MINUTE * 10,
        max_age: None,
        retry_min: SECOND,
        retry_max: MINUTE * 5,
    }
}

pub(super) fn entry(origin: impl Origin + 'static) -> Entry {
    Entry { category: "database".into(), terms: terms(), origin: Arc::new(origin), place: 1 }
}

pub(super) fn on_demand(mut entry: Entry) -> Entry {
    entry.terms.prefetch = false;
    entry
}

/// The next occurrence in short: what changed, or `None` for a withdrawal.
pub(super) async fn next(watch: &mut Watch) -> (String, Option<Change>) {
    let next = tokio::time::timeout(HOUR * 48, watch.next()).await.expect("something happens");
    match next.expect("the broker runs") {
        Occurrence::Changed(kept, change, _) => (kept.name().to_string(), Some(change)),
        Occurrence::Withdrawn(name) => (name.to_string(), None),
    }
}

/// Whether nothing happens for this long.
pub(super) async fn is_quiet(watch: &mut Watch, wait: Duration) -> bool {
    tokio::time::timeout(wait, watch.next()).await.is_err()
}
