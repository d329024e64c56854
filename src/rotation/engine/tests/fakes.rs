//! A world in memory: a target, versions, a journal, sidecars and people, with a place to crash at
//! before and after each effect.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tokio::{sync::Notify, time::Instant};

use super::super::{Engine, Limits, Managed, Surroundings};
use crate::{
    broker::ports::Clock,
    domain::{
        fault::{Fault, Reason},
        labels::Labels,
        rotation::{
            RevokeWhen, Rotation, RotationId, Terms,
            schedule::{Every, Schedule},
        },
        secret::{Fields, SecretName, SecretValue},
        time::Moment,
    },
    rotation::ports::{
        Adoption, Alert, Alerts, Book, Change, Evidence, Generated, Journal, Readers, Records,
        Revocation, Rotator, SaveError, Severity, Stamp, TargetError, Validator, Versions,
    },
};

pub(super) const PLACE: &str = "secret/data/app";

/// Where a run is cut: the effects before it happened, those after it did not.
#[derive(Default)]
pub(super) struct Crash {
    left: AtomicU64,
    hit: Notify,
    resumed: Notify,
}

impl Crash {
    /// Cuts the run at the `n`th place, counted from 1; never for 0.
    pub(super) fn at(&self, n: u64) {
        self.left.store(n, Ordering::SeqCst);
    }

    /// Resolves when the run was cut.
    pub(super) async fn hit(&self) {
        self.hit.notified().await;
    }

    /// Lets a run that was cut, and not dropped, go on.
    pub(super) fn resume(&self) {
        self.resumed.notify_waiters();
    }

    async fn place(&self) {
        if self.left.load(Ordering::SeqCst) > 0 && self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.hit.notify_one();
            self.resumed.notified().await;
        }
    }
}

/// What is true outside of the engine.
#[derive(Default)]
pub(super) struct World {
    pub(super) crash: Crash,
    pub(super) state: Mutex<State>,
    told: Notify,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) overlapping: bool,
    /// The values that the target accepts.
    pub(super) accepted: BTreeSet<String>,
    /// Values that the target will refuse to take.
    pub(super) refuses: u32,
    /// Whether new values turn out not to work.
    pub(super) broken: bool,
    /// Faults of the target, one a call, before it works.
    pub(super) faults: u32,
    /// Faults of revocations only.
    pub(super) revoke_faults: u32,
    /// Whether a person has to hand the value over.
    pub(super) by_hand: bool,
    /// Parts of a revocation before the last one.
    pub(super) parts: u32,
    pub(super) versions: Vec<String>,
    pub(super) labels: Labels,
    pub(super) books: BTreeMap<SecretName, (Book, u64)>,
    pub(super) made: u32,
    pub(super) alerts: Vec<String>,
    pub(super) records: Vec<RotationId>,
    pub(super) announced: u32,
    pub(super) adoption: Adoption,
    /// What each check of the invariants saw broken.
    pub(super) broken_invariants: Vec<String>,
}

impl State {
    /// What must hold whenever somebody looks: readers are served something that works.
    fn look(&mut self, at: &str) {
        let labels = &self.labels;
        let served = [labels.current, labels.previous]
            .into_iter()
            .chain(labels.audiences.values().map(|v| Some(*v)))
            .flatten();
        let values: Vec<_> = served
            .filter_map(|version| self.versions.get(usize::try_from(version).unwrap() - 1))
            .collect();
        if self.overlapping {
            for value in values {
                if !self.accepted.contains(value) {
                    self.broken_invariants.push(format!("{at}: {value} is served and refused"));
                }
            }
        }
        if self.accepted.is_empty() {
            self.broken_invariants.push(format!("{at}: the target accepts nothing"));
        }
    }
}

impl World {
    /// A target that accepts `v1`, which is served.
    pub(super) fn new(overlapping: bool) -> Arc<Self> {
        let state = State {
            overlapping,
            accepted: ["v1".to_owned()].into(),
            versions: vec!["v1".to_owned()],
            ..State::default()
        };
        Arc::new(Self { state: Mutex::new(state), ..Self::default() })
    }

