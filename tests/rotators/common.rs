//! What the tests of every rotator do with one.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use rcgen::{CertifiedKey, KeyPair};
use secret_broker::{
    config::operator::targets::endpoint::{Endpoint, HostPort, Tls},
    domain::{
        fault::Fault,
        secret::{Fields, SecretValue},
    },
    rotation::ports::{Change, Generated, Login, Revocation, Rotator, Severity, TargetError},
};

pub const ROUTINE: Severity = Severity { part: 0, compromised: false };
pub const COMPROMISED: Severity = Severity { part: 0, compromised: true };

/// The operator's login.
pub struct Given(pub &'static str, pub String);

#[async_trait]
impl Login for Given {
    async fn fields(&self) -> Result<Arc<Fields>, Fault> {
        Ok(Arc::new(login(self.0, &self.1)))
    }
}

pub fn login(user: &str, password: &str) -> Fields {
    [("username", user), ("password", password)]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), SecretValue::new(value)))
        .collect()
}

pub fn text<'a>(fields: &'a Fields, name: &str) -> &'a str {
    std::str::from_utf8(fields.field(name).expect("a field").expose()).expect("text")
}

pub async fn generate(rotator: &dyn Rotator, current: Option<&Fields>) -> Fields {
    match rotator.generate(current).await.expect("a value") {
        Generated::Value { fields, .. } => fields,
        _ => panic!("a value of its own"),
    }
}

pub async fn apply(
    rotator: &dyn Rotator,
    current: Option<&Fields>,
    new: &Fields,
) -> Result<String, TargetError> {
    let facts = BTreeMap::new();
    rotator.apply(&Change { current, new, facts: &facts }).await
}

/// A new value that is in force.
pub async fn turned(rotator: &dyn Rotator, current: Option<&Fields>) -> Fields {
    let new = generate(rotator, current).await;
    apply(rotator, current, &new).await.expect("it is applied");
    new
}

pub fn done(revocation: Revocation) -> String {
    match revocation {
        Revocation::Done(evidence) => evidence,
        Revocation::Continue { .. } => panic!("it is done in one part"),
    }
}

pub fn refused(result: Result<String, TargetError>) -> String {
    match result {
        Err(TargetError::Refused(why)) => why.into_owned(),
        other => panic!("{other:?}"),
    }
}

pub fn fault<T: Debug>(result: Result<T, TargetError>) -> Fault {
    match result {
        Err(TargetError::Fault(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

pub fn here(port: u16) -> HostPort {
    HostPort { host: "127.0.0.1".to_owned(), port }
}

/// A server on this machine without TLS.
pub fn endpoint(port: u16) -> Endpoint {
    Endpoint {
        address: here(port),
        replicas: Vec::new(),
        tls: Tls::Disable,
        timeout: Duration::from_secs(10),
        replication_timeout: Duration::from_secs(20),
    }
}

/// A certificate for `db.shop` that is its own authority, and the authority's file.
pub fn authority(directory: &Path, name: &str) -> (CertifiedKey<KeyPair>, Option<PathBuf>) {
    let made =
        rcgen::generate_simple_self_signed(vec!["db.shop".to_owned()]).expect("a certificate");
    let path = directory.join(name);
    std::fs::write(&path, made.cert.pem()).expect("a file");
    (made, Some(path))
}
