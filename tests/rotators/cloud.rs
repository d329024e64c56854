//! What the tests of the rotators of services have in common.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use secret_broker::{
    config::operator::targets::aws::Aws,
    domain::{
        fault::{Fault, Reason},
        secret::{Fields, SecretValue},
    },
    rotation::{
        http::Http,
        ports::{Change, Generated, Login, Revocation, Rotator, Severity, TargetError},
    },
};

pub const ROUTINE: Severity = Severity { part: 0, compromised: false };
pub const LATER: Severity = Severity { part: 1, compromised: false };
pub const COMPROMISED: Severity = Severity { part: 0, compromised: true };
pub const SECOND: Duration = Duration::from_secs(1);

/// A login, or another source of fields.
pub struct Given(pub Vec<(&'static str, String)>);

#[async_trait]
impl Login for Given {
    async fn fields(&self) -> Result<Arc<Fields>, Fault> {
        let text =
            |(name, value): &(&str, String)| ((*name).to_owned(), SecretValue::new(value.as_str()));
        Ok(Arc::new(self.0.iter().map(text).collect()))
    }
}

pub fn given(fields: &[(&'static str, &str)]) -> Arc<dyn Login> {
    Arc::new(Given(fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()))
}

pub fn fields(all: &[(&str, &str)]) -> Fields {
    all.iter().map(|(name, value)| ((*name).to_owned(), SecretValue::new(*value))).collect()
}

pub fn text<'a>(value: &'a Fields, name: &str) -> &'a str {
    std::str::from_utf8(value.field(name).expect("a field").expose()).expect("text")
}

pub fn http() -> Http {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Http::new().expect("a client")
}

pub fn aws(endpoint: String) -> Aws {
    Aws {
        region: "us-east-1".to_owned(),
        endpoint: Some(endpoint),
        timeout: Duration::from_secs(10),
    }
}

/// A new value, and what is to be remembered of it.
pub async fn made(
    rotator: &dyn Rotator,
    current: Option<&Fields>,
) -> (Fields, BTreeMap<String, String>) {
    match rotator.generate(current).await.expect("a value") {
        Generated::Value { fields, facts } => (fields, facts),
        _ => panic!("a value of its own"),
    }
}

/// A new value that the target accepts; applying twice is as good as once.
pub async fn applied(rotator: &dyn Rotator, current: Option<&Fields>) -> Fields {
    let (new, facts) = made(rotator, current).await;
    for _ in 0..2 {
        rotator.apply(&Change { current, new: &new, facts: &facts }).await.expect("it is applied");
    }
    rotator.prove(&new).await.expect("it works");
    new
}

pub fn done(revocation: Result<Revocation, TargetError>) -> String {
    match revocation {
        Ok(Revocation::Done(evidence)) => evidence,
        other => panic!("{other:?}"),
    }
}

pub fn refused<T: Debug>(result: Result<T, TargetError>) -> String {
    match result {
        Err(TargetError::Refused(why)) => why.into_owned(),
        other => panic!("{other:?}"),
    }
}

pub fn fault<T: Debug>(result: Result<T, TargetError>) -> Reason {
    match result {
        Err(TargetError::Fault(fault)) => fault.reason,
        other => panic!("{other:?}"),
    }
}

/// An error without the value, which need not be shown.
pub fn no_value(result: Result<Generated, TargetError>) -> TargetError {
    match result {
        Err(error) => error,
        Ok(_) => panic!("no value is made"),
    }
}