    pub(super) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state.lock().unwrap());
        self.told.notify_waiters();
        result
    }

    /// One effect, with a place to crash at before and after it.
    async fn effect<T>(&self, name: &str, effect: impl FnOnce(&mut State) -> T) -> T {
        self.crash.place().await;
        let result = {
            let mut state = self.state.lock().unwrap();
            let result = effect(&mut state);
            state.look(name);
            result
        };
        self.crash.place().await;
        result
    }

    /// A target's call, which may fail first.
    async fn call<T>(
        &self,
        name: &str,
        call: impl FnOnce(&mut State) -> Result<T, TargetError>,
    ) -> Result<T, TargetError> {
        self.effect(name, |state| {
            if state.faults > 0 {
                state.faults -= 1;
                return Err(TargetError::fault(Reason::Unavailable, "the target is down"));
            }
            call(state)
        })
        .await
    }

    pub(super) fn value(&self, version: u64) -> String {
        self.with(|state| state.versions[usize::try_from(version).unwrap() - 1].clone())
    }

    /// The value that everybody is served works, and no other one does.
    pub(super) fn settled(&self) -> (String, BTreeSet<String>) {
        self.with(|state| {
            let current = state.labels.current.expect("something is served");
            let value = state.versions[usize::try_from(current).unwrap() - 1].clone();
            (value, state.accepted.clone())
        })
    }

    /// The same, when it may be that nothing was labelled yet.
    pub(super) fn settled_or(&self, unlabelled: &str) -> (String, BTreeSet<String>) {
        if self.with(|state| state.labels.current.is_some()) {
            self.settled()
        } else {
            (unlabelled.to_owned(), self.with(|state| state.accepted.clone()))
        }
    }

    pub(super) fn engine(self: &Arc<Self>, actor: &str, terms: Terms) -> Engine {
        let schedule = Schedule {
            every: Every::Months(1),
            window: None,
            zone: jiff::tz::TimeZone::UTC,
            spread: SignedDuration::ZERO,
        };
        let managed = Managed {
            category: "database".into(),
            tier: "monthly".into(),
            schedule,
            pair: None,
            terms,
            versions: Arc::clone(self) as Arc<dyn Versions>,
            rotator: Arc::clone(self) as Arc<dyn Rotator>,
            validators: vec![Arc::clone(self) as Arc<dyn Validator>],
            checks: Vec::new(),
        };
        let around = Surroundings {
            journal: Arc::clone(self) as Arc<dyn Journal>,
            readers: Arc::clone(self) as Arc<dyn Readers>,
            alerts: Arc::clone(self) as Arc<dyn Alerts>,
            records: Arc::clone(self) as Arc<dyn Records>,
            clock: Arc::new(TokioClock(Instant::now(), Timestamp::UNIX_EPOCH)),
        };
        let limits = Limits { claim: Duration::from_secs(30), step: Duration::from_mins(1) };
        Engine::new([(secret(), managed)].into(), around, limits, actor.to_owned(), 7)
    }
}

pub(super) fn secret() -> SecretName {
    "APP".parse().unwrap()
}

pub(super) fn terms(overlapping: bool) -> Terms {
    Terms {
        environments: vec!["staging".into(), "production".into()],
        canaries: vec!["green".into()],
        overlapping,
        held: false,
        soak: Duration::ZERO,
        overlap: Duration::from_mins(10),
        settle: Duration::from_secs(5),
        revoke: RevokeWhen::Acknowledged,
        approval: false,
        max_values: 3,
        max_attempts: 4,
        retry_min: Duration::from_secs(1),
        retry_max: Duration::from_secs(8),
    }
}

fn fields(value: &str) -> Fields {
    Fields::single(SecretValue::new(value))
}

fn text(fields: &Fields) -> String {
    String::from_utf8(fields.field("value").unwrap().expose().to_vec()).unwrap()
}

/// Wall time that follows the test's paused time.
struct TokioClock(Instant, Timestamp);

impl Clock for TokioClock {
    fn now(&self) -> Moment {
        Moment::at(self.0.elapsed())
    }

    fn wall(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.0.elapsed()).unwrap();
        self.1.checked_add(elapsed).unwrap()
    }
}

