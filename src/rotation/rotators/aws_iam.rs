//! Access key pairs of an IAM user: create, test, switch, deactivate, wait, delete.
//!
//! A user has at most two keys, so whatever a call left behind that was cut off is removed before
//! a new one is made. A key that is, or may be, in use by somebody is never removed for that.

use std::{borrow::Cow, sync::Arc};

use async_trait::async_trait;
use aws_sdk_iam::{
    Client,
    types::{AccessKeyMetadata, StatusType},
};
use jiff::Timestamp;
use serde_json::json;

use crate::{
    config::operator::targets::aws_iam::AwsIam as Settings,
    domain::{
        fault::{Fault, Reason},
        secret::{Fields, SecretValue},
    },
    rotation::{
        aws::{Aws, KEY_ID, SECRET_KEY, fault},
        patience,
        ports::{Change, Evidence, Generated, Login, Revocation, Rotator, Severity, TargetError},
    },
};

/// The keys that IAM allows a user.
const MOST_KEYS: usize = 2;
/// The inline policy that ends the sessions of a compromised key.
const DENY_POLICY: &str = "secret-broker-deny-older-sessions";

/// Access key pairs of an IAM user.
pub struct AwsIam {
    settings: Settings,
    aws: Aws,
    login: Arc<dyn Login>,
}

impl AwsIam {
    /// By these settings, with the operator's `login`.
    pub fn new(settings: Settings, login: Arc<dyn Login>) -> Self {
        let aws = Aws::new(settings.aws.clone());
        Self { settings, aws, login }
    }

    async fn client(&self) -> Result<Client, Fault> {
        Ok(Client::new(&self.aws.login(&self.login).await?))
    }

    async fn keys(&self, iam: &Client) -> Result<Vec<AccessKeyMetadata>, Fault> {
        let answer = iam.list_access_keys().user_name(&self.settings.user).send().await;
        let answer = answer.map_err(|error| fault("listing the user's access keys", &error))?;
        Ok(answer.access_key_metadata().to_vec())
    }

    /// Removes what earlier calls left, so that one more key can be made.
    async fn make_room(&self, iam: &Client, current: Option<&str>) -> Result<(), TargetError> {
        let keys = self.keys(iam).await?;
        let mut in_use = keys.len();
        for key in keys.iter().filter(|key| key.access_key_id() != current) {
            let id = key.access_key_id().unwrap_or_default();
            if self.settings.exclusive || self.was_never_used(iam, id).await? {
                self.delete(iam, id).await?;
                in_use -= 1;
            }
        }
        if in_use < MOST_KEYS {
            return Ok(());
        }
        Err(TargetError::fault(
            Reason::Invalid,
            format!(
                "the user {} has {in_use} access keys in use, and IAM allows no further one: \
                 delete the one that this secret does not hold",
                self.settings.user
            ),
        ))
    }

    /// Nobody can have a key that was lost before it was stored.
    async fn was_never_used(&self, iam: &Client, id: &str) -> Result<bool, Fault> {
        let answer = iam.get_access_key_last_used().access_key_id(id).send().await;
        let answer = answer.map_err(|error| fault("asking when a key was used last", &error))?;
        Ok(answer.access_key_last_used().is_none_or(|used| used.last_used_date().is_none()))
    }

    async fn delete(&self, iam: &Client, id: &str) -> Result<(), Fault> {
        let user = &self.settings.user;
        let deleted = iam.delete_access_key().user_name(user).access_key_id(id).send().await;
        found(deleted.map_err(|error| fault("deleting an access key", &error))).map(drop)
    }

    async fn deactivate(&self, iam: &Client, id: &str) -> Result<bool, Fault> {
        let call = iam.update_access_key().user_name(&self.settings.user).access_key_id(id);
        let done = call.status(StatusType::Inactive).send().await;
        let done = found(done.map_err(|error| fault("deactivating an access key", &error)))?;
        Ok(done.is_some())
    }

    /// Ends what was opened with the user's keys so far.
    async fn deny_older_sessions(&self, iam: &Client) -> Result<(), Fault> {
        let condition = json!({ "DateLessThan": { "aws:TokenIssueTime": now() } });
        let policy = json!({
            "Version": "2012-10-17",
            "Statement": [
                { "Effect": "Deny", "Action": "*", "Resource": "*", "Condition": condition },
            ],
        });
        let call = iam.put_user_policy().user_name(&self.settings.user).policy_name(DENY_POLICY);
        let done = call.policy_document(policy.to_string()).send().await;
        done.map(drop).map_err(|error| fault("denying the user's older sessions", &error))
    }

