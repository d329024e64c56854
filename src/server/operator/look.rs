//! What people look at: plans, states, histories, and whether credentials work.

use futures_util::{StreamExt, stream};
use jiff::Timestamp;

use super::{Caller, Operator, errors::OperatorError, gate::Record, proto, summary};
use crate::{
    domain::{policy::Verb, secret::SecretName},
    rotation::engine::{Managed, Planned, Status},
    server::wire::timestamp,
};

/// Secrets that are looked at, or credentials that are used, at once.
const AT_ONCE: usize = 8;

impl Operator {
    /// Says what is due, when and why.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub async fn plan(
        &self,
        caller: &Caller,
        request: proto::PlanRequest,
    ) -> Result<proto::PlanResponse, OperatorError> {
        let record = Record::begin(self, caller, Verb::View, "", "")?;
        record.end(self.planned(caller, request).await)
    }

    async fn planned(
        &self,
        caller: &Caller,
        request: proto::PlanRequest,
    ) -> Result<proto::PlanResponse, OperatorError> {
        let before = request.before.map(summary::time).transpose()?;
        if self.secrets(caller, Verb::View).next().is_none() {
            return Err(OperatorError::denied());
        }
        let in_time = |due: Option<Timestamp>| before.is_none_or(|b| due.is_some_and(|d| d < b));
        let planned = self.engine.plan().await?;
        let rotations = planned
            .into_iter()
            .filter(|planned| in_time(planned.due))
            .filter(|p| self.secret(caller, Verb::View, p.secret.as_str()).is_ok())
            .map(entry)
            .collect();
        Ok(proto::PlanResponse { rotations })
    }

    /// Says where rotations stand.
    ///
    /// # Errors
    /// When a named secret is not the caller's to see, or the journal can't be read.
    pub async fn status(
        &self,
        caller: &Caller,
        request: proto::StatusRequest,
    ) -> Result<proto::StatusResponse, OperatorError> {
        let record = Record::begin(self, caller, Verb::View, &request.names.join(" "), "")?;
        record.end(self.states(caller, &request.names).await)
    }

    async fn states(
        &self,
        caller: &Caller,
        names: &[String],
    ) -> Result<proto::StatusResponse, OperatorError> {
        let mut looks = Vec::new();
        for (name, managed) in self.named(caller, Verb::View, names)? {
            looks.push(self.state(name, managed));
        }
        let mut looks = stream::iter(looks).buffered(AT_ONCE);
        let mut secrets = Vec::new();
        while let Some(secret) = looks.next().await {
            secrets.push(secret?);
        }
        Ok(proto::StatusResponse { secrets })
    }

    async fn state(
        &self,
        name: &SecretName,
        managed: &Managed,
    ) -> Result<proto::SecretStatus, OperatorError> {
        let mut state =
            proto::SecretStatus { name: name.as_str().to_owned(), ..Default::default() };
        let book = match self.engine.status(name).await {
            Ok(Status { book, labels }) => {
                let now = self.now();
                state.current_version = labels.current.unwrap_or_default();
                let is_accepted = labels.previous_until.is_none_or(|until| until > now);
                let previous = labels.previous.filter(|_| is_accepted);
                state.previous_version = previous.unwrap_or_default();
                book
            }
            Err(error) => {
                state.trouble = error.to_string();
                self.engine.book(name).await?
            }
        };
        let place = managed.versions.place();
        let readers = &self.engine.surroundings().readers;
        let adoption = readers.adoption(place, state.current_version);
        (state.sidecars, state.adopted) = (adoption.sidecars, adoption.adopted);
        state.due = book.due.map(timestamp);
        state.open = book.open.as_ref().map(|open| summary::rotation(open, self.now()));
        Ok(state)
    }

    /// Lists the rotations of a secret that ended, newest first.
    ///
    /// # Errors
    /// When the secret is not the caller's to see, or the journal can't be read.
    pub async fn history(
        &self,
        caller: &Caller,
        request: proto::HistoryRequest,
    ) -> Result<proto::HistoryResponse, OperatorError> {
        let record = Record::begin(self, caller, Verb::View, &request.name, "")?;
        let past = async {
            let (name, _) = self.secret(caller, Verb::View, &request.name)?;
            let (book, now) = (self.engine.book(name).await?, self.now());
            let rotations = book.past.iter().map(|past| summary::rotation(past, now)).collect();
            Ok(proto::HistoryResponse { rotations })
        };
        record.end(past.await)
    }

    /// Uses the current credentials and says which work.
    ///
    /// # Errors
    /// When a named secret is not the caller's to use, or there is no such environment.
    pub async fn validate(
        &self,
        caller: &Caller,
        request: proto::ValidateRequest,
    ) -> Result<proto::ValidateResponse, OperatorError> {
        let record = Record::begin(self, caller, Verb::Validate, &request.names.join(" "), "")?;
        record.end(self.validated(caller, request).await)
    }

    async fn validated(
        &self,
        caller: &Caller,
        request: proto::ValidateRequest,
    ) -> Result<proto::ValidateResponse, OperatorError> {
        let proto::ValidateRequest { environment, names } = request;
        let environment = Some(environment).filter(|environment| !environment.is_empty());
        let has_it = |managed: &Managed| {
            environment.as_ref().is_none_or(|it| managed.terms.environments.contains(it))
        };
        let mut chosen = self.named(caller, Verb::Validate, &names)?;
        if names.is_empty() {
            chosen.retain(|(_, managed)| has_it(managed));
        }
        if chosen.is_empty() {
            return Err(OperatorError::denied());
        }
        if !chosen.iter().all(|(_, managed)| has_it(managed)) {
            return Err(OperatorError::invalid("a named secret has no such environment"));
        }
        let mut uses = Vec::new();
        for (name, managed) in chosen {
            uses.push(self.used(name, managed, environment.as_deref()));
        }
        let results = stream::iter(uses).buffered(AT_ONCE).collect::<Vec<_>>().await;
        Ok(proto::ValidateResponse { results: results.into_iter().flatten().collect() })
    }

    /// A secret that can't be read is one whose validation failed.
    async fn used(
        &self,
        name: &SecretName,
        managed: &Managed,
        environment: Option<&str>,
    ) -> Vec<proto::ValidationResult> {
        let name_text = || name.as_str().to_owned();
        match self.engine.validate(name, environment).await {
            Ok(verdicts) => verdicts
                .into_iter()
                .map(|verdict| proto::ValidationResult {
                    name: name_text(),
                    validator: verdict.validator.to_owned(),
                    passed: verdict.passed,
                    evidence: verdict.evidence,
                    version: verdict.version,
                })
                .collect(),
            Err(error) => vec![proto::ValidationResult {
                name: name_text(),
                validator: managed.rotator.kind().to_owned(),
                passed: false,
                evidence: error.to_string(),
                version: 0,
            }],
        }
    }
}

fn entry(planned: Planned) -> proto::PlannedRotation {
    proto::PlannedRotation {
        name: planned.secret.into(),
        category: planned.category,
        tier: planned.tier,
        rotator: planned.rotator.to_owned(),
        due: planned.due.map(timestamp),
        last: planned.last.map(timestamp),
        reason: planned.reason,
    }
}
