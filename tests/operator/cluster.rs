//! A namespace of a real cluster, with the rights that the operator needs in it and no more.

use std::{path::PathBuf, sync::Arc, time::Duration};

use secret_broker::{
    config::operator::kubernetes::{ApiServer, Kubernetes as Settings, SecretPlace},
    kube::Cluster,
};
use serde_json::{Value, json};

use super::{rig::Rig, support::kubernetes::Kubernetes};

const ACCOUNT: &str = "secret-operator";

pub(crate) struct InCluster {
    pub kubernetes: Arc<Kubernetes>,
    pub namespace: String,
    token_file: PathBuf,
    _directory: Arc<tempfile::TempDir>,
}

impl InCluster {
    pub(crate) async fn start() -> Self {
        let kubernetes = Arc::new(Kubernetes::start().await);
        let namespace = kubernetes.namespace("operator", json!({})).await;
        kubernetes.service_account(&namespace, ACCOUNT).await;
        let rules = json!([
            { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
              "verbs": ["get", "create", "update"] },
            { "apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"] },
            { "apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"] },
            { "apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create", "update"] },
            { "apiGroups": [""], "resources": ["secrets"],
              "verbs": ["get", "create", "update", "delete"] },
        ]);
        kubernetes.grant(&namespace, ACCOUNT, rules).await;
        let token = kubernetes.token(&namespace, ACCOUNT, None).await;
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let token_file = directory.path().join("token");
        std::fs::write(&token_file, token).unwrap();
        Self { kubernetes, namespace, token_file, _directory: directory }
    }

    /// The sections of an operator in this namespace.
    pub(crate) fn sections(&self) -> String {
        format!(
            "[kubernetes]\nserver = \"{}\"\ntoken_file = \"{}\"\nca_file = \"{}\"\nnamespace = \"{}\"\n\
             status = \"secret-operator\"\ncompare_interval = \"1s\"\n\
             [leadership]\nlease = \"secret-operator\"\n",
            self.kubernetes.address(),
            self.token_file.display(),
            self.kubernetes.ca_file().display(),
            self.namespace,
        )
    }

    /// The cluster as the operator sees it.
    pub(crate) fn cluster(&self) -> Cluster {
        Cluster::connect(&Settings {
            server: Some(ApiServer {
                address: self.kubernetes.address(),
                token_file: self.token_file.clone(),
                ca_file: Some(self.kubernetes.ca_file()),
            }),
            namespace: Some(self.namespace.clone()),
            timeout: Duration::from_secs(8),
            status: None,
            deployment: None,
            encrypted_at_rest: true,
            compare_interval: Duration::from_mins(1),
            lease: None,
        })
        .unwrap()
    }

    /// The operator's token.
    pub(crate) fn token(&self) -> String {
        std::fs::read_to_string(&self.token_file).unwrap()
    }

    /// The place of a Secret of this name.
    pub(crate) fn place(&self, name: &str) -> SecretPlace {
        SecretPlace { namespace: self.namespace.clone(), name: name.to_owned() }
    }

    pub(crate) fn secrets(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets", self.namespace)
    }

    pub(crate) async fn secret(&self, name: &str) -> Value {
        self.kubernetes.read(&format!("{}/{name}", self.secrets())).await
    }

    pub(crate) async fn lease(&self) -> Value {
        let path = format!(
            "/apis/coordination.k8s.io/v1/namespaces/{}/leases/secret-operator",
            self.namespace
        );
        self.kubernetes.read(&path).await["spec"].clone()
    }

    /// What the operator's `ConfigMap` says of a secret; null when it says nothing yet.
    pub(crate) async fn status(&self, secret: &str) -> Value {
        let path = format!("/api/v1/namespaces/{}/configmaps/secret-operator", self.namespace);
        let (_, object) = self.kubernetes.request("GET", &path, None).await;
        let text = object["data"][secret].as_str().unwrap_or("null");
        serde_json::from_str(text).unwrap()
    }

    /// The events of this reason about a secret.
    pub(crate) async fn events(&self, reason: &str, secret: &str) -> Vec<Value> {
        let path = format!("/apis/events.k8s.io/v1/namespaces/{}/events", self.namespace);
        let list = self.kubernetes.read(&path).await;
        let about = |event: &&Value| {
            event["reason"] == reason
                && event["metadata"]["annotations"]["secretbroker.dev/secret"] == secret
        };
        list["items"].as_array().unwrap().iter().filter(about).cloned().collect()
    }
}

impl Rig {
    /// Configures the operator for this cluster, with sections of the test's own.
    pub(crate) fn configure_in(&self, cluster: &InCluster, vault: &str, more: &str) {
        self.configure(vault, &format!("{more}\n{}", cluster.sections()));
    }
}

/// A text as Secrets hold it.
pub(crate) fn encoded(text: &str) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    BASE64_STANDARD.encode(text)
}

/// The text of a field of a Secret.
pub(crate) fn text(secret: &Value, field: &str) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let encoded = secret["data"][field].as_str().unwrap_or_default();
    String::from_utf8(BASE64_STANDARD.decode(encoded).unwrap()).unwrap()
}
