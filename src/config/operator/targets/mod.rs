//! What is rotated: the settings of each rotator, a file each, as people write them and as valid
//! types.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::{check::Check, mistake::Key};

pub mod api_key;
pub mod aws;
pub mod aws_iam;
pub mod aws_kms;
pub mod datadog;
pub mod endpoint;
pub mod exec;
pub mod form;
pub mod jwt;
pub mod manual;
pub mod postgres;
pub mod redis;
#[cfg(test)]
mod tests;
pub mod vault_database;

/// The rotator of a secret: exactly one.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rotate {
    /// A `PostgreSQL` user, or two that take turns.
    pub postgres: Option<postgres::Raw>,
    /// A Redis ACL user.
    pub redis: Option<redis::Raw>,
    /// A role or the root of Vault's database engine.
    pub vault_database: Option<vault_database::Raw>,
    /// A key that signs tokens.
    pub jwt: Option<jwt::Raw>,
    /// A generated key between systems.
    pub api_key: Option<api_key::Raw>,
    /// An AWS IAM user's access key pair.
    pub aws_iam: Option<aws_iam::Raw>,
    /// An AWS KMS key.
    pub aws_kms: Option<aws_kms::Raw>,
    /// A Datadog API key.
    pub datadog: Option<datadog::Raw>,
    /// A value that a person makes and hands over.
    pub manual: Option<manual::Raw>,
    /// A command of your own.
    pub exec: Option<exec::Raw>,
}

/// The rotator of a secret and its settings.
#[derive(Debug, PartialEq, Eq)]
pub enum Target {
    /// A `PostgreSQL` user, or two that take turns.
    Postgres(postgres::Postgres),
    /// A Redis ACL user.
    Redis(redis::Redis),
    /// A role or the root of Vault's database engine.
    VaultDatabase(vault_database::VaultDatabase),
    /// A key that signs tokens.
    Jwt(jwt::Jwt),
    /// A generated key between systems.
    ApiKey(api_key::ApiKey),
    /// An AWS IAM user's access key pair.
    AwsIam(aws_iam::AwsIam),
    /// An AWS KMS key.
    AwsKms(aws_kms::AwsKms),
    /// A Datadog API key.
    Datadog(datadog::Datadog),
    /// A value that a person makes and hands over.
    Manual(manual::Manual),
    /// A command of your own.
    Exec(exec::Exec),
}

/// Completes the one rotator that is there.
pub(super) fn check(check: &mut Check<'_>, key: &Key, rotate: Rotate) -> Option<Target> {
    let Rotate {
        postgres,
        redis,
        vault_database,
        jwt,
        api_key,
        aws_iam,
        aws_kms,
        datadog,
        manual,
        exec,
    } = rotate;
    let at = |kind: &str| key.name(kind);
    let mut all = Vec::new();
    if let Some(raw) = postgres {
        all.push(postgres::check(check, &at("postgres"), raw).map(Target::Postgres));
    }
    if let Some(raw) = redis {
        all.push(redis::check(check, &at("redis"), raw).map(Target::Redis));
    }
    if let Some(raw) = vault_database {
        let checked = vault_database::check(check, &at("vault_database"), raw);
        all.push(checked.map(Target::VaultDatabase));
    }
    if let Some(raw) = jwt {
        all.push(jwt::check(check, &at("jwt"), raw).map(Target::Jwt));
    }
    if let Some(raw) = api_key {
        all.push(api_key::check(check, &at("api_key"), raw).map(Target::ApiKey));
    }
    if let Some(raw) = aws_iam {
        all.push(aws_iam::check(check, &at("aws_iam"), raw).map(Target::AwsIam));
    }
    if let Some(raw) = aws_kms {
        all.push(aws_kms::check(check, &at("aws_kms"), raw).map(Target::AwsKms));
    }
    if let Some(raw) = datadog {
        all.push(datadog::check(check, &at("datadog"), raw).map(Target::Datadog));
    }
    if let Some(raw) = manual {
        all.push(manual::check(check, &at("manual"), raw).map(Target::Manual));
    }
    if let Some(raw) = exec {
        all.push(exec::check(check, &at("exec"), raw).map(Target::Exec));
    }
    if all.len() != 1 {
        let found = if all.is_empty() { "missing" } else { "several rotators" };
        check.wrong(key.clone(), found, "expected exactly one rotator, such as `rotate.jwt`");
        return None;
    }
    all.pop()?
}
