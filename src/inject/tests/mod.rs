//! Annotations, patches and reviews, without a cluster.

mod adopted;
mod annotations;
mod certificates;
mod migrate;
mod patches;
mod reviews;

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    Mistake, Namespaces,
    annotations::whole,
    configuration::Identity,
    edit::Op,
    metrics::Metrics,
    pod,
    review::{Admission, Door},
    settings::Settings,
};
use crate::{config::inject::InjectConfig, domain::fault::Fault};

const CONFIG: &str = r#"
[webhook]
service = "secret-broker-webhook"
namespace = "secret-broker"
certificate.directory = "/certificates"
[sidecar]
image = "registry.example/secret-broker:1"
[sidecar.vault]
address = "https://vault.example:8200"
[sidecar.vault.auth]
method = "kubernetes"
role = "{namespace}-{service_account}"
[secrets.DB]
category = "database"
store = "vault"
engine = "database"
role = "app"
[secrets.API_KEY]
category = "application"
store = "vault"
engine = "kv2"
path = "api-key"
[secrets.PAYMENTS]
category = "payments"
store = "vault"
engine = "kv2"
path = "payments"
[[grant]]
namespaces = ["shop"]
service_accounts = ["api"]
secrets = ["API_KEY"]
categories = ["database"]
[[grant]]
namespaces = ["lab-*"]
service_accounts = ["*"]
secrets = ["DB"]
own_configuration = true
"#;

fn config() -> InjectConfig {
    InjectConfig::parse(CONFIG, "inject.toml", &|_| None).expect("a configuration").0
}

fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, text)| (whole(name), (*text).to_owned())).collect()
}

fn identity() -> Identity {
    Identity { namespace: "shop".into(), service_account: "api".into() }
}

/// A pod as the API server shows it to a webhook, with these annotations.
fn pod_with(pairs: &[(&str, &str)]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "generateName": "api-", "namespace": "shop", "annotations": given(pairs) },
        "spec": {
            "serviceAccountName": "api",
            "restartPolicy": "Always",
            "initContainers": [{ "name": "migrate", "image": "app" }],
            "containers": [
                { "name": "app", "image": "app", "command": ["/app", "serve"], "env": [{ "name": "A", "value": "1" }] },
                { "name": "proxy", "image": "proxy" },
            ],
        },
    })
}

/// The patch of a pod and the patched pod, or the mistakes.
fn patched(pod: &Value) -> Result<(Vec<Op>, Value), Vec<Mistake>> {
    let config = config();
    let given = pod::annotations(pod);
    let settings = Settings::read(&given, &config.sidecar, pod::uses_host_network(pod))?;
    let generated = pod::generated(&settings, &given, &identity(), &config.secrets)?;
    let ops = pod::patch(pod, &settings, &generated)?.ops;
    let after = applied(pod, &json!(ops));
    Ok((ops, after))
}

/// A document after a patch, as somebody else applies it.
fn applied(document: &Value, patch: &Value) -> Value {
    let mut document = document.clone();
    let patch: json_patch::Patch = serde_json::from_value(patch.clone()).expect("a JSON Patch");
    json_patch::patch(&mut document, &patch).expect("it applies");
    document
}

struct Defaults(BTreeMap<String, String>);

#[async_trait]
impl Namespaces for Defaults {
    async fn annotations(&self, _: &str) -> Result<BTreeMap<String, String>, Fault> {
        Ok(self.0.clone())
    }
}

/// A webhook, and what its namespaces say.
fn admission(namespace: &[(&str, &str)]) -> (Admission, Arc<Metrics>) {
    admission_of(config(), namespace)
}

fn admission_of(config: InjectConfig, namespace: &[(&str, &str)]) -> (Admission, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new());
    let config = Arc::new(ArcSwap::from_pointee(config));
    let defaults = Arc::new(Defaults(given(namespace)));
    (Admission::new(config, defaults, Arc::clone(&metrics)), metrics)
}

/// What a review of a pod is answered.
async fn asked(admission: &Admission, door: Door, old: Option<&Value>, pod: &Value) -> Value {
    let namespace = &pod["metadata"]["namespace"];
    let operation = if old.is_some() { "UPDATE" } else { "CREATE" };
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "namespace": namespace, "operation": operation,
            "object": pod, "oldObject": old, "dryRun": false,
        },
    });
    let answer = admission.answer(door, review.to_string().as_bytes()).await.expect("an answer");
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
    answer["response"].clone()
}

/// The pod after an answer.
fn after(pod: &Value, response: &Value) -> Value {
    assert_eq!(response["allowed"], true, "{response}");
    let Some(patch) = response["patch"].as_str() else { return pod.clone() };
    assert_eq!(response["patchType"], "JSONPatch");
    let patch = STANDARD.decode(patch).expect("base64");
    applied(pod, &serde_json::from_slice(&patch).expect("JSON"))
}
