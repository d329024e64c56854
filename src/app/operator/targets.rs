//! The rotator of each target, with the operator's own rights in it.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use tokio::{sync::Mutex, time::Instant};

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
        life::Lifetime,
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

/// What settings lead to.
pub(super) struct Reach {
    /// None where the secrets lie in an encrypted file.
    pub(super) vault: Option<Arc<VaultStore>>,
    pub(super) versions: Arc<VersionKey>,
    pub(super) http: Http,
}

impl Reach {
    pub(super) fn rotator(
        &self,
        name: &SecretName,
        target: Target,
    ) -> Result<Arc<dyn Rotator>, Fault> {
        Ok(match target {
            Target::Postgres(mut settings) => {
                let login = self.login(take(&mut settings.login))?;
                Arc::new(PostgresRotator::new(settings, login))
            }
            Target::Redis(mut settings) => {
                let login = self.logs_in(settings.login.take())?;
                Arc::new(RedisRotator::new(settings, login))
            }
            Target::VaultDatabase(settings) => {
                let vault: Arc<dyn VaultApi> = Arc::<VaultStore>::clone(self.vault()?);
                Arc::new(VaultDatabaseRotator::new(settings, vault))
            }
            Target::Jwt(settings) => Arc::new(rotators::jwt::Jwt::new(settings)),
            Target::ApiKey(settings) => Arc::new(rotators::api_key::ApiKey::new(settings)),
            Target::AwsIam(mut settings) => {
                let login = self.login(take(&mut settings.login))?;
                Arc::new(rotators::aws_iam::AwsIam::new(settings, login))
            }
            Target::AwsKms(mut settings) => {
                let login = self.login(take(&mut settings.login))?;
                Arc::new(rotators::aws_kms::AwsKms::new(settings, login))
            }
            Target::Datadog(mut settings) => {
                let login = self.login(take(&mut settings.login))?;
                Arc::new(rotators::datadog::Datadog::new(settings, self.http.clone(), login))
            }
            Target::Manual(mut settings) => {
                let probe = settings.probe.take().map(|probe| self.validator(probe)).transpose()?;
                Arc::new(rotators::manual::Manual::new(settings, probe)?)
            }
            Target::Exec(mut settings) => {
                let login = self.logs_in(settings.login.take())?;
                let variable = |name: &str| config::environment(name);
                Arc::new(rotators::exec::Exec::new(settings, name.clone(), login, variable))
            }
        })
    }

    pub(super) fn validator(
        &self,
        settings: operator::Validator,
    ) -> Result<Arc<dyn Validator>, Fault> {
        use operator::Validator as Kind;
        let http = || self.http.clone();
        Ok(match settings {
            Kind::Jwt(algorithm) => Arc::new(validators::jwt::Jwt::new(algorithm)),
            Kind::Aws(settings) => Arc::new(validators::aws::Aws::new(settings)),
            Kind::Kms(mut settings) => {
                let login = self.login(take(&mut settings.login))?;
                Arc::new(validators::kms::Kms::new(settings, login))
            }
            Kind::Http(settings) => Arc::new(validators::http::Http::new(settings, http())),
            Kind::Datadog(settings) => {
                Arc::new(validators::datadog::Datadog::new(settings, http()))
            }
            Kind::Slack(settings) => Arc::new(validators::slack::Slack::new(settings, http())),
            Kind::Entropy(settings) => Arc::new(validators::entropy::Entropy::new(settings)),
            Kind::Postgres(usage) => Arc::new(rotators::postgres::PostgresConsumer::new(usage)),
            Kind::Redis(usage) => Arc::new(rotators::redis::RedisConsumer::new(usage)),
        })
    }

