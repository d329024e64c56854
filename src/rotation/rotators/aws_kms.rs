//! KMS keys. The value is a key's id; what it encrypted stays readable: a key that was in force is
//! neither disabled nor deleted here.
//!
//! A new key carries the tag [`PENDING`] until the alias points to it, so that a call that was cut
//! off is found and taken up by the next one.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use aws_sdk_kms::{
    Client,
    error::ProvideErrorMetadata,
    primitives::{Blob, DateTime},
    types::{KeyMetadata, KeyState, Tag},
};

use crate::{
    config::operator::targets::aws_kms::{AwsKms as Settings, KmsKey},
    domain::{
        fault::{Fault, Reason},
        secret::{Fields, SINGLE_FIELD, SecretValue},
    },
    random,
    rotation::{
        aws::{Aws, fault},
        patience,
        ports::{Change, Evidence, Generated, Login, Revocation, Rotator, Severity, TargetError},
    },
};

/// The tag of a key that no alias points to yet; its value is the alias.
const PENDING: &str = "secret-broker-pending";
/// The fact that tells one rotation of a key's material from the next.
const ROTATIONS: &str = "rotations_before";
/// The keys that are looked through for one that was left.
const MOST_KEYS: usize = 1000;
/// The bytes that are encrypted as a proof.
const PROBE_BYTES: usize = 32;

/// KMS keys.
pub struct AwsKms {
    settings: Settings,
    aws: Aws,
    login: Arc<dyn Login>,
}

impl AwsKms {
    /// By these settings, with the operator's `login`.
    pub fn new(settings: Settings, login: Arc<dyn Login>) -> Self {
        let aws = Aws::new(settings.aws.clone());
        Self { settings, aws, login }
    }

    async fn client(&self) -> Result<Client, Fault> {
        Ok(Client::new(&self.aws.login(&self.login).await?))
    }

    async fn new_key(
        &self,
        kms: &Client,
        alias: &str,
        current: Option<&Fields>,
    ) -> Result<Generated, TargetError> {
        let current = current.map(key_id).transpose()?;
        let left = self.left_over(kms, alias, current).await?;
        let id = match left {
            Some(id) => id,
            None => self.create(kms, alias, current).await?,
        };
        let facts = [("key_id".to_owned(), id.clone())].into();
        Ok(Generated::Value { fields: Fields::single(SecretValue::new(id)), facts })
    }

    /// The key that a call made which was cut off, or a rotation that went back.
    async fn left_over(
        &self,
        kms: &Client,
        alias: &str,
        current: Option<&str>,
    ) -> Result<Option<String>, Fault> {
        let mut pages = kms.list_keys().into_paginator().items().send();
        let mut looked_at = 0;
        while let Some(key) = pages.next().await {
            let key = key.map_err(|error| fault("listing keys", &error))?;
            let Some(id) = key.key_id().filter(|id| Some(*id) != current) else { continue };
            looked_at += 1;
            if looked_at > MOST_KEYS {
                break;
            }
            if tagged(kms, id, alias).await? && is_enabled(kms, id).await.unwrap_or(false) {
                return Ok(Some(id.to_owned()));
            }
        }
        Ok(None)
    }

    async fn create(
        &self,
        kms: &Client,
        alias: &str,
        current: Option<&str>,
    ) -> Result<String, Fault> {
        let mut call = kms.create_key().description(format!("made for {alias}"));
        if let Some(current) = current {
            // Its consumers have the rights that they had on the one before.
            let policy = kms.get_key_policy().key_id(current).policy_name("default").send().await;
            let policy = policy.map_err(|error| fault("reading the key's policy", &error))?;
            call = call.set_policy(policy.policy);
        }
        let made = call.tags(pending(alias)?).send().await;
        let made = made.map_err(|error| fault("making a key", &error))?;
        let id = made.key_metadata.map(|key| key.key_id);
        id.ok_or_else(|| Fault::new(Reason::Invalid, "making a key: AWS answered without one"))
    }