#[async_trait]
impl Rotator for World {
    fn kind(&self) -> &'static str {
        "fake"
    }

    fn is_overlapping(&self) -> bool {
        self.with(|state| state.overlapping)
    }

    async fn generate(&self, _: Option<&Fields>) -> Result<Generated, TargetError> {
        self.call("generate", |state| {
            if state.by_hand {
                return Ok(Generated::HandOver("make a webhook and supply its URL".into()));
            }
            state.made += 1;
            let value = format!("v{}", state.made + 1);
            Ok(Generated::Value { fields: fields(&value), facts: BTreeMap::new() })
        })
        .await
    }

    async fn inspect(&self, supplied: &Fields) -> Result<(), TargetError> {
        if text(supplied).starts_with('v') {
            Ok(())
        } else {
            Err(TargetError::refused("a value begins with v"))
        }
    }

    async fn apply(&self, change: &Change<'_>) -> Result<Evidence, TargetError> {
        let new = text(change.new);
        self.call("apply", |state| {
            if state.refuses > 0 {
                state.refuses -= 1;
                return Err(TargetError::refused("too weak"));
            }
            if !state.overlapping {
                state.accepted.clear();
            }
            state.accepted.insert(new.clone());
            Ok("applied".into())
        })
        .await
    }

    async fn prove(&self, value: &Fields) -> Result<Evidence, TargetError> {
        let value = text(value);
        self.call("prove", |state| {
            if state.accepted.contains(&value) {
                Ok("logged in".into())
            } else {
                Err(TargetError::refused("login refused"))
            }
        })
        .await
    }

    async fn revoke(
        &self,
        old: &Fields,
        _: Option<&Fields>,
        severity: Severity,
    ) -> Result<Revocation, TargetError> {
        let old = text(old);
        self.call("revoke", |state| {
            if state.revoke_faults > 0 {
                state.revoke_faults -= 1;
                return Err(TargetError::fault(Reason::Unavailable, "the target is down"));
            }
            if severity.part < state.parts && !severity.compromised {
                let evidence = format!("part {}", severity.part);
                return Ok(Revocation::Continue { evidence, wait: Duration::from_mins(1) });
            }
            if state.overlapping {
                state.accepted.remove(&old);
            }
            Ok(Revocation::Done("revoked".into()))
        })
        .await
    }

    fn breaks(&self) -> Cow<'static, str> {
        "logins fail until the new value is served".into()
    }
}

#[async_trait]
impl Validator for World {
    fn kind(&self) -> &'static str {
        "fake"
    }

    async fn validate(
        &self,
        value: &Fields,
        previous: Option<&Fields>,
    ) -> Result<Evidence, TargetError> {
        let previous = previous.map(text);
        assert_ne!(previous, Some(text(value)));
        self.call("validate", |state| {
            if state.broken { Err(TargetError::refused("no grants")) } else { Ok("used".into()) }
        })
        .await
    }
}

#[async_trait]
impl Versions for World {
    fn place(&self) -> &str {
        PLACE
    }

    async fn latest(&self) -> Result<u64, Fault> {
        Ok(self.effect("latest", |state| state.versions.len() as u64).await)
    }

    async fn read(&self, version: u64) -> Result<Arc<Fields>, Fault> {
        Ok(Arc::new(fields(&self.value(version))))
    }

    async fn append(&self, fields: &Fields, after: u64) -> Result<u64, Fault> {
        let value = text(fields);
        self.effect("append", |state| {
            if state.versions.len() as u64 != after {
                return Err(Fault::new(Reason::Conflict, "another version is the latest"));
            }
            state.versions.push(value);
            Ok(state.versions.len() as u64)
        })
        .await
    }

    async fn labels(&self) -> Result<Labels, Fault> {
        Ok(self.with(|state| state.labels.clone()))
    }

    async fn label(&self, labels: &Labels) -> Result<(), Fault> {
        self.effect("label", |state| {
            if state.labels.epoch > labels.epoch {
                return Err(Fault::new(Reason::Conflict, "an actor of a higher epoch moved them"));
            }
            state.labels = labels.clone();
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl Journal for World {
    async fn load(&self, secret: &SecretName) -> Result<(Book, Stamp), Fault> {
        Ok(self.with(|state| {
            let (book, stamp) = state.books.get(secret).cloned().unwrap_or_default();
            (book, Stamp(stamp))
        }))
    }

    async fn save(
        &self,
        secret: &SecretName,
        book: &Book,
        stamp: Stamp,
    ) -> Result<Stamp, SaveError> {
        // As a journal would: through its written form.
        let written = serde_json::to_string(book).unwrap();
        let book: Book = serde_json::from_str(&written).unwrap();
        self.effect("save", |state| {
            let held = state.books.entry(secret.clone()).or_default();
            if held.1 != stamp.0 {
                return Err(SaveError::Conflict);
            }
            *held = (book, stamp.0 + 1);
            Ok(Stamp(stamp.0 + 1))
        })
        .await
    }
}

#[async_trait]
impl Readers for World {
    fn gather(&self) {}

    fn announce(&self, _: &str, _: &RotationId, _: Option<Timestamp>) {
        self.with(|state| state.announced += 1);
    }

    fn adoption(&self, _: &str, _: u64) -> Adoption {
        self.with(|state| state.adoption)
    }

    async fn changed(&self) {
        self.told.notified().await;
    }
}

#[async_trait]
impl Alerts for World {
    async fn raise(&self, alert: &Alert) -> Result<(), Fault> {
        self.with(|state| state.alerts.push(alert.name.to_string()));
        Ok(())
    }
}

#[async_trait]
impl Records for World {
    async fn write(&self, rotation: &Rotation, _: &str) -> Result<Evidence, Fault> {
        let id = rotation.id.clone();
        self.effect("record", |state| state.records.push(id)).await;
        Ok("written".into())
    }
}