    pub(super) fn check(&self, settings: operator::checks::Check) -> Result<Around, Fault> {
        use operator::checks::{BackupPlace, Check as Kind};
        Ok(Around::All(match settings {
            Kind::Backup(settings) => {
                let fields = settings.fields;
                let source: Arc<dyn Login> = match settings.place {
                    BackupPlace::Vault(LoginSource::Vault(path)) => self.path(&path, fields)?,
                    BackupPlace::Vault(source) => self.login(source)?,
                    BackupPlace::Directory(directory) => {
                        let versions = Arc::clone(&self.versions);
                        let directory = Directory::new(directory, fields, versions);
                        Arc::new(FromStore::new(Arc::new(directory)))
                    }
                };
                Arc::new(checks::backup::Backup::new(source, settings.patience))
            }
            Kind::Notify(operator::checks::Notify { form, webhook, timeout }) => {
                let webhook = self.address(webhook)?;
                Arc::new(checks::notify::Notify::new(webhook, form, timeout, self.http.clone()))
            }
            Kind::Alerts(operator::checks::Alerts { source, login, timeout }) => {
                let login = self.logs_in(login)?;
                Arc::new(checks::alerts::Alerts::new(source, login, timeout, self.http.clone()))
            }
            Kind::Rollback => return Ok(Around::Rollback),
        }))
    }

    /// Who is called.
    pub(super) fn alerts(&self, places: Vec<AlertPlace>) -> Result<Arc<dyn Alerts>, Fault> {
        let mut all = Vec::with_capacity(places.len());
        for AlertPlace { form, webhook, timeout } in places {
            let (webhook, http) = (self.address(webhook)?, self.http.clone());
            let place: Arc<dyn Alerts> = match form {
                Form::Alertmanager => Arc::new(Alertmanager::new(webhook, timeout, http)),
                Form::Slack => Arc::new(Slack::new(webhook, timeout, http)),
            };
            all.push(place);
        }
        Ok(Arc::new(All::new(all)))
    }

    fn address(&self, webhook: operator::webhook::Webhook) -> Result<Webhook, Fault> {
        Ok(match webhook {
            operator::webhook::Webhook::Url(url) => Webhook::Url(url),
            operator::webhook::Webhook::Secret(source) => Webhook::Secret(self.login(source)?),
        })
    }

    /// The operator's login.
    fn login(&self, source: LoginSource) -> Result<Arc<dyn Login>, Fault> {
        match source {
            LoginSource::Vault(path) => self.path(&path, BTreeMap::new()),
            LoginSource::Given { username, password } => Ok(Arc::new(Given { username, password })),
        }
    }

    fn logs_in(&self, source: Option<LoginSource>) -> Result<Option<Arc<dyn Login>>, Fault> {
        source.map(|source| self.login(source)).transpose()
    }

    fn path(&self, path: &str, fields: BTreeMap<String, String>) -> Result<Arc<dyn Login>, Fault> {
        Ok(Arc::new(FromStore::new(self.vault()?.origin(place(path, fields)))))
    }

    /// The configuration refuses places of a Vault where there is none.
    fn vault(&self) -> Result<&Arc<VaultStore>, Fault> {
        let none = || Fault::new(Reason::Invalid, "there is no [vault]");
        self.vault.as_ref().ok_or_else(none)
    }
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

/// Fields of a store: read anew at each use, but for those that are minted at each reading.
struct FromStore {
    origin: Arc<dyn Origin>,
    /// What was minted last, and until when it is used.
    minted: Mutex<Option<(Arc<Fields>, Instant)>>,
}

impl FromStore {
    fn new(origin: Arc<dyn Origin>) -> Self {
        Self { origin, minted: Mutex::new(None) }
    }
}

#[async_trait]
impl Login for FromStore {
    async fn fields(&self) -> Result<Arc<Fields>, Fault> {
        let mut minted = self.minted.lock().await;
        if let Some((fields, until)) = &*minted
            && Instant::now() < *until
        {
            return Ok(Arc::clone(fields));
        }
        let issued = self.origin.fetch().await?;
        if let Lifetime::Leased { ttl, .. } | Lifetime::Ends(ttl) = issued.lifetime {
            *minted = Some((Arc::clone(&issued.fields), Instant::now() + ttl / 2));
        }
        Ok(issued.fields)
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
