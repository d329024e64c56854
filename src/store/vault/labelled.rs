//! Key-value secrets whose labels say which version is served to whom.
//!
//! Invariants: a version that no label names is not served where there are labels at all; a read
//! costs one call more when the served version is not the latest one, and one more when the version
//! before is accepted and nobody holds it.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use reqwest::Method;

use super::{VaultOrigin, answer::Versioned};
use crate::{
    config::Deployment,
    domain::{
        fault::{Fault, Reason},
        labels::Reading,
        life::{Accepted, Issued, Lifetime, Predecessor},
        secret::{Fields, Version},
    },
};

use jiff::Timestamp;

/// Versions whose values are remembered: the served one and the one before.
const REMEMBERED: usize = 2;

/// The values that were given last, for as long as somebody else holds them.
#[derive(Default)]
pub(super) struct Given(Mutex<Vec<(u64, Weak<Fields>)>>);

impl Given {
    /// Notes a value, and returns it: as the one that is held already where it is the same.
    fn note(&self, version: u64, fields: Arc<Fields>) -> Arc<Fields> {
        let fields = self.find(version).filter(|held| *held == fields).unwrap_or(fields);
        let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        given.retain(|(known, fields)| *known != version && fields.strong_count() > 0);
        if given.len() >= REMEMBERED {
            given.remove(0);
        }
        given.push((version, Arc::downgrade(&fields)));
        fields
    }

    fn find(&self, version: u64) -> Option<Arc<Fields>> {
        let given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        given.iter().find(|(known, _)| *known == version).and_then(|(_, fields)| fields.upgrade())
    }
}

impl VaultOrigin {
    /// Reads the version that the labels name for a deployment.
    pub(super) async fn labelled(
        &self,
        path: &str,
        deployment: &Deployment,
    ) -> Result<Issued, Fault> {
        let asked = self.store.clock.wall();
        let latest = self.version(path, None).await?;
        if latest.labels.is_empty() {
            return self.give(latest, Predecessor::Untold);
        }
        let Deployment { environment, colour } = deployment;
        let reading = latest.labels.reading(environment.as_deref(), colour.as_deref(), asked);
        let Some(Reading { served, previous }) = reading else {
            return Err(Fault::new(
                Reason::NotFound,
                "the secret has labels, and none is for this environment: see `current` and `at.…` in its custom metadata",
            ));
        };
        // Before the served version is noted, which may take the place of this one.
        let held = previous.and_then(|(version, _)| self.given.find(version));
        let (served, other) = if served == latest.number {
            (latest, None)
        } else {
            (self.version(path, Some(served)).await?, Some(latest))
        };
        let predecessor = match (previous, held) {
            (None, _) => Predecessor::Withdrawn,
            (Some((version, until)), Some(fields)) => accepted(version, fields, until, asked),
            (Some((version, until)), None) => {
                let fields = match other.filter(|other| other.number == version) {
                    Some(other) => other.fields(&self.place),
                    None => {
                        self.version(path, Some(version)).await.and_then(|v| v.fields(&self.place))
                    }
                };
                match fields {
                    Ok(fields) => accepted(version, fields, until, asked),
                    Err(fault) => {
                        // The served version matters more, and does not wait for this one.
                        tracing::debug!(
                            version,
                            reason = fault.reason.name(),
                            "the version before can't be read"
                        );
                        Predecessor::Withdrawn
                    }
                }
            }
        };
        self.give(served, predecessor)
    }

    async fn version(&self, path: &str, version: Option<u64>) -> Result<Versioned, Fault> {
        let number = version.map(|version| version.to_string());
        let query = number.as_deref().map(|number| ("version", number));
        let read = self.store.read(path, Method::GET, query.as_slice()).await;
        let missing = |fault: Fault| match version {
            Some(version) if fault.reason == Reason::NotFound => {
                let detail = format!("version {version}, which a label names, does not exist");
                Fault::new(Reason::NotFound, detail)
            }
            _ => fault,
        };
        read.map_err(missing).and_then(|(envelope, _)| Versioned::read(envelope))
    }

    fn give(&self, served: Versioned, predecessor: Predecessor) -> Result<Issued, Fault> {
        let number = served.number;
        let fields = served.fields(&self.place)?;
        if let Predecessor::Accepted(before) = &predecessor
            && let Ok(version) = before.version.0.parse()
        {
            self.given.note(version, Arc::clone(&before.fields));
        }
        let fields = self.given.note(number, fields);
        Ok(Issued {
            fields,
            version: name(number),
            lifetime: Lifetime::Unbounded,
            max_left: None,
            predecessor,
        })
    }
}

fn accepted(
    version: u64,
    fields: Arc<Fields>,
    until: Option<Timestamp>,
    asked: Timestamp,
) -> Predecessor {
    let lasts = until.map(|until| until.duration_since(asked).try_into().unwrap_or_default());
    Predecessor::Accepted(Accepted { fields, version: name(version), lasts })
}

fn name(version: u64) -> Version {
    Version(version.to_string().into())
}
