//! Watching secrets: the state at once, then each change.
//!
//! A watch holds no value: a notice says only that something changed, and the state is read when
//! the reader is ready for it. A slow reader therefore gets the latest and costs no memory.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

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
    queue: VecDeque<Pending>,
    /// The catalogue or the scope changed since all was enlisted.
    outdated: bool,
    /// Notices were lost since all was compared.
    behind: bool,
}

struct Watched {
    attendance: Attendance,
    sequence: u64,
    generation: Generation,
}

impl Watched {
    fn kept(&self) -> &Arc<Kept> {
        &self.attendance.0
    }
}

/// As long as one lives, the keeper of the secret goes on trying.
struct Attendance(Arc<Kept>);

impl Attendance {
    fn new(kept: Arc<Kept>) -> Self {
        kept.inbox.attend();
        Self(kept)
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        self.0.inbox.leave();
    }
}

/// What has to be told next. It holds no state: that is read when it is told.
enum Pending {
    Changed(SecretName, Change),
    Withdrawn(SecretName),
}

impl Watch {
    /// Starts a watch and returns the state of all it covers.
    pub(super) async fn start(
        broker: Arc<Broker>,
        scope: Box<dyn Scope>,
        notices: broadcast::Receiver<Notice>,
    ) -> (Self, Vec<(Arc<Kept>, Shared)>) {
        let watched = BTreeMap::new();
        let queue = VecDeque::new();
        let mut watch =
            Self { broker, scope, notices, watched, queue, outdated: false, behind: false };
        watch.enlist().await;
        watch.queue.clear();
        let mut states = Vec::with_capacity(watch.watched.len());
        for watched in watch.watched.values_mut() {
            let state = watched.kept().snapshot();
            (watched.sequence, watched.generation) = (state.sequence, state.generation());
            states.push((Arc::clone(watched.kept()), state));
        }
        (watch, states)
    }

    /// The next occurrence; `None` once the broker was stopped.
    ///
    /// Cancel safe: what was not returned is returned by the next call.
    pub async fn next(&mut self) -> Option<Occurrence> {
        loop {
            if self.broker.has_ended_watches() {
                return None;
            }
            if self.outdated {
                self.enlist().await;
                self.outdated = false;
            }
            if std::mem::take(&mut self.behind) {
                self.compare();
            }
            while let Some(pending) = self.queue.pop_front() {
                if let Some(occurrence) = self.tell(pending) {
                    return Some(occurrence);
                }
            }
            match self.notices.recv().await {
                Ok(Notice::Changed { kept, change, sequence }) => {
                    if let Some(occurrence) = self.advance(&kept, change, sequence) {
                        return Some(occurrence);
                    }
                }
                Ok(Notice::Withdrawn(kept)) => self.forget(&kept),
                Ok(Notice::Catalogue) => self.outdated = true,
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    self.broker.observer().watch_overrun();
                    (self.outdated, self.behind) = (true, true);
                }
                Ok(Notice::Stopped) | Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    fn tell(&mut self, pending: Pending) -> Option<Occurrence> {
        match pending {
            Pending::Withdrawn(name) => Some(Occurrence::Withdrawn(name)),
            Pending::Changed(name, change) => {
                let watched = self.watched.get_mut(&name)?;
                let state = watched.kept().snapshot();
                if state.sequence <= watched.sequence {
                    return None;
                }
                Some(watched.told(change, state))
            }
        }
    }

    fn advance(&mut self, kept: &Arc<Kept>, change: Change, sequence: u64) -> Option<Occurrence> {
        let watched = self.watched.get_mut(kept.name())?;
        if !Arc::ptr_eq(watched.kept(), kept) || sequence <= watched.sequence {
            return None;
        }
        let state = kept.snapshot();
        if state.announced > sequence {
            // A later notice is on its way, and the state is that one's.
            return None;
        }
        Some(watched.told(change, state))
    }

    /// Finds what changed by comparison, after notices were lost.
    fn compare(&mut self) {
        for (name, watched) in &self.watched {
            let state = watched.kept().snapshot();
            if state.announced > watched.sequence {
                let change = match state.view.state {
                    State::Absent | State::Expired | State::Revoked => Change::Revoked,
                    State::Stale => Change::Stale,
                    _ => Change::Renewed,
                };
                self.queue.push_back(Pending::Changed(name.clone(), change));
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
            self.queue.push_back(Pending::Withdrawn(name));
        }
        for (name, kept) in covered {
            let known =
                self.watched.get(&name).is_some_and(|watched| Arc::ptr_eq(watched.kept(), &kept));
            if !known {
                // With nothing seen, whatever is held is new.
                let attendance = Attendance::new(kept);
                let watched = Watched { attendance, sequence: 0, generation: Generation(0) };
                if watched.kept().snapshot().view.held.is_some() {
                    self.queue.push_back(Pending::Changed(name.clone(), Change::Rotated));
                }
                self.watched.insert(name, watched);
            }
        }
    }

    fn forget(&mut self, kept: &Arc<Kept>) {
        if self.watched.get(kept.name()).is_some_and(|watched| Arc::ptr_eq(watched.kept(), kept)) {
            self.watched.remove(kept.name());
            self.queue.push_back(Pending::Withdrawn(kept.name().clone()));
        }
    }
}

impl Watched {
    /// Notes that the watcher is told of this state.
    fn told(&mut self, change: Change, state: Shared) -> Occurrence {
        // The state may have moved on: a rotation must not hide behind a renewal.
        let change = if state.view.held.is_none() {
            Change::Revoked
        } else if state.generation() != self.generation {
            Change::Rotated
        } else {
            change
        };
        (self.sequence, self.generation) = (state.sequence, state.generation());
        Occurrence::Changed(Arc::clone(self.kept()), change, state)
    }
}
