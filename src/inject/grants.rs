//! Whether a service account may have what its pod asks for.

use super::{Mistake, annotations::whole, configuration::Identity, settings::Settings};
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
    let grants: Vec<_> = config.grants.iter().filter(|grant| grant.is_about(identity)).collect();
    let Identity { namespace, service_account } = identity;
    if settings.config_map.is_some() {
        if grants.iter().any(|grant| grant.own_configuration) {
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
    let granted = |name: &str| {
        let category = config.secrets.get(name)?.category.as_deref().unwrap_or_default();
        grants.iter().any(|grant| grant.covers(name, category)).then_some(())
    };
    let refused: Vec<_> =
        settings.secrets.values().filter(|name| granted(name).is_none()).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let may = config.secrets.keys().filter(|name| granted(name).is_some());
    let accepted = accepted(&may.map(String::as_str).collect::<Vec<_>>());
    let mistakes = refused.into_iter().map(|name| {
        let is_known = config.secrets.contains_key(name);
        tracing::info!(secret = name, namespace, service_account, is_known, "a pod asks for what is not granted");
        Mistake {
            place: whole("secrets"),
            found: format!("\"{name}\" is unknown, or not granted to service account {namespace}/{service_account}"),
            accepted: accepted.clone(),
        }
    });
    Err(mistakes.collect())
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
