//! What every call passes: policy, then the value, then the audit record, then the reply.
//!
//! Invariants: nothing is looked up at its source for a caller that no grant lets in; nothing
//! leaves that was not recorded: a connection sends only after [`Edge::settle`].

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{sync::Semaphore, time::timeout};

use super::{errors::Refusal, listener::Caller, proto::ErrorReason, wire};
use crate::{
    audit::{Access, AuditError, AuditLog, Outcome, Position},
    broker::{
        Broker, Kept,
        snapshot::{Rendering, Shared},
    },
    config::Limits,
    domain::{
        policy::{Policy, Verb},
        secret::Generation,
    },
};

/// The longest name that is looked up or recorded; no secret has a longer one.
const NAME_BYTES: usize = 253;

/// The broker as callers meet it.
pub struct Edge {
    pub(super) broker: Arc<Broker>,
    pub(super) policy: ArcSwap<Policy>,
    pub(super) limits: Limits,
    audit: Arc<AuditLog>,
    waiting: Semaphore,
    pub(super) watches: Arc<Semaphore>,
}

impl Edge {
    /// An edge over a broker.
    pub fn new(broker: Arc<Broker>, policy: Policy, audit: Arc<AuditLog>, limits: Limits) -> Self {
        Self {
            broker,
            policy: ArcSwap::from_pointee(policy),
            waiting: Semaphore::new(limits.waiting_calls),
            watches: Arc::new(Semaphore::new(limits.watches)),
            audit,
            limits,
        }
    }

    /// Takes over new policies; open watches lose what they may not read any more.
    pub fn enforce(&self, policy: Policy) {
        self.policy.store(Arc::new(policy));
        self.broker.policies_changed();
    }

    /// Whether a caller may read the broker's own metrics.
    pub(super) fn may_observe(&self, caller: &Caller) -> bool {
        self.policy.load().allows_observing(&caller.identity)
    }

    /// The live secret for a caller that may do `verb` with it.
    pub(super) async fn authorised(
        &self,
        caller: &Caller,
        verb: Verb,
        name: &str,
    ) -> Result<Arc<Kept>, Refusal> {
        if let Some((name, category)) = self.broker.entry(name)
            && self.policy.load().allows(&caller.identity, verb, &name, &category)
            && let Some(kept) = self.broker.secret(name.as_str()).await
        {
            return Ok(kept);
        }
        let refusal = Refusal::denied();
        let name = name.get(..NAME_BYTES).unwrap_or(name);
        self.record(caller, verb, name, None, Outcome::Denied(refusal.name()))?;
        Err(refusal)
    }

    /// Reads one secret for a caller within `deadline`.
    pub(super) async fn get(
        &self,
        caller: &Caller,
        name: &str,
        deadline: Duration,
    ) -> Result<Arc<Rendering>, Refusal> {
        let kept = self.authorised(caller, Verb::Get, name).await?;
        let snapshot = match self.live(&kept, deadline).await {
            Ok(snapshot) => snapshot,
            Err(refusal) => {
                self.record(caller, Verb::Get, name, None, Outcome::Failed(refusal.name()))?;
                return Err(refusal);
            }
        };
        self.release(caller, Verb::Get, &kept, &snapshot)
    }

    /// Lets a value go to a caller: encodes it, records the access, and notes who has it.
    pub(super) fn release(
        &self,
        caller: &Caller,
        verb: Verb,
        kept: &Kept,
        snapshot: &Shared,
    ) -> Result<Arc<Rendering>, Refusal> {
        let now = kept.now();
        let held = snapshot.live(now);
        let (Some(rendering), Some(held)) = (wire::rendered(kept, snapshot, now), held) else {
            return Err(crate::broker::kept::unserved(snapshot).into());
        };
        let version = Some((&*held.version.0, held.generation));
        self.record(caller, verb, kept.name().as_str(), version, Outcome::Allowed)?;
        kept.delivered(&caller.identity, held.generation);
        Ok(rendering)
    }

    /// Records an access; if that fails, the access must not be given.
    pub(super) fn record(
        &self,
        caller: &Caller,
        verb: Verb,
        secret: &str,
        version: Option<(&str, Generation)>,
        outcome: Outcome,
    ) -> Result<(), Refusal> {
        // A list is of a category, not of a secret.
        let monitored = verb != Verb::List && self.broker.is_monitored(secret);
        if monitored {
            self.broker.observer().monitored(secret, &caller.identity);
        }
        let access = Access {
            caller: &caller.identity,
            verb,
            secret,
            version,
            #[cfg(feature = "operator")]
            about: None,
            #[cfg(feature = "operator")]
            why: None,
            outcome,
            monitored,
        };
        match self.audit.record(&access) {
            Ok(position) => {
                caller.recorded.fetch_max(position.0, Ordering::Relaxed);
                Ok(())
            }
            Err(_) => Err(Refusal::new(
                ErrorReason::AuditUnavailable,
                "the access could not be recorded, so it is not given",
            )),
        }
    }

    /// Has everything written that was recorded of a caller; without it nothing may be sent.
    pub(super) fn settle(&self, caller: &Caller) -> Result<(), AuditError> {
        self.audit.settle(Position(caller.recorded.load(Ordering::Relaxed)))
    }

    async fn live(&self, kept: &Arc<Kept>, deadline: Duration) -> Result<Shared, Refusal> {
        let snapshot = kept.snapshot();
        let observer = self.broker.observer();
        if snapshot.live(kept.now()).is_some() {
            observer.hit();
            if snapshot.view.stale_since.is_some() {
                observer.stale_served();
            }
            return Ok(snapshot);
        }
        observer.missed();
        if kept.is_awaited() {
            observer.joined();
        }
        let Ok(_waiting) = self.waiting.try_acquire() else {
            return Err(Refusal::limit("server.limits.waiting_calls"));
        };
        match timeout(deadline, kept.current()).await {
            Ok(current) => Ok(current?),
            Err(_) => Err(Refusal::deadline()),
        }
    }
}
