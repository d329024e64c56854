//! What the configuration reaches in Vault: the places that sidecars read, and the operator's logins.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    config::{
        Deployment, VaultEngine, VaultMethod,
        operator::{
            LoginSource, OperatorConfig, Target, Validator,
            bootstrap::SidecarRole,
            checks::{BackupPlace, Check},
            targets::vault_database::What,
            webhook::Webhook,
        },
    },
    domain::secret::SecretName,
};

/// A secret that a role reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The secret.
    pub secret: SecretName,
    /// Where it lies.
    pub engine: VaultEngine,
}

/// What a role of injected pods reads, of the webhook's catalogue.
pub fn of_pods(config: &OperatorConfig, role: &SidecarRole) -> Vec<Reach> {
    let all = config.bootstrap.pods.secrets.iter();
    chosen(role, all.map(|(name, (category, engine))| (name, category, engine.clone())))
}

/// What a role of sidecars reads, of the catalogue and of the further secrets.
pub fn of_sidecars(config: &OperatorConfig, role: &SidecarRole) -> Vec<Reach> {
    let rotated = config.secrets.iter().filter_map(|(name, rotated)| {
        let engine = match (&rotated.place, &rotated.target) {
            (Some(place), _) => VaultEngine::KvV2 {
                mount: place.mount.clone(),
                path: place.path.clone(),
                deployment: Deployment::default(),
            },
            (None, Target::VaultDatabase(database)) => match &database.what {
                What::StaticRole(role) => VaultEngine::Generic {
                    path: format!("{}/static-creds/{role}", database.mount),
                    method: VaultMethod::Get,
                    parameters: BTreeMap::new(),
                },
                // Nobody but Vault knows it.
                What::Root { .. } => return None,
            },
            (None, _) => return None,
        };
        Some((name, &rotated.category, engine))
    });
    let further =
        config.bootstrap.secrets.iter().map(|(name, (category, e))| (name, category, e.clone()));
    chosen(role, rotated.chain(further))
}

fn chosen<'a>(
    role: &SidecarRole,
    all: impl Iterator<Item = (&'a SecretName, &'a String, VaultEngine)>,
) -> Vec<Reach> {
    let chosen = all.filter(|(name, category, _)| {
        role.secrets.iter().any(|pattern| pattern.matches(name.as_str()))
            || role.categories.iter().any(|pattern| pattern.matches(category))
    });
    chosen.map(|(name, _, engine)| Reach { secret: name.clone(), engine }).collect()
}

/// Whether a path may answer with a lease; static roles and signed certificates never do.
pub(super) fn is_leased(path: &str) -> bool {
    let steps: Vec<_> = path.split('/').collect();
    !steps.iter().any(|step| matches!(*step, "static-creds" | "issue" | "sign"))
}

/// The paths that the operator reads its own logins from.
pub(super) fn logins(config: &OperatorConfig) -> BTreeSet<&str> {
    let mut sources = Vec::new();
    for rotated in config.secrets.values() {
        sources.extend(of_target(&rotated.target));
        sources.extend(rotated.validators.iter().filter_map(of_validator));
        sources.extend(rotated.checks.iter().filter_map(of_check));
    }
    sources.extend(config.checks.iter().filter_map(of_check));
    sources.extend(config.alerts.iter().filter_map(|place| of_webhook(&place.webhook)));
    let paths = sources.into_iter().filter_map(|source| match source {
        LoginSource::Vault(path) => Some(path.as_str()),
        LoginSource::Given { .. } => None,
    });
    paths.collect()
}

fn of_target(target: &Target) -> Option<&LoginSource> {
    match target {
        Target::Postgres(settings) => Some(&settings.login),
        Target::Redis(settings) => settings.login.as_ref(),
        Target::AwsIam(settings) => Some(&settings.login),
        Target::AwsKms(settings) => Some(&settings.login),
        Target::Datadog(settings) => Some(&settings.login),
        Target::Exec(settings) => settings.login.as_ref(),
        Target::Manual(settings) => settings.probe.as_ref().and_then(of_validator),
        Target::VaultDatabase(_) | Target::Jwt(_) | Target::ApiKey(_) => None,
    }
}

fn of_validator(validator: &Validator) -> Option<&LoginSource> {
    match validator {
        Validator::Kms(settings) => Some(&settings.login),
        _ => None,
    }
}

fn of_check(check: &Check) -> Option<&LoginSource> {
    match check {
        Check::Backup(backup) => match &backup.place {
            BackupPlace::Vault(source) => Some(source),
            BackupPlace::Directory(_) => None,
        },
        Check::Notify(notify) => of_webhook(&notify.webhook),
        Check::Alerts(alerts) => alerts.login.as_ref(),
        Check::Rollback => None,
    }
}

fn of_webhook(webhook: &Webhook) -> Option<&LoginSource> {
    match webhook {
        Webhook::Secret(source) => Some(source),
        Webhook::Url(_) => None,
    }
}