    /// Points the alias to a key.
    async fn point(&self, kms: &Client, alias: &str, id: &str) -> Result<(), Fault> {
        let moved = kms.update_alias().alias_name(alias).target_key_id(id).send().await;
        match moved.map_err(|error| fault("moving the alias", &error)) {
            Err(missing) if missing.reason == Reason::NotFound => {
                let made = kms.create_alias().alias_name(alias).target_key_id(id).send().await;
                match made {
                    Err(error) if error.code() == Some("AlreadyExistsException") => {
                        // Made meanwhile; and a key that does not exist is found by its proof.
                        Err(missing)
                    }
                    made => made.map(drop).map_err(|error| fault("making the alias", &error)),
                }
            }
            moved => moved.map(drop),
        }
    }

    /// Gives the key new material, once for the same number of rotations before.
    async fn turn(&self, change: &Change<'_>, kms: &Client, id: &str) -> Result<Evidence, Fault> {
        let now = rotations(kms, id).await?;
        let before = change.facts.get(ROTATIONS).and_then(|text| text.parse().ok());
        if before.is_none_or(|before: usize| now > before) {
            return Ok("the key has its new material already".to_owned());
        }
        match kms.rotate_key_on_demand().key_id(id).send().await {
            Ok(_) => Ok("the key has new material".to_owned()),
            // It takes KMS a while, in which it is not counted yet.
            Err(error) if error.code() == Some("ConflictException") => {
                Ok("the key is being given new material".to_owned())
            }
            Err(error) => Err(fault("rotating the key's material", &error)),
        }
    }
}

fn pending(alias: &str) -> Result<Tag, Fault> {
    let tag = Tag::builder().tag_key(PENDING).tag_value(alias).build();
    tag.map_err(|_| Fault::new(Reason::Invalid, "the alias can't be a tag"))
}

/// Keeps a key for the next rotation.
async fn mark(kms: &Client, id: &str, alias: &str) -> Result<(), Fault> {
    let done = kms.tag_resource().key_id(id).tags(pending(alias)?).send().await;
    done.map(drop).map_err(|error| fault("tagging a key", &error))
}

async fn tagged(kms: &Client, id: &str, alias: &str) -> Result<bool, Fault> {
    let answer = kms.list_resource_tags().key_id(id).send().await;
    match answer.map_err(|error| fault("reading a key's tags", &error)) {
        Ok(answer) => {
            Ok(answer.tags().iter().any(|tag| tag.tag_key() == PENDING && tag.tag_value() == alias))
        }
        // Keys of others, whose tags are not ours to read.
        Err(fault) if matches!(fault.reason, Reason::Forbidden | Reason::NotFound) => Ok(false),
        Err(fault) => Err(fault),
    }
}

/// How often a key's material was rotated.
async fn rotations(kms: &Client, id: &str) -> Result<usize, Fault> {
    let mut pages = kms.list_key_rotations().key_id(id).into_paginator().items().send();
    let mut count = 0;
    while let Some(rotation) = pages.next().await {
        rotation.map_err(|error| fault("listing the key's rotations", &error))?;
        count += 1;
    }
    Ok(count)
}

async fn is_enabled(kms: &Client, id: &str) -> Result<bool, Fault> {
    let key = describe(kms, id).await?;
    Ok(key.is_some_and(|key| key.key_state == Some(KeyState::Enabled)))
}

/// When a key was made.
async fn made(kms: &Client, id: &str) -> Result<Option<DateTime>, Fault> {
    Ok(describe(kms, id).await?.and_then(|key| key.creation_date))
}

async fn describe(kms: &Client, id: &str) -> Result<Option<KeyMetadata>, Fault> {
    let answer = kms.describe_key().key_id(id).send().await;
    Ok(answer.map_err(|error| fault("describing the key", &error))?.key_metadata)
}

