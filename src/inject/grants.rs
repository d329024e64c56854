//! Whether a service account may have what its pod asks for.

use super::{
    Mistake, annotations::whole, configuration::Identity, reader::quoted, settings::Settings,
};
use crate::config::inject::{Grant, InjectConfig};

/// How many granted secrets a refusal names.
const MAX_NAMED: usize = 20;

/// Checks what the pod asks for against the grants.
///
/// A secret that is not granted and one that the catalogue lacks are told alike: who may not read a name does not learn
/// whether it exists. The log of the webhook tells them apart.
///
/// # Errors
/// Each secret that may not be read, why, and what may.
pub(super) fn check(
    config: &InjectConfig,
    identity: &Identity,
    settings: &Settings,
) -> Result<(), Vec<Mistake>> {
    let granted = Granted::to(identity, config);
    let Identity { namespace, service_account } = identity;
    if settings.config_map.is_some() {
        if granted.grants.iter().any(|grant| grant.own_configuration) {
            return Ok(());
        }
        return Err(vec![Mistake {
            place: whole("config-map"),
            found: format!(
                "service account {namespace}/{service_account} may not bring a configuration of its own"
            ),
            accepted: "name granted secrets, or have a [[grant]] with own_configuration = true"
                .to_owned(),
        }]);
    }
    let names = settings.secrets.values().filter(|name| !granted.has(name));
    let refusal =
        |name: &String| granted.refusal(whole("secrets"), name, config.secrets.contains_key(name));
    let refused: Vec<_> = names.map(refusal).collect();
    if refused.is_empty() { Ok(()) } else { Err(refused) }
}

/// What a service account may read of the catalogue.
pub(super) struct Granted<'a> {
    config: &'a InjectConfig,
    identity: &'a Identity,
    grants: Vec<&'a Grant>,
}

impl<'a> Granted<'a> {
    pub(super) fn to(identity: &'a Identity, config: &'a InjectConfig) -> Self {
        let grants = config.grants.iter().filter(|grant| grant.is_about(identity)).collect();
        Self { config, identity, grants }
    }

    /// Whether the catalogue has a secret of this name that it may read.
    pub(super) fn has(&self, name: &str) -> bool {
        self.config.secrets.get(name).is_some_and(|secret| {
            let category = secret.category.as_deref().unwrap_or_default();
            self.grants.iter().any(|grant| grant.covers(name, category))
        })
    }

    /// Why it does not get what `place` asks for, and what it would get. Whether that is known is for the log alone.
    pub(super) fn refusal(&self, place: String, asked: &str, is_known: bool) -> Mistake {
        let Identity { namespace, service_account } = self.identity;
        tracing::info!(
            secret = asked,
            namespace,
            service_account,
            is_known,
            "a pod asks for what is not granted"
        );
        let may = self.config.secrets.keys().map(String::as_str).filter(|name| self.has(name));
        Mistake {
            place,
            found: format!(
                "{} is unknown, or not granted to service account {namespace}/{service_account}",
                quoted(asked)
            ),
            accepted: accepted(&may.collect::<Vec<_>>()),
        }
    }
}

fn accepted(may: &[&str]) -> String {
    match may.len() {
        0 => "nothing is granted to it: the platform team adds a [[grant]] to the webhook's configuration".to_owned(),
        n if n > MAX_NAMED => {
            let named = may.get(..MAX_NAMED).unwrap_or_default().join(", ");
            format!("granted are {named} and {} more", n - MAX_NAMED)
        }
        _ => format!("granted are {}", may.join(", ")),
    }
}

impl Grant {
    fn is_about(&self, identity: &Identity) -> bool {
        self.namespaces.iter().any(|p| p.matches(&identity.namespace))
            && self.service_accounts.iter().any(|p| p.matches(&identity.service_account))
    }

    fn covers(&self, name: &str, category: &str) -> bool {
        self.secrets.iter().any(|p| p.matches(name))
            || self.categories.iter().any(|p| p.matches(category))
    }
}
