//! Watching secrets: the state at once, then each change.
//!
//! A watch holds no value: a notice says only that something changed, and the state is read when
//! the reader is ready for it. A slow reader therefore gets the latest and costs no memory.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::broadcast;

use super::{kept::Kept, service::Broker, snapshot::Shared};
use crate::domain::{
    life::{Change, State},
    secret::{Generation, SecretName},
};

/// Notices that a watch may fall behind before it compares all it watches instead.
pub(super) const BACKLOG: usize = 256;

/// What keepers tell all watches.
#[derive(Clone)]
pub(super) enum Notice {
    Changed { kept: Arc<Kept>, change: Change, sequence: u64 },
    Withdrawn(Arc<Kept>),
    Catalogue,
    Stopped,
}

/// Which secrets a watch is for. It is asked anew whenever the configuration changes.
pub trait Scope: Send + Sync {
    /// Whether the watcher asked for the secret and may read it.
    fn covers(&self, name: &SecretName, category: &str) -> bool;
}

/// What happened to a watched secret.
pub enum Occurrence {
    /// It changed; this is its latest state.
    Changed(Arc<Kept>, Change, Shared),
    /// It was taken out of the catalogue, or out of what the watcher may read.
    Withdrawn(SecretName),
}

/// A watch on some secrets.
pub struct Watch {
    broker: Arc<Broker>,
    scope: Box<dyn Scope>,
    notices: broadcast::Receiver<Notice>,
    watched: BTreeMap<SecretName, Watched>,
    queue: Vec<Occurrence>,
}

struct Watched {
    kept: Arc<Kept>,
    sequence: u64,
    generation: Generation,
}

impl Watch {
    /// Starts a watch and returns the state of all it covers.
    pub(super) async fn start(
        broker: Arc<Broker>,
        scope: Box<dyn Scope>,
        notices: broadcast::Receiver<Notice>,
    ) -> (Self, Vec<(Arc<Kept>, Shared)>) {
        let mut watch =
            Self { broker, scope, notices, watched: BTreeMap::new(), queue: Vec::new() };
        watch.enlist().await;
        watch.queue.clear();
        let states = watch
            .watched
            .values()
            .map(|w| (Arc::clone(&w.kept), w.kept.snapshot()))
            .collect::<Vec<_>>();
        for (kept, state) in &states {
            if let Some(watched) = watch.watched.get_mut(kept.name()) {
                (watched.sequence, watched.generation) = (state.sequence, state.generation());
            }
        }
        (watch, states)
    }

    /// The next occurrence; `None` once the broker stops.
    ///
    /// Cancel safe: what was not returned is returned by the next call.
    pub async fn next(&mut self) -> Option<Occurrence> {
        loop {
            if let Some(occurrence) = self.queue.pop() {
                return Some(occurrence);
            }
            match self.notices.recv().await {
                Ok(Notice::Changed { kept, change, sequence }) => {
                    if let Some(occurrence) = self.advance(&kept, change, sequence) {
                        return Some(occurrence);
                    }
                }
                Ok(Notice::Withdrawn(kept)) => self.forget(&kept),
                Ok(Notice::Stopped) => return None,
                Ok(Notice::Catalogue) => self.enlist().await,
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    self.broker.observer().watch_overrun();
                    self.enlist().await;
                    self.compare();
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    fn advance(&mut self, kept: &Arc<Kept>, change: Change, sequence: u64) -> Option<Occurrence> {
        let watched = self.watched.get_mut(kept.name())?;
        if !Arc::ptr_eq(&watched.kept, kept) || sequence <= watched.sequence {
            return None;
        }
        let state = kept.snapshot();
        // The state may have moved on since the notice: a rotation must not hide behind a renewal.
        let change = if state.generation() != watched.generation && state.view.held.is_some() {
            Change::Rotated
        } else {
            change
        };
        (watched.sequence, watched.generation) = (state.sequence, state.generation());
        Some(Occurrence::Changed(Arc::clone(kept), change, state))
    }

    /// Finds what changed by comparison, after notices were lost.
    fn compare(&mut self) {
        for watched in self.watched.values_mut() {
            let state = watched.kept.snapshot();
            if state.sequence > watched.sequence {
                let change = match state.view.state {
                    State::Absent | State::Expired | State::Revoked => Change::Revoked,
                    _ if state.generation() != watched.generation => Change::Rotated,
                    State::Stale => Change::Stale,
                    _ => Change::Renewed,
                };
                (watched.sequence, watched.generation) = (state.sequence, state.generation());
                self.queue.push(Occurrence::Changed(Arc::clone(&watched.kept), change, state));
            }
        }
    }

    /// Brings what is watched in line with the catalogue and with what the watcher may read.
    async fn enlist(&mut self) {
        let covered = self.broker.covered(self.scope.as_ref()).await;
        let gone = self
            .watched
            .keys()
            .filter(|name| !covered.contains_key(*name))
            .cloned()
            .collect::<Vec<_>>();
        for name in gone {
            self.watched.remove(&name);
            self.queue.push(Occurrence::Withdrawn(name));
        }
        for (name, kept) in covered {
            let known =
                self.watched.get(&name).is_some_and(|watched| Arc::ptr_eq(&watched.kept, &kept));
            if !known {
                kept.want();
                let state = kept.snapshot();
                if state.view.held.is_some() {
                    self.queue.push(Occurrence::Changed(
                        Arc::clone(&kept),
                        Change::Rotated,
                        Arc::clone(&state),
                    ));
                }
                let watched =
                    Watched { kept, sequence: state.sequence, generation: state.generation() };
                self.watched.insert(name, watched);
            }
        }
    }

    fn forget(&mut self, kept: &Arc<Kept>) {
        if self.watched.get(kept.name()).is_some_and(|watched| Arc::ptr_eq(&watched.kept, kept)) {
            self.watched.remove(kept.name());
            self.queue.push(Occurrence::Withdrawn(kept.name().clone()));
        }
    }
}
