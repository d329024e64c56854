//! The rotator of each target, with the operator's own rights in it.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;

use crate::{
    alert::{Alertmanager, All, Slack},
    broker::ports::Origin,
    config::{
        self, Credential, Deployment, VaultEngine, VaultMethod, VaultPath,
        operator::{
            self, LoginSource, Target,
            alerts::{AlertPlace, Form},
            targets::vault_database::What,
        },
    },
    domain::{
        fault::{Fault, Reason},
        secret::{Fields, SecretName, SecretValue},
    },
    rotation::{
        checks,
        http::Http,
        ports::{Alerts, Check, Login, Rotator, Validator, VaultApi, Versions},
        rotators::{
            self, postgres::PostgresRotator, redis::RedisRotator,
            vault_database::VaultDatabaseRotator,
        },
        validators,
        webhook::Webhook,
    },
    store::{VersionKey, directory::Directory, vault::VaultStore},
};

/// Where readers find a secret that its target keeps itself.
pub(super) fn held(target: &Target) -> Option<String> {
    let Target::VaultDatabase(settings) = target else { return None };
    Some(match &settings.what {
        What::StaticRole(role) => format!("{}/static-creds/{role}", settings.mount),
        What::Root { connection, .. } => format!("{}/config/{connection}", settings.mount),
    })
}

pub(super) fn rotator(
    name: &SecretName,
    target: Target,
    vault: &Arc<VaultStore>,
    http: &Http,
) -> Result<Arc<dyn Rotator>, Fault> {
    Ok(match target {
        Target::Postgres(mut settings) => {
            let login = login(take(&mut settings.login), vault);
            Arc::new(PostgresRotator::new(settings, login))
        }
        Target::Redis(mut settings) => {
            let login = settings.login.take().map(|source| login(source, vault));
            Arc::new(RedisRotator::new(settings, login))
        }
        Target::VaultDatabase(settings) => {
            let vault: Arc<dyn VaultApi> = Arc::<VaultStore>::clone(vault);
            Arc::new(VaultDatabaseRotator::new(settings, vault))
        }
        Target::Jwt(settings) => Arc::new(rotators::jwt::Jwt::new(settings)),
        Target::ApiKey(settings) => Arc::new(rotators::api_key::ApiKey::new(settings)),
        Target::AwsIam(mut settings) => {
            let login = login(take(&mut settings.login), vault);
            Arc::new(rotators::aws_iam::AwsIam::new(settings, login))
        }
        Target::AwsKms(mut settings) => {
            let login = login(take(&mut settings.login), vault);
            Arc::new(rotators::aws_kms::AwsKms::new(settings, login))
        }
        Target::Datadog(mut settings) => {
            let login = login(take(&mut settings.login), vault);
            Arc::new(rotators::datadog::Datadog::new(settings, http.clone(), login))
        }
        Target::Manual(mut settings) => {
            let probe = settings.probe.take().map(|probe| validator(probe, vault, http));
            Arc::new(rotators::manual::Manual::new(settings, probe)?)
        }
        Target::Exec(mut settings) => {
            let login = settings.login.take().map(|source| login(source, vault));
            let variable = |name: &str| config::environment(name);
            Arc::new(rotators::exec::Exec::new(settings, name.clone(), login, variable))
        }
    })
}

pub(super) fn validator(
    settings: operator::Validator,
    vault: &Arc<VaultStore>,
    http: &Http,
) -> Arc<dyn Validator> {
    use operator::Validator as Kind;
    match settings {
        Kind::Jwt(algorithm) => Arc::new(validators::jwt::Jwt::new(algorithm)),
        Kind::Aws(settings) => Arc::new(validators::aws::Aws::new(settings)),
        Kind::Kms(mut settings) => {
            let login = login(take(&mut settings.login), vault);
            Arc::new(validators::kms::Kms::new(settings, login))
        }
        Kind::Http(settings) => Arc::new(validators::http::Http::new(settings, http.clone())),
        Kind::Datadog(settings) => {
            Arc::new(validators::datadog::Datadog::new(settings, http.clone()))
        }
        Kind::Slack(settings) => Arc::new(validators::slack::Slack::new(settings, http.clone())),
        Kind::Entropy(settings) => Arc::new(validators::entropy::Entropy::new(settings)),
        Kind::Postgres(usage) => Arc::new(rotators::postgres::PostgresValidator::new(usage)),
        Kind::Redis(usage) => Arc::new(rotators::redis::RedisValidator::new(usage)),
    }
}

