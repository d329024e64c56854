//! What people look at: what is due, where things stand, and which credentials work.

use std::sync::Arc;

use jiff::Timestamp;

use super::{DriveError, Engine, Managed, RequestError};
use crate::{
    domain::{labels::Labels, rotation::schedule::Every, secret::SecretName},
    rotation::ports::{Book, Evidence, TargetError},
};

/// When a secret is due, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The secret.
    pub secret: SecretName,
    /// Its category.
    pub category: String,
    /// Its tier.
    pub tier: String,
    /// Its rotator.
    pub rotator: &'static str,
    /// When it is due; `None` for one that is rotated only when somebody asks for it.
    pub due: Option<Timestamp>,
    /// When it was last rotated by the operator.
    pub last: Option<Timestamp>,
    /// Why it is due then.
    pub reason: String,
}

/// Where a secret stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// What is written down of it.
    pub book: Book,
    /// Which version is served to whom.
    pub labels: Labels,
}

/// What one validator saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The validator.
    pub validator: &'static str,
    /// Whether the credential works.
    pub passed: bool,
    /// What was seen; never a value.
    pub evidence: Evidence,
    /// The version that was used.
    pub version: u64,
}

impl Engine {
    /// What is due, soonest first.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub async fn plan(&self) -> Result<Vec<Planned>, DriveError> {
        let mut all = Vec::with_capacity(self.catalogue.len());
        for (secret, managed) in &self.catalogue {
            let book = self.book(secret).await?;
            let now = self.now();
            let due = book.due.or_else(|| managed.schedule.next(now, 0.0));
            all.push(Planned {
                secret: secret.clone(),
                category: managed.category.clone(),
                tier: managed.tier.clone(),
                rotator: managed.rotator.kind(),
                due: due.map(|due| managed.schedule.opens(due.max(now))),
                last: book.past.first().and_then(|rotation| rotation.ended_at),
                reason: reason(managed, &book, now),
            });
        }
        all.sort_by_key(|planned| (planned.due.is_none(), planned.due));
        Ok(all)
    }

    /// Where a secret stands.
    ///
    /// # Errors
    /// When the journal or the store can't be read.
    pub async fn status(&self, secret: &SecretName) -> Result<Status, RequestError> {
        let managed = self.managed(secret)?;
        let book = self.book(secret).await?;
        Ok(Status { book, labels: managed.versions.labels().await? })
    }

    /// Uses the version that an environment is served, in every way that is known for it.
    ///
    /// # Errors
    /// When there is no such environment, or the store can't be read.
    pub async fn validate(
        &self,
        secret: &SecretName,
        environment: Option<&str>,
    ) -> Result<Vec<Verdict>, RequestError> {
        let managed = self.managed(secret)?;
        super::requests::known_environment(managed, environment)?;
        let labels = managed.versions.labels().await?;
        let last = managed.terms.environments.last().map(String::as_str);
        let version = match labels.served(environment.or(last), None) {
            Some(version) => version,
            None if labels.epoch == 0 => managed.versions.latest().await?,
            None => 0,
        };
        let verdict = |validator, seen: Result<Evidence, TargetError>| Verdict {
            validator,
            passed: seen.is_ok(),
            evidence: seen.unwrap_or_else(|error| error.to_string()),
            version,
        };
        if managed.terms.held {
            let seen = match managed.rotator.held().await {
                Ok(value) => managed.rotator.prove(&value).await,
                Err(error) => Err(error),
            };
            return Ok(vec![verdict(managed.rotator.kind(), seen)]);
        }
        let Some(value) = managed.value(version).await? else {
            let missing = TargetError::refused("there is no version");
            return Ok(vec![verdict(managed.rotator.kind(), Err(missing))]);
        };
        let previous = match labels.previous {
            Some(previous) if Some(version) == labels.current => managed.value(previous).await?,
            _ => None,
        };
        let mut all = vec![verdict(managed.rotator.kind(), managed.rotator.prove(&value).await)];
        for validator in &managed.validators {
            let validator = Arc::clone(validator);
            let seen = validator.validate(&value, previous.as_deref()).await;
            all.push(verdict(validator.kind(), seen));
        }
        Ok(all)
    }
}

fn reason(managed: &Managed, book: &Book, now: Timestamp) -> String {
    if let Some(open) = &book.open {
        return format!("rotation {} {}", open.id, open.standing);
    }
    let period = match managed.schedule.every {
        Every::Never => return "only when somebody asks for it".to_owned(),
        Every::Months(1) => "every month".to_owned(),
        Every::Months(months) => format!("every {months} months"),
        Every::Days(days) => format!("every {days} days"),
    };
    match book.due {
        Some(due) if due <= now => format!("{period}; overdue"),
        Some(_) if book.past.is_empty() => format!("{period}; never rotated by the operator"),
        Some(_) => format!("{period} after the last"),
        None => format!("{period}; seen for the first time"),
    }
}
