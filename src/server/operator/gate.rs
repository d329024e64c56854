//! What every call passes: the policy, and the record.

use super::{Caller, Operator, errors::OperatorError};
use crate::{
    audit::{Access, Outcome},
    domain::{policy::Verb, secret::SecretName},
    rotation::engine::Managed,
};

/// The most characters of a reason.
const REASON_CHARS: usize = 1024;

/// The record of one call, written when it ends, also when it is dropped before.
pub(super) struct Record<'a> {
    operator: &'a Operator,
    caller: &'a Caller,
    verb: Verb,
    secret: String,
    /// The rotation or access that the call came to be about.
    pub(super) about: String,
    why: String,
    is_open: bool,
}

impl<'a> Record<'a> {
    /// Begins a record.
    ///
    /// # Errors
    /// When earlier ones could not be written: nothing may be done then.
    pub(super) fn begin(
        operator: &'a Operator,
        caller: &'a Caller,
        verb: Verb,
        secret: &str,
        why: &str,
    ) -> Result<Self, OperatorError> {
        operator.audit.flush().map_err(|_| OperatorError::unrecorded())?;
        let record = Self {
            operator,
            caller,
            verb,
            secret: shortened(secret),
            about: String::new(),
            why: why.to_owned(),
            is_open: true,
        };
        let chars = why.chars().count();
        if chars > REASON_CHARS {
            let accepted = format!("a reason has at most {REASON_CHARS} characters");
            return record.end(Err(OperatorError::invalid(accepted)));
        }
        Ok(record)
    }

    /// Ends the call with its result, which may only be given once this succeeded.
    pub(super) fn end<T>(mut self, result: Result<T, OperatorError>) -> Result<T, OperatorError> {
        self.is_open = false;
        let outcome = match &result {
            Ok(_) => Outcome::Allowed,
            Err(error) if error.is_denied() => Outcome::Denied(error.name()),
            Err(error) => Outcome::Failed(error.name()),
        };
        self.write(outcome)?;
        result
    }

    /// Ends the call with what the caller reported.
    pub(super) fn reported(mut self, report: &'static str) -> Result<(), OperatorError> {
        self.is_open = false;
        self.write(Outcome::Reported(report))
    }

    fn write(&self, outcome: Outcome) -> Result<(), OperatorError> {
        let access = Access {
            caller: &self.caller.identity,
            verb: self.verb,
            secret: &self.secret,
            version: None,
            about: Some(&self.about),
            why: Some(&self.why),
            outcome,
            monitored: false,
        };
        let audit = &self.operator.audit;
        let written = audit.record(&access).and_then(|position| audit.settle(position));
        written.map_err(|_| OperatorError::unrecorded())
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        if self.is_open && self.write(Outcome::Failed("CANCELLED")).is_err() {
            tracing::error!(caller = %self.caller.identity, "a dropped call is not recorded");
        }
    }
}

impl Operator {
    /// The secret of this name, if there is one that a caller may do this with.
    pub(super) fn secret(
        &self,
        caller: &Caller,
        verb: Verb,
        name: &str,
    ) -> Result<(&SecretName, &Managed), OperatorError> {
        let entry = self.engine.catalogue().get_key_value(name);
        entry
            .filter(|(name, managed)| self.allows(caller, verb, name, managed))
            .ok_or_else(OperatorError::denied)
    }

    /// All secrets that a caller may do this with.
    pub(super) fn secrets(
        &self,
        caller: &Caller,
        verb: Verb,
    ) -> impl Iterator<Item = (&SecretName, &Managed)> {
        let entries = self.engine.catalogue().iter();
        entries.filter(move |(name, managed)| self.allows(caller, verb, name, managed))
    }

    /// Those of these names that a caller may do this with; all such ones when none are named.
    pub(super) fn named<'a>(
        &'a self,
        caller: &Caller,
        verb: Verb,
        names: &[String],
    ) -> Result<Vec<(&'a SecretName, &'a Managed)>, OperatorError> {
        if names.len() > self.limits.names {
            let accepted = format!("a request names at most {} secrets", self.limits.names);
            return Err(OperatorError::invalid(accepted));
        }
        if names.is_empty() {
            return Ok(self.secrets(caller, verb).collect());
        }
        let mut chosen = names
            .iter()
            .map(|name| self.secret(caller, verb, name))
            .collect::<Result<Vec<_>, _>>()?;
        chosen.sort_unstable_by_key(|(name, _)| *name);
        chosen.dedup_by_key(|(name, _)| *name);
        Ok(chosen)
    }

    /// Whether a caller may read the operator's own metrics.
    pub(super) fn may_observe(&self, caller: &Caller) -> bool {
        self.policy.load().allows_observing(&caller.identity)
    }

    fn allows(&self, caller: &Caller, verb: Verb, name: &SecretName, managed: &Managed) -> bool {
        self.policy.load().allows(&caller.identity, verb, name, &managed.category)
    }
}

/// The longest text of names that is recorded, in bytes.
const NAMES_BYTES: usize = 1024;

fn shortened(text: &str) -> String {
    text.get(..text.floor_char_boundary(NAMES_BYTES)).unwrap_or(text).to_owned()
}
