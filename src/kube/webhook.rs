//! What the injection webhook has in the cluster: its certificate in a Secret, its registrations, and the annotations of
//! namespaces.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::Method;
use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use moka::future::Cache;
use serde_json::{Value, json};

use super::{Cluster, MANAGED_BY};
use crate::{
    domain::{
        fault::{Fault, Reason},
        secret::SecretValue,
    },
    inject::{
        Namespaces,
        certificate::{Certificates, Kept, Registrations},
    },
};

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITIES: &str = "ca.crt";
const REGISTRATIONS: &str = "/apis/admissionregistration.k8s.io/v1";
/// How long the annotations of a namespace are taken to hold: many pods start at once.
const FRESH: Duration = Duration::from_secs(1);
/// Namespaces whose annotations are held.
const MAX_HELD: u64 = 1000;

/// The webhook's certificate in a Secret of its namespace.
pub struct SecretCertificate {
    cluster: Cluster,
    name: String,
}

impl SecretCertificate {
    /// Keeps it in the Secret of this name.
    pub const fn new(cluster: Cluster, name: String) -> Self {
        Self { cluster, name }
    }
}

#[async_trait]
impl Certificates for SecretCertificate {
    async fn load(&self) -> Result<Option<(Kept, String)>, Fault> {
        let namespace = self.cluster.namespace();
        let Some(secret) = self.cluster.get::<Secret>(namespace, &self.name).await? else {
            return Ok(None);
        };
        let mark = secret.metadata.resource_version.unwrap_or_default();
        let mut data = secret.data.unwrap_or_default();
        let mut take = |name| data.remove(name).map(|ByteString(bytes)| bytes).unwrap_or_default();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap_or_default();
        let kept = Kept {
            certificate: text(take(CERTIFICATE)),
            key: SecretValue::new(take(KEY)),
            authorities: text(take(AUTHORITIES)),
        };
        Ok(Some((kept, mark)))
    }

    async fn save(&self, kept: &Kept, mark: Option<&str>) -> Result<(), Fault> {
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        let data = [
            (CERTIFICATE, bytes(&kept.certificate)),
            (KEY, ByteString(kept.key.expose().to_vec())),
            (AUTHORITIES, bytes(&kept.authorities)),
        ];
        let data = data.map(|(name, bytes)| (name.to_owned(), bytes));
        let namespace = self.cluster.namespace();
        if let Some(mark) = mark {
            // Over what was read: its type can't change, and its labels and annotations are others'.
            let read = self.cluster.get::<Secret>(namespace, &self.name).await?;
            let read = read.filter(|read| read.metadata.resource_version.as_deref() == Some(mark));
            let mut secret = read.ok_or_else(|| {
                Fault::new(Reason::Conflict, "the webhook's certificate was written by another")
            })?;
            secret.data.get_or_insert_default().extend(data);
            return self.cluster.replace(namespace, &secret).await.map(drop);
        }
        let labels = BTreeMap::from([(MANAGED_BY.to_owned(), "secret-broker-webhook".to_owned())]);
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some(labels),
                ..ObjectMeta::default()
            },
            data: Some(data.into_iter().collect()),
            ..Secret::default()
        };
        self.cluster.create(namespace, &secret).await.map(drop)
    }
}

/// The webhook configurations that name the webhook.
pub struct WebhookConfigurations {
    cluster: Cluster,
    paths: Vec<String>,
}

impl WebhookConfigurations {
    /// Keeps these current, each if it is named.
    pub fn new(cluster: Cluster, mutating: Option<&str>, validating: Option<&str>) -> Self {
        let path = |kind: &str, name: Option<&str>| {
            name.map(|name| format!("{REGISTRATIONS}/{kind}/{name}"))
        };
        let paths = [
            path("mutatingwebhookconfigurations", mutating),
            path("validatingwebhookconfigurations", validating),
        ];
        Self { cluster, paths: paths.into_iter().flatten().collect() }
    }
}

#[async_trait]
impl Registrations for WebhookConfigurations {
    async fn trust(&self, authorities: &str) -> Result<(), Fault> {
        let bundle = json!(STANDARD.encode(authorities));
        for path in &self.paths {
            let mut object = self.cluster.json(Method::GET, path, None).await?;
            if hand_over(&mut object, &bundle) {
                // The object carries its resourceVersion: a change by others in between is not undone.
                self.cluster.json(Method::PUT, path, Some(&object)).await?;
                tracing::info!(path, "the API server was told of the webhook's authority");
            }
        }
        Ok(())
    }
}

/// Puts the authorities into every webhook of a configuration; whether one had others.
fn hand_over(configuration: &mut Value, bundle: &Value) -> bool {
    let webhooks = configuration.get_mut("webhooks").and_then(Value::as_array_mut);
    let mut changed = false;
    for webhook in webhooks.into_iter().flatten() {
        if let Some(client) = webhook.get_mut("clientConfig").and_then(Value::as_object_mut)
            && client.get("caBundle") != Some(bundle)
        {
            client.insert("caBundle".to_owned(), bundle.clone());
            changed = true;
        }
    }
    changed
}

/// The annotations of namespaces, read from the API server. Reviews that come together share one read, its failure too: an
/// API server that admits many pods at once is not asked as often by the webhook.
pub struct NamespaceAnnotations {
    cluster: Cluster,
    held: Cache<String, Arc<BTreeMap<String, String>>>,
}

impl NamespaceAnnotations {
    /// Reads them with the webhook's rights.
    pub fn new(cluster: Cluster) -> Self {
        let held = Cache::builder().max_capacity(MAX_HELD).time_to_live(FRESH).build();
        Self { cluster, held }
    }

    async fn read(&self, namespace: &str) -> Result<Arc<BTreeMap<String, String>>, Fault> {
        let path = format!("/api/v1/namespaces/{namespace}");
        let object = match self.cluster.json(Method::GET, &path, None).await {
            Ok(object) => object,
            Err(fault) if fault.reason == Reason::NotFound => Value::Null,
            Err(fault) => return Err(fault),
        };
        Ok(Arc::new(crate::inject::pod::annotations(&object)))
    }
}

#[async_trait]
impl Namespaces for NamespaceAnnotations {
    async fn annotations(&self, namespace: &str) -> Result<BTreeMap<String, String>, Fault> {
        let read = self.held.try_get_with_by_ref(namespace, self.read(namespace)).await;
        read.map(|annotations| (*annotations).clone()).map_err(|fault| (*fault).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_handed_over_once() {
        let mut object = json!({ "webhooks": [
            { "clientConfig": { "service": {} } },
            { "clientConfig": { "caBundle": "b2xk" } },
        ] });
        assert!(hand_over(&mut object, &json!("bmV3")));
        assert!(!hand_over(&mut object, &json!("bmV3")));
        assert_eq!(object["webhooks"][1]["clientConfig"]["caBundle"], "bmV3");
    }
}