/// Encrypts and decrypts with a key.
///
/// # Errors
/// [`TargetError::Refused`] when there is no such key, or it is not enabled.
pub(in crate::rotation) async fn round_trip(
    kms: &Client,
    value: &Fields,
) -> Result<Evidence, TargetError> {
    let id = key_id(value)?;
    match is_enabled(kms, id).await {
        Ok(true) => {}
        Ok(false) => return Err(TargetError::refused("the key is not enabled")),
        Err(fault) if matches!(fault.reason, Reason::NotFound | Reason::Invalid) => {
            return Err(TargetError::refused("KMS knows no key of this id"));
        }
        Err(fault) => return Err(fault.into()),
    }
    let mut probe = [0; PROBE_BYTES];
    random::fill(&mut probe)?;
    let sealed = kms.encrypt().key_id(id).plaintext(Blob::new(probe)).send().await;
    let sealed = sealed.map_err(|error| fault("encrypting with the key", &error))?;
    let opened = kms.decrypt().key_id(id).set_ciphertext_blob(sealed.ciphertext_blob).send().await;
    let opened = opened.map_err(|error| fault("decrypting with the key", &error))?;
    if opened.plaintext().is_none_or(|opened| opened.as_ref() != probe) {
        return Err(TargetError::refused("the key does not decrypt what it encrypted"));
    }
    Ok("the key is enabled, and encrypted and decrypted".to_owned())
}

fn key_id(value: &Fields) -> Result<&str, TargetError> {
    value
        .field(SINGLE_FIELD)
        .and_then(|id| std::str::from_utf8(id.expose()).ok())
        .filter(|id| !id.is_empty())
        .ok_or_else(|| TargetError::refused("the value has no field `value` with a key's id"))
}

#[async_trait]
impl Rotator for AwsKms {
    fn kind(&self) -> &'static str {
        "aws_kms"
    }

    async fn generate(&self, current: Option<&Fields>) -> Result<Generated, TargetError> {
        let kms = self.client().await?;
        match &self.settings.key {
            KmsKey::Alias(alias) => self.new_key(&kms, alias, current).await,
            KmsKey::Material(id) => {
                let before = rotations(&kms, id).await?;
                let facts = BTreeMap::from([(ROTATIONS.to_owned(), before.to_string())]);
                let fields = Fields::single(SecretValue::new(id.as_str()));
                Ok(Generated::Value { fields, facts })
            }
        }
    }

    async fn apply(&self, change: &Change<'_>) -> Result<Evidence, TargetError> {
        let kms = self.client().await?;
        let id = key_id(change.new)?;
        // A key that is still being made everywhere is not one to point to.
        patience::until(self.settings.patience, || round_trip(&kms, change.new)).await?;
        let KmsKey::Alias(alias) = &self.settings.key else {
            return Ok(self.turn(change, &kms, id).await?);
        };
        self.point(&kms, alias, id).await?;
        let untagged = kms.untag_resource().key_id(id).tag_keys(PENDING).send().await;
        untagged.map_err(|error| fault("taking the key's tag away", &error))?;
        Ok(format!("{alias} points to the key"))
    }

    async fn prove(&self, value: &Fields) -> Result<Evidence, TargetError> {
        let kms = self.client().await?;
        patience::until(self.settings.patience, || round_trip(&kms, value)).await
    }

    /// The old key stays, for what it encrypted; the alias points to the one that is kept.
    async fn revoke(
        &self,
        old: &Fields,
        kept: Option<&Fields>,
        severity: Severity,
    ) -> Result<Revocation, TargetError> {
        let id = key_id(old)?;
        if let (KmsKey::Alias(alias), Some(kept)) = (&self.settings.key, kept) {
            let (kms, kept) = (self.client().await?, key_id(kept)?);
            self.point(&kms, alias, kept).await?;
            if !severity.compromised && made(&kms, id).await? > made(&kms, kept).await? {
                mark(&kms, id, alias).await?;
                return Ok(Revocation::Done("the new key is kept for the next rotation".into()));
            }
        }
        let evidence = if severity.compromised {
            "nothing new is encrypted with the old key, which stays enabled: encrypt what it \
             protects anew, then disable it by hand"
        } else {
            "the old key stays enabled, for what it encrypted"
        };
        Ok(Revocation::Done(evidence.to_owned()))
    }

    fn breaks(&self) -> Cow<'static, str> {
        "nothing: the old key goes on decrypting".into()
    }
}