pub(super) fn check(
    settings: operator::checks::Check,
    vault: &Arc<VaultStore>,
    versions: &Arc<VersionKey>,
    http: &Http,
) -> Around {
    use operator::checks::{BackupPlace, Check as Kind};
    Around::All(match settings {
        Kind::Backup(settings) => {
            let fields = settings.fields;
            let source: Arc<dyn Login> = match settings.place {
                BackupPlace::Vault(LoginSource::Vault(path)) => {
                    Arc::new(FromVault(vault.origin(place(&path, fields))))
                }
                BackupPlace::Vault(source) => login(source, vault),
                BackupPlace::Directory(directory) => {
                    let directory = Directory::new(directory, fields, Arc::clone(versions));
                    Arc::new(FromVault(Arc::new(directory)))
                }
            };
            Arc::new(checks::backup::Backup::new(source, settings.patience))
        }
        Kind::Notify(operator::checks::Notify { form, webhook, timeout }) => {
            let webhook = address(webhook, vault);
            Arc::new(checks::notify::Notify::new(webhook, form, timeout, http.clone()))
        }
        Kind::Alerts(settings) => {
            let login = settings.login.map(|source| login(source, vault));
            let operator::checks::Alerts { source, timeout, .. } = settings;
            Arc::new(checks::alerts::Alerts::new(source, login, timeout, http.clone()))
        }
        Kind::Rollback => return Around::Rollback,
    })
}

/// A check, which may be one for all secrets.
#[derive(Clone)]
pub(super) enum Around {
    All(Arc<dyn Check>),
    /// About the versions of the one secret.
    Rollback,
}

impl Around {
    pub(super) fn of(&self, versions: &Arc<dyn Versions>) -> Arc<dyn Check> {
        match self {
            Self::All(check) => Arc::clone(check),
            Self::Rollback => Arc::new(checks::rollback::Rollback::new(Arc::clone(versions))),
        }
    }
}

/// Who is called.
pub(super) fn alerts(
    places: Vec<AlertPlace>,
    vault: &Arc<VaultStore>,
    http: &Http,
) -> Arc<dyn Alerts> {
    let places = places.into_iter().map(|place| {
        let AlertPlace { form, webhook, timeout } = place;
        let webhook = address(webhook, vault);
        let place: Arc<dyn Alerts> = match form {
            Form::Alertmanager => Arc::new(Alertmanager::new(webhook, timeout, http.clone())),
            Form::Slack => Arc::new(Slack::new(webhook, timeout, http.clone())),
        };
        place
    });
    Arc::new(All::new(places.collect()))
}

fn address(webhook: operator::webhook::Webhook, vault: &Arc<VaultStore>) -> Webhook {
    match webhook {
        operator::webhook::Webhook::Url(url) => Webhook::Url(url),
        operator::webhook::Webhook::Secret(source) => Webhook::Secret(login(source, vault)),
    }
}

fn take(source: &mut LoginSource) -> LoginSource {
    std::mem::replace(source, LoginSource::Vault(String::new()))
}

/// A path of Vault's API as a place of secrets.
fn place(path: &str, fields: BTreeMap<String, String>) -> VaultPath {
    let engine = match path.split_once("/data/") {
        Some((mount, path)) => VaultEngine::KvV2 {
            mount: mount.to_owned(),
            path: path.to_owned(),
            deployment: Deployment::default(),
        },
        None => VaultEngine::Generic {
            path: path.to_owned(),
            method: VaultMethod::Get,
            parameters: BTreeMap::new(),
        },
    };
    VaultPath { engine, fields }
}

/// The operator's login, read anew at each use.
fn login(source: LoginSource, vault: &Arc<VaultStore>) -> Arc<dyn Login> {
    match source {
        LoginSource::Vault(path) => {
            Arc::new(FromVault(vault.origin(place(&path, BTreeMap::new()))))
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
