//! What Vault's database engine turns over itself: the password of a static role, and the login of a
//! connection. Vault makes the value, writes it down before it changes the database, and keeps it.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use serde_json::{Value, json};

use super::login::{PASSWORD, USERNAME, password};
use crate::{
    config::operator::targets::vault_database::{VaultDatabase, What},
    domain::{
        fault::{Fault, Reason},
        secret::{Fields, SecretValue},
    },
    rotation::ports::{
        ApiMethod, Change, Evidence, Generated, Revocation, Rotator, Severity, TargetError,
        VaultApi,
    },
};

/// The fact that tells one password of a static role from the next: when Vault changed it last.
const CHANGED: &str = "last_vault_rotation";

/// The rotator of what Vault's database engine turns over.
pub struct VaultDatabaseRotator {
    settings: VaultDatabase,
    vault: Arc<dyn VaultApi>,
}

/// What Vault hands out of a static role.
struct Handed {
    username: String,
    password: SecretValue,
    changed: String,
}

impl VaultDatabaseRotator {
    /// A rotator that has Vault do it.
    pub fn new(settings: VaultDatabase, vault: Arc<dyn VaultApi>) -> Self {
        Self { settings, vault }
    }

    async fn get(&self, path: &str) -> Result<(Value, Option<Arc<str>>), TargetError> {
        let path = format!("{}/{path}", self.settings.mount);
        let answer = self.vault.call(ApiMethod::Get, &path, None).await?;
        Ok((answer.data, answer.lease))
    }

    async fn post(&self, path: &str) -> Result<(), TargetError> {
        let path = format!("{}/{path}", self.settings.mount);
        self.vault.call(ApiMethod::Post, &path, Some(json!({}))).await?;
        Ok(())
    }

    async fn handed(&self, role: &str) -> Result<Handed, TargetError> {
        let (data, _) = self.get(&format!("static-creds/{role}")).await?;
        let text = |name: &str| data.get(name).and_then(Value::as_str).map(str::to_owned);
        match (text(USERNAME), text(PASSWORD), text(CHANGED)) {
            (Some(username), Some(password), Some(changed)) if !password.is_empty() => {
                Ok(Handed { username, password: SecretValue::new(password), changed })
            }
            _ => {
                let detail = format!("Vault hands out no password of the static role {role}");
                Err(Fault::new(Reason::Invalid, detail).into())
            }
        }
    }

    async fn turn_role(
        &self,
        role: &str,
        facts: &BTreeMap<String, String>,
    ) -> Result<Evidence, TargetError> {
        let before = self.handed(role).await?.changed;
        // Once is enough: an attempt before this one, or Vault on its own, changed it already.
        if facts.get(CHANGED).is_none_or(|known| *known == before) {
            self.post(&format!("rotate-role/{role}")).await?;
        }
        let handed = self.handed(role).await?;
        if facts.get(CHANGED).unwrap_or(&before) == &handed.changed {
            let detail = format!("Vault has not changed the static role {role} yet");
            return Err(TargetError::fault(Reason::Failed, detail));
        }
        Ok(format!("Vault changed the static role {role} at {}", handed.changed))
    }

    async fn prove_root(
        &self,
        connection: &str,
        role: Option<&str>,
    ) -> Result<Evidence, TargetError> {
        let Some(role) = role else {
            self.post(&format!("reset/{connection}")).await?;
            return Ok(format!("Vault opened the connection {connection} anew"));
        };
        let (_, lease) = self.get(&format!("creds/{role}")).await?;
        if let Some(lease) = lease {
            let body = json!({ "lease_id": &*lease, "sync": true });
            self.vault.call(ApiMethod::Post, "sys/leases/revoke", Some(body)).await?;
        }
        Ok(format!("Vault made a user of the role {role} and removed it"))
    }
}

#[async_trait]
impl Rotator for VaultDatabaseRotator {
    fn kind(&self) -> &'static str {
        "vault_database"
    }

    fn is_overlapping(&self) -> bool {
        false
    }

    async fn generate(&self, _current: Option<&Fields>) -> Result<Generated, TargetError> {
        let facts = match &self.settings.what {
            What::StaticRole(role) => {
                [(CHANGED.to_owned(), self.handed(role).await?.changed)].into()
            }
            What::Root { .. } => BTreeMap::new(),
        };
        Ok(Generated::InPlace { facts })
    }

    async fn held(&self) -> Result<Fields, TargetError> {
        let What::StaticRole(role) = &self.settings.what else { return Ok(Fields::default()) };
        let Handed { username, password, .. } = self.handed(role).await?;
        let name = SecretValue::new(username);
        Ok([(USERNAME.to_owned(), name), (PASSWORD.to_owned(), password)].into_iter().collect())
    }

    async fn apply(&self, change: &Change<'_>) -> Result<Evidence, TargetError> {
        match &self.settings.what {
            What::StaticRole(role) => self.turn_role(role, change.facts).await,
            What::Root { connection, .. } => {
                self.post(&format!("rotate-root/{connection}")).await?;
                Ok(format!("Vault changed the login of the connection {connection}"))
            }
        }
    }

    async fn prove(&self, value: &Fields) -> Result<Evidence, TargetError> {
        match &self.settings.what {
            What::StaticRole(role) => {
                let handed = self.handed(role).await?;
                if !value.is_empty() && *password(value)? != handed.password {
                    let detail = format!("Vault holds another password of the static role {role}");
                    return Err(TargetError::refused(detail));
                }
                Ok(format!("Vault hands out the static role {role} of {}", handed.changed))
            }
            What::Root { connection, prove_role } => {
                self.prove_root(connection, prove_role.as_deref()).await
            }
        }
    }

    async fn revoke(
        &self,
        old: &Fields,
        _kept: Option<&Fields>,
        severity: Severity,
    ) -> Result<Revocation, TargetError> {
        if let What::StaticRole(role) = &self.settings.what
            && !old.is_empty()
            && *password(old)? == self.handed(role).await?.password
        {
            let detail = format!("the static role {role} still has the old password");
            return Err(TargetError::fault(Reason::Failed, detail));
        }
        let sessions = if severity.compromised { "; sessions that it opened go on" } else { "" };
        Ok(Revocation::Done(format!("Vault replaces the old password by the new one{sessions}")))
    }

    fn breaks(&self) -> Cow<'static, str> {
        match &self.settings.what {
            What::StaticRole(role) => format!(
                "new connections of the static role {role} fail from the change in the database \
                 until each consumer has the new value, in a routine rotation too; sessions go on"
            ),
            What::Root { connection, .. } => format!(
                "whoever uses the login of Vault's connection {connection} beside Vault loses it \
                 for good; users that Vault made go on"
            ),
        }
        .into()
    }
}
