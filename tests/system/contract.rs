//! The promises of stores, held by Vault: without leases, and with them.

#[path = "../support/store_contract.rs"]
mod suite;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use secret_broker::{
    app::clock::SystemClock,
    broker::ports::Origin,
    config::{
        self, AuthMethod, Credential, Deployment, VaultAuth, VaultEngine, VaultMethod, VaultPath,
    },
    domain::{budget::BudgetTerms, secret::SecretValue},
    store::{VersionKey, vault::VaultStore},
};
use serde_json::json;
use suite::{Fixture, PLANTED, holds};

use crate::{main_job::Rig, support::until};

/// A store over the Vault at an address, with this token.
pub(crate) fn store(address: String, token: &str) -> Arc<VaultStore> {
    let token = Credential::Value(SecretValue::new(token));
    let vault = config::Vault {
        address,
        namespace: None,
        ca: None,
        client_cert: None,
        server_name: None,
        timeout: Duration::from_secs(30),
        auth: VaultAuth { mount: "token".into(), method: AuthMethod::Token { token } },
        budget: BudgetTerms {
            calls_per_minute: 60_000,
            burst: 10_000,
            probe_min: Duration::from_millis(100),
            probe_max: Duration::from_secs(1),
        },
        in_flight: 16,
        revoke_on_exit: true,
    };
    let versions = Arc::new(VersionKey::generate().unwrap());
    VaultStore::new(&Arc::new(vault), Arc::new(SystemClock), Arc::new(()), versions, 1).unwrap()
}

struct KeyValue {
    rig: Rig,
    store: Arc<VaultStore>,
}

impl KeyValue {
    async fn start() -> Self {
        let rig = Rig::start("1h", "2h").await;
        let mount = json!({ "type": "kv", "options": { "version": "2" } });
        rig.vault.write("sys/mounts/secret", mount).await;
        rig.vault.write("sys/mounts/kv1", json!({ "type": "kv" })).await;
        rig.vault.write("kv1/old", json!({ "key": PLANTED })).await;
        until("the engine is ready", async || {
            let body = Some(json!({ "data": { "key": PLANTED } }));
            (rig.vault.request("POST", "secret/data/app", body).await.0 < 300).then_some(())
        })
        .await;
        Self { store: store(rig.vault.address(), &rig.vault.root), rig }
    }

    fn at(&self, mount: &str, path: &str, key: &str) -> Arc<dyn Origin> {
        let engine = VaultEngine::KvV2 {
            mount: mount.into(),
            path: path.into(),
            deployment: Deployment::default(),
        };
        let fields = BTreeMap::from([("value".to_owned(), key.to_owned())]);
        self.store.origin(VaultPath { engine, fields })
    }
}

#[async_trait]
impl Fixture for KeyValue {
    fn leased(&self) -> bool {
        false
    }

    fn origin(&self) -> Arc<dyn Origin> {
        self.at("secret", "app", "key")
    }

    fn missing(&self) -> Vec<(Arc<dyn Origin>, String)> {
        vec![
            (self.at("secret", "none", "key"), "secret/data/none".to_owned()),
            (self.at("secret", "app", "other"), "other".to_owned()),
        ]
    }

    /// What the health of the server looks like is no secret.
    fn broken(&self) -> Vec<Arc<dyn Origin>> {
        let engine = VaultEngine::Generic {
            path: "sys/seal-status".into(),
            method: VaultMethod::Get,
            parameters: BTreeMap::new(),
        };
        vec![self.store.origin(VaultPath { engine, fields: BTreeMap::new() })]
    }

    async fn change(&self) {
        let body = json!({ "data": { "key": format!("{PLANTED}-2") } });
        self.rig.vault.write("secret/data/app", body).await;
    }

    fn hints(&self) -> bool {
        false
    }
}

struct Leased {
    _rig: Rig,
    store: Arc<VaultStore>,
}

impl Leased {
    async fn start() -> Self {
        let rig = Rig::start("1h", "2h").await;
        let template = format!("{PLANTED}-{{{{random 10}}}}");
        rig.vault.write("database/config/main", json!({ "username_template": template })).await;
        Self { store: store(rig.vault.address(), &rig.vault.root), _rig: rig }
    }

    fn role(&self, name: &str) -> Arc<dyn Origin> {
        let engine = VaultEngine::Generic {
            path: format!("database/creds/{name}"),
            method: VaultMethod::Get,
            parameters: BTreeMap::new(),
        };
        self.store.origin(VaultPath { engine, fields: BTreeMap::new() })
    }
}

#[async_trait]
impl Fixture for Leased {
    fn leased(&self) -> bool {
        true
    }

    fn origin(&self) -> Arc<dyn Origin> {
        self.role("app")
    }

    fn missing(&self) -> Vec<(Arc<dyn Origin>, String)> {
        vec![(self.role("nobody"), "database/creds/nobody".to_owned())]
    }

    fn broken(&self) -> Vec<Arc<dyn Origin>> {
        Vec::new()
    }

    /// Each fetch makes a user of its own.
    async fn change(&self) {}

    fn hints(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn key_values_hold_the_contract() {
    holds(&KeyValue::start().await).await;
}

#[tokio::test]
async fn leased_users_hold_the_contract() {
    holds(&Leased::start().await).await;
}

#[cfg(feature = "operator")]
#[tokio::test]
async fn versions_in_vault_keep_what_places_of_versions_promise() {
    let held = KeyValue::start().await;
    crate::support::versions_contract::hold(&held.store.versions("secret", "promised")).await;
}
