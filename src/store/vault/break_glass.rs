//! Access to one path in an emergency: a token that reads it and nothing else, and ends by itself.
//!
//! The policy is one a path, and is written anew each time, so that nobody can widen it in advance.

use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::digest;
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use super::VaultStore;
use crate::{
    domain::{
        fault::{Fault, Reason},
        rotation::access::Access,
        secret::SecretValue,
    },
    rotation::ports::{BreakGlass, Opened},
};

/// What the names of the policies begin with; the operator needs the right to write these, and a
/// token role has to allow them.
const POLICY: &str = "break-glass-";
/// Bytes of the digest that tells one path's policy from another's.
const NAME_BYTES: usize = 10;

/// Opens paths of one Vault server.
pub struct VaultGlass {
    store: Arc<VaultStore>,
    create: String,
}

impl VaultStore {
    /// Access in emergencies. Tokens are made by a token role, which should be orphan and allow
    /// policies of `break-glass-*`; without one, the operator's own right to make orphans is used.
    pub fn break_glass(self: &Arc<Self>, role: Option<&str>) -> VaultGlass {
        let create = match role {
            Some(role) => format!("auth/token/create/{role}"),
            None => "auth/token/create-orphan".to_owned(),
        };
        VaultGlass { store: Arc::clone(self), create }
    }
}

#[async_trait]
impl BreakGlass for VaultGlass {
    async fn open(&self, place: &str, access: &Access) -> Result<Opened, Fault> {
        let name = policy(place);
        if place.contains(['*', '+']) {
            let detail = "a path with * or + would open more than one secret";
            return Err(Fault::new(Reason::Invalid, detail).at(place));
        }
        let rules = json!({ "path": { place: { "capabilities": ["read"] } } });
        let body = json!({ "policy": rules.to_string() });
        let path = format!("sys/policies/acl/{name}");
        self.store.request("glass_policy", Method::POST, &path, &[], Some(body)).await?;
        let ttl = format!("{}s", access.lasts_secs);
        let body = json!({
            "policies": [name],
            "no_default_policy": true,
            "renewable": false,
            "ttl": ttl,
            "explicit_max_ttl": ttl,
            "display_name": format!("break-glass-{}", access.id),
            "meta": { "access": access.id, "holder": access.holder },
        });
        let asked_at = self.store.clock.wall();
        let answer =
            self.store.request("glass_token", Method::POST, &self.create, &[], Some(body)).await?;
        opened(answer.auth.unwrap_or_default(), asked_at).ok_or_else(|| {
            Fault::new(Reason::Invalid, "Vault's answer has no token").at(&self.create)
        })
    }

    async fn end(&self, accessor: &str) -> Result<(), Fault> {
        let body = json!({ "accessor": accessor });
        let path = "auth/token/revoke-accessor";
        match self.store.request("glass_revoke", Method::POST, path, &[], Some(body)).await {
            Ok(_) => Ok(()),
            // Vault does not know the accessor any more.
            Err(fault) if matches!(fault.reason, Reason::Invalid | Reason::NotFound) => Ok(()),
            Err(fault) => Err(fault),
        }
    }
}

fn opened(mut auth: Value, asked_at: Timestamp) -> Option<Opened> {
    let secs = auth.get("lease_duration")?.as_i64()?;
    let accessor = auth.get("accessor")?.as_str()?.to_owned();
    let Value::String(token) = auth.get_mut("client_token")?.take() else { return None };
    Some(Opened {
        token: SecretValue::new(token),
        accessor,
        ends_at: asked_at.checked_add(SignedDuration::from_secs(secs)).ok()?,
    })
}

/// The name of a path's policy: readable, and told apart by a digest.
fn policy(place: &str) -> String {
    let digest = digest::digest(&digest::SHA256, place.as_bytes());
    let digest = digest.as_ref().iter().take(NAME_BYTES).map(|byte| format!("{byte:02x}"));
    format!("{POLICY}{}", digest.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_a_policy_of_its_own() {
        assert_ne!(policy("secret/data/a/b"), policy("secret/data/a-b"));
        assert!(policy("secret/data/a").starts_with("break-glass-"));
    }

    #[test]
    fn a_token_is_taken_out_of_the_answer() {
        let auth = json!({ "client_token": "hvs.x", "accessor": "acc", "lease_duration": 900 });
        let opened = opened(auth, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(opened.token, SecretValue::new("hvs.x"));
        assert_eq!((opened.accessor.as_str(), opened.ends_at.as_second()), ("acc", 900));
    }
}
