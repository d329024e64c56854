//! The rotator of each target, with the operator's own rights in it.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    broker::ports::Origin,
    config::{
        Credential, Deployment, VaultEngine, VaultMethod, VaultPath,
        operator::{LoginSource, Target, targets::vault_database::What},
    },
    domain::{
        fault::{Fault, Reason},
        secret::{Fields, SecretValue},
    },
    rotation::{
        ports::{Login, Rotator, VaultApi},
        rotators::{
            postgres::PostgresRotator, redis::RedisRotator, vault_database::VaultDatabaseRotator,
        },
    },
    store::vault::VaultStore,
};

/// Where readers find a secret that its target keeps itself.
pub(super) fn held(target: &Target) -> Option<String> {
    let Target::VaultDatabase(settings) = target else { return None };
    Some(match &settings.what {
        What::StaticRole(role) => format!("{}/static-creds/{role}", settings.mount),
        What::Root { connection, .. } => format!("{}/config/{connection}", settings.mount),
    })
}

pub(super) fn rotator(target: Target, vault: &Arc<VaultStore>) -> Arc<dyn Rotator> {
    match target {
        Target::Postgres(mut settings) => {
            let source = std::mem::replace(&mut settings.login, LoginSource::Vault(String::new()));
            Arc::new(PostgresRotator::new(settings, login(source, vault)))
        }
        Target::Redis(mut settings) => {
            let login = settings.login.take().map(|source| login(source, vault));
            Arc::new(RedisRotator::new(settings, login))
        }
        Target::VaultDatabase(settings) => {
            let vault: Arc<dyn VaultApi> = Arc::<VaultStore>::clone(vault);
            Arc::new(VaultDatabaseRotator::new(settings, vault))
        }
        _ => unreachable!(),
    }
}

/// The operator's login, read anew at each use.
fn login(source: LoginSource, vault: &Arc<VaultStore>) -> Arc<dyn Login> {
    match source {
        LoginSource::Vault(path) => {
            let engine = match path.split_once("/data/") {
                Some((mount, path)) => VaultEngine::KvV2 {
                    mount: mount.into(),
                    path: path.into(),
                    deployment: Deployment::default(),
                },
                None => VaultEngine::Generic {
                    path,
                    method: VaultMethod::Get,
                    parameters: std::collections::BTreeMap::new(),
                },
            };
            let place = VaultPath { engine, fields: std::collections::BTreeMap::new() };
            Arc::new(FromVault(vault.origin(place)))
        }
        LoginSource::Given { username, password } => Arc::new(Given { username, password }),
    }
}

struct FromVault(Arc<dyn Origin>);

#[async_trait]
impl Login for FromVault {
    async fn fields(&self) -> Result<Arc<Fields>, Fault> {
        Ok(self.0.fetch().await?.fields)
    }
}

struct Given {
    username: Option<String>,
    password: Credential,
}

#[async_trait]
impl Login for Given {
    async fn fields(&self) -> Result<Arc<Fields>, Fault> {
        let password = match &self.password {
            Credential::Value(value) => SecretValue::new(value.expose()),
            Credential::File(path) => {
                let content = tokio::fs::read(path).await.map(zeroize::Zeroizing::new);
                let content = content.map_err(|error| {
                    Fault::new(Reason::Invalid, format!("{}: {}", path.display(), error.kind()))
                })?;
                SecretValue::new(content.trim_ascii())
            }
        };
        let name =
            self.username.iter().map(|n| ("username".to_owned(), SecretValue::new(n.as_str())));
        Ok(Arc::new(name.chain([("password".to_owned(), password)]).collect()))
    }
}
