//! Watch streams: what a watch tells, recorded and encoded for one caller.
//!
//! The stream is pulled by the connection as the reader takes messages, so nothing is queued for
//! a slow one.

use std::{collections::BTreeMap, pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt, stream};
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;

use super::{
    calls::Calls,
    edge::Edge,
    errors::Refusal,
    listener::Caller,
    proto::{ErrorReason, WatchEventType, WatchSecretsResponse},
    wire::EncodedSecret,
};
use crate::{
    broker::{
        Kept,
        observe::{Lasting, Lasts},
        snapshot::Shared,
        watch::{Occurrence, Scope, Watch},
    },
    domain::{
        life::{Change, State},
        policy::Verb,
        secret::{Generation, SecretName},
    },
};

/// The messages of a watch stream.
pub(super) type Updates = Pin<Box<dyn Stream<Item = Result<WatchSecretsResponse, Status>> + Send>>;

/// A watch of one caller.
pub(super) struct Watching {
    calls: Calls,
    watch: Watch,
    first: Option<WatchSecretsResponse>,
    _place: OwnedSemaphorePermit,
    _lasts: Lasts,
}

/// Covers what the caller named, or everything, as far as it may watch it.
struct CallerScope {
    edge: Arc<Edge>,
    caller: Arc<Caller>,
    names: Vec<String>,
}

impl Scope for CallerScope {
    fn covers(&self, name: &SecretName, category: &str) -> bool {
        let named = self.names.is_empty() || self.names.iter().any(|n| n == name.as_str());
        named && self.edge.policy.load().allows(&self.caller.identity, Verb::Watch, name, category)
    }
}

impl Watching {
    /// Starts a watch; its snapshot is ready when this returns.
    pub(super) async fn start(
        calls: Calls,
        names: Vec<String>,
        seen: &BTreeMap<String, Generation>,
        place: OwnedSemaphorePermit,
    ) -> Result<Self, Refusal> {
        let Calls { edge, caller } = calls.clone();
        let scope = CallerScope { edge, caller, names };
        let (watch, states) = calls.edge.broker.watch(Box::new(scope)).await;
        let mut first = WatchSecretsResponse::default();
        first.set_type(WatchEventType::Snapshot);
        for (kept, state) in &states {
            let name = kept.name().as_str();
            if seen.get(name).is_some_and(|seen| *seen == state.generation() && seen.0 != 0) {
                kept.delivered(&calls.caller.identity, state.generation());
                first.unchanged.push(name.to_owned());
                continue;
            }
            match calls.edge.release(&calls.caller, Verb::Watch, kept, state) {
                Ok(rendering) => first.secrets.push(EncodedSecret(rendering.secret.clone())),
                Err(refusal) if refusal.reason == ErrorReason::AuditUnavailable => {
                    return Err(refusal);
                }
                Err(refusal) => first.unavailable.push(refusal.into_result(name.to_owned())),
            }
        }
        let lasts = Lasts::begin(Arc::clone(calls.edge.broker.observer()), Lasting::Watch);
        Ok(Self { calls, watch, first: Some(first), _place: place, _lasts: lasts })
    }

    /// The stream of messages; ends when the broker stops.
    pub(super) fn into_updates(self) -> Updates {
        stream::unfold(self, |mut watching| async move {
            let update = watching.next().await?;
            Some((update, watching))
        })
        .boxed()
    }

    async fn next(&mut self) -> Option<Result<WatchSecretsResponse, Status>> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        loop {
            let update = match self.watch.next().await? {
                Occurrence::Withdrawn(name) => Ok(withdrawn(&name)),
                Occurrence::Changed(kept, change, state) => {
                    match self.update(&kept, change, &state) {
                        Ok(Some(update)) => Ok(update),
                        Ok(None) => continue,
                        Err(refusal) => Err(refusal.into()),
                    }
                }
            };
            return Some(update);
        }
    }

    /// The message for a change; `None` when the value ended meanwhile, which is told next.
    fn update(
        &self,
        kept: &Kept,
        change: Change,
        state: &Shared,
    ) -> Result<Option<WatchSecretsResponse>, Refusal> {
        let mut update =
            WatchSecretsResponse { name: kept.name().as_str().to_owned(), ..Default::default() };
        update.set_type(event_type(change));
        if change == Change::Revoked {
            let expired = state.view.state == State::Expired;
            update.set_reason(if expired { ErrorReason::Expired } else { ErrorReason::Revoked });
            return Ok(Some(update));
        }
        if state.live(kept.now()).is_none() {
            return Ok(None);
        }
        let rendering = self.calls.edge.release(&self.calls.caller, Verb::Watch, kept, state)?;
        self.calls.edge.broker.observer().delivered(state.age(kept.now()));
        update.secrets.push(EncodedSecret(rendering.secret.clone()));
        Ok(Some(update))
    }
}

fn withdrawn(name: &SecretName) -> WatchSecretsResponse {
    let mut update = WatchSecretsResponse { name: name.as_str().to_owned(), ..Default::default() };
    update.set_type(WatchEventType::Revoked);
    update.set_reason(ErrorReason::Withdrawn);
    update
}

const fn event_type(change: Change) -> WatchEventType {
    match change {
        Change::Rotated => WatchEventType::Rotated,
        Change::Renewed => WatchEventType::Renewed,
        Change::Expiring => WatchEventType::Expiring,
        Change::Stale => WatchEventType::Stale,
        Change::Recovered => WatchEventType::Recovered,
        Change::Revoked => WatchEventType::Revoked,
    }
}