    async fn make(&self, current: Option<&Fields>) -> Result<Generated, TargetError> {
        let iam = self.client().await?;
        let current = current.map(key_id).transpose()?;
        self.make_room(&iam, current).await?;
        let made = iam.create_access_key().user_name(&self.settings.user).send().await;
        let made = made.map_err(|error| fault("making an access key", &error))?;
        let key = made.access_key.ok_or_else(|| {
            TargetError::fault(Reason::Invalid, "making an access key: AWS answered without one")
        })?;
        let facts = [("access_key_id".to_owned(), key.access_key_id.clone())].into();
        let fields = [
            (KEY_ID.to_owned(), SecretValue::new(key.access_key_id)),
            (SECRET_KEY.to_owned(), SecretValue::new(key.secret_access_key)),
        ];
        Ok(Generated::Value { fields: fields.into_iter().collect(), facts })
    }

    async fn accepted(&self, pair: &Fields) -> Result<Evidence, TargetError> {
        let user = self.settings.user.as_str();
        patience::until(self.settings.patience, || self.aws.identify(pair, Some(user))).await
    }
}

/// What is gone already was done.
fn found<T>(result: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(fault) if fault.reason == Reason::NotFound => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// The time as policies write it. A later one denies more, so that calling twice does no harm.
fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn key_id(pair: &Fields) -> Result<&str, TargetError> {
    pair.field(KEY_ID)
        .and_then(|id| std::str::from_utf8(id.expose()).ok())
        .filter(|id| !id.is_empty())
        .ok_or_else(|| TargetError::refused(format!("the value has no field `{KEY_ID}`")))
}

/// Whether `old` was made after `kept`: it is taken back before anybody relied on it.
fn is_newer(keys: &[AccessKeyMetadata], old: &str, kept: &str) -> bool {
    let made = |id: &str| {
        keys.iter().find(|key| key.access_key_id() == Some(id)).and_then(|key| key.create_date())
    };
    matches!((made(old), made(kept)), (Some(old), Some(kept)) if old > kept)
}

#[async_trait]
impl Rotator for AwsIam {
    fn kind(&self) -> &'static str {
        "aws_iam"
    }

    async fn generate(&self, current: Option<&Fields>) -> Result<Generated, TargetError> {
        self.make(current).await
    }

    /// IAM accepts a key from its making on; this waits until it does so everywhere.
    async fn apply(&self, change: &Change<'_>) -> Result<Evidence, TargetError> {
        self.accepted(change.new).await
    }

    async fn prove(&self, value: &Fields) -> Result<Evidence, TargetError> {
        self.accepted(value).await
    }

    async fn revoke(
        &self,
        old: &Fields,
        kept: Option<&Fields>,
        severity: Severity,
    ) -> Result<Revocation, TargetError> {
        let id = key_id(old)?;
        let kept = kept.map(key_id).transpose()?;
        if kept == Some(id) {
            return Err(TargetError::refused("both versions are the same access key"));
        }
        let iam = self.client().await?;
        let wait = self.settings.inactive_for;
        let at_once = severity.compromised || severity.part > 0 || wait.is_zero();
        let is_unused = match kept {
            Some(kept) if !at_once => is_newer(&self.keys(&iam).await?, id, kept),
            _ => false,
        };
        if !at_once && !is_unused {
            if !self.deactivate(&iam, id).await? {
                return Ok(Revocation::Done("the access key is gone already".to_owned()));
            }
            let evidence = "the access key is deactivated".to_owned();
            return Ok(Revocation::Continue { evidence, wait });
        }
        self.delete(&iam, id).await?;
        let mut evidence = "the access key is deleted".to_owned();
        if severity.compromised && self.settings.deny_older_sessions {
            self.deny_older_sessions(&iam).await?;
            evidence.push_str(", and sessions that it opened are denied");
        }
        Ok(Revocation::Done(evidence))
    }

    fn breaks(&self) -> Cow<'static, str> {
        "calls to AWS fail until consumers have the new key pair".into()
    }
}
