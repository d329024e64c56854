//! Admission reviews (`admission.k8s.io/v1`): what the API server asks, and what it is answered.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Mistake, Namespaces,
    adopted::Adopted,
    annotations::{self, Kind, PREFIX, whole},
    configuration::Identity,
    edit::Op,
    grants,
    metrics::{Metrics, Outcome},
    pod,
    settings::{self, Settings},
};
use crate::config::inject::InjectConfig;

const API_VERSION: &str = "admission.k8s.io/v1";

/// Which webhook is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The one that changes pods.
    Mutate,
    /// The one that refuses pods.
    Validate,
}

impl Door {
    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mutate => "mutate",
            Self::Validate => "validate",
        }
    }
}

/// A body that is no review; nothing in it is repeated.
#[derive(Debug, thiserror::Error)]
#[error("not an AdmissionReview of admission.k8s.io/v1: {0}")]
pub struct Malformed(String);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    kind: String,
    request: Option<Request>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    resource: Resource,
    #[serde(default)]
    sub_resource: Option<String>,
    #[serde(default)]
    namespace: String,
    operation: Operation,
    #[serde(default)]
    object: Value,
    #[serde(default)]
    old_object: Value,
    #[serde(default)]
    dry_run: Option<bool>,
}

impl Request {
    /// Whose pod it is.
    fn identity(&self) -> Identity {
        let account = self.object.pointer("/spec/serviceAccountName").and_then(Value::as_str);
        let account = account.filter(|name| !name.is_empty()).unwrap_or("default");
        Identity { namespace: self.namespace.clone(), service_account: account.to_owned() }
    }
}

#[derive(Debug, Deserialize)]
struct Resource {
    #[serde(default)]
    group: String,
    resource: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// What becomes of a pod.
enum Verdict {
    /// It passes, with these changes.
    Allowed { ops: Vec<Op>, warnings: Vec<String>, outcome: Outcome },
    /// It does not.
    Refused { code: u16, mistakes: Vec<Mistake>, outcome: Outcome },
}

impl Verdict {
    const fn passes(outcome: Outcome) -> Self {
        Self::Allowed { ops: Vec::new(), warnings: Vec::new(), outcome }
    }

    const fn refused(code: u16, mistakes: Vec<Mistake>) -> Self {
        Self::Refused { code, mistakes, outcome: Outcome::Refused }
    }
}

/// Whether a text is a DNS label, as names of namespaces are.
fn is_label(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(known)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Answers reviews.
pub struct Admission {
    config: Arc<ArcSwap<InjectConfig>>,
    namespaces: Arc<dyn Namespaces>,
    metrics: Arc<Metrics>,
}

impl Admission {
    /// Answers by the configuration that is in force at the time.
    pub fn new(
        config: Arc<ArcSwap<InjectConfig>>,
        namespaces: Arc<dyn Namespaces>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { config, namespaces, metrics }
    }

    /// The metrics it counts in.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The review that answers the one in `body`.
    ///
    /// # Errors
    /// When the body is no review.
    pub async fn answer(&self, door: Door, body: &[u8]) -> Result<Value, Malformed> {
        let review: Review = serde_json::from_slice(body).map_err(|error| {
            // Where, and not what: the message could repeat text of the body.
            Malformed(format!("not understood at line {}, column {}", error.line(), error.column()))
        })?;
        if review.api_version != API_VERSION || review.kind != "AdmissionReview" {
            return Err(Malformed("another apiVersion or kind".to_owned()));
        }
        let request = review.request.ok_or_else(|| Malformed("there is no request".to_owned()))?;
        let is_named = !request.namespace.is_empty() || request.resource.resource == "pods";
        if is_named && !is_label(&request.namespace) {
            // It becomes a part of a path at the API server.
            return Err(Malformed("the namespace is no DNS label".to_owned()));
        }
        let verdict = self.verdict(door, &request).await;
        let (outcome, allowed) = match &verdict {
            Verdict::Allowed { outcome, .. } => (*outcome, true),
            Verdict::Refused { outcome, .. } => (*outcome, false),
        };
        if !request.dry_run.unwrap_or(false) {
            self.metrics.reviewed(door, outcome, allowed);
        }
        Ok(answer(&request, verdict))
    }

    async fn verdict(&self, door: Door, request: &Request) -> Verdict {
        let is_pod = request.resource.group.is_empty()
            && request.resource.resource == "pods"
            && request.sub_resource.as_deref().unwrap_or_default().is_empty();
        if !is_pod || !request.object.is_object() {
            return Verdict::passes(Outcome::None);
        }
        let config = self.config.load_full();
        match request.operation {
            Operation::Create => self.created(door, request, &config).await,
            Operation::Update => self.updated(door, request, &config).await,
            Operation::Delete | Operation::Connect => Verdict::passes(Outcome::None),
        }
    }

    async fn created(&self, door: Door, request: &Request, config: &InjectConfig) -> Verdict {
        let pod = &request.object;
        let adopted = match Adopted::of(pod, &request.identity(), config) {
            Ok(adopted) => adopted,
            Err((code, mistakes)) => return Verdict::refused(code, mistakes),
        };
        let given = match self.given(request, &adopted, config).await {
            Ok(given) => given,
            Err(refused) => return refused,
        };
        match settings::asked(&given) {
            Err(mistake) => return Verdict::refused(400, vec![mistake]),
            Ok(false) => return passed(door, Outcome::Skipped),
            Ok(true) => {}
        }
        if config.webhook.excluded.contains(&request.namespace) {
            let told = format!(
                "{PREFIX}inject: not injected, since the webhook leaves namespace {} alone",
                request.namespace
            );
            let outcome = if door == Door::Validate { Outcome::Uninjected } else { Outcome::None };
            return Verdict::Allowed { ops: Vec::new(), warnings: vec![told], outcome };
        }
        if door == Door::Validate && !pod::is_injected(pod) {
            let mistake = Mistake {
                place: whole("inject"),
                found: "the pod asks for its secrets and was not injected".to_owned(),
                accepted: "the mutating webhook has to be registered, and see this pod".to_owned(),
            };
            let mistakes = vec![mistake];
            return Verdict::Refused { code: 403, mistakes, outcome: Outcome::Uninjected };
        }
        let mut wanted = match Wanted::of(request, &given, config) {
            Ok(wanted) => wanted,
            Err((code, mistakes)) => return Verdict::refused(code, adopted.told(mistakes)),
        };
        adopted.beside(&mut wanted.generated);
        match (door, pod::patch(pod, &wanted.settings, &wanted.generated)) {
            (_, Err(mistakes)) => Verdict::refused(400, adopted.told(mistakes)),
            (Door::Validate, Ok(_)) => match wanted.stands(pod) {
                Ok(()) => Verdict::passes(Outcome::None),
                Err(mistakes) => Verdict::refused(403, mistakes),
            },
            (Door::Mutate, Ok(patch)) => {
                let again = pod::is_injected(pod);
                let outcome = if again { Outcome::None } else { Outcome::Injected };
                let warnings = [adopted.warnings, patch.warnings].concat();
                Verdict::Allowed { ops: patch.ops, warnings, outcome }
            }
        }
    }

    /// A pod that exists already: only what reaches a running sidecar may change.
    async fn updated(&self, door: Door, request: &Request, config: &InjectConfig) -> Verdict {
        let (old, new) = (&request.old_object, &request.object);
        let changed = changed(&pod::annotations(old), &pod::annotations(new));
        let is_left_alone = config.webhook.excluded.contains(&request.namespace);
        if changed.is_empty() || is_left_alone {
            return Verdict::passes(Outcome::None);
        }
        let before = pod::annotations(old);
        let settled = changed.iter().filter(|name| {
            let known = name.strip_prefix(PREFIX).and_then(annotations::find);
            known.is_none_or(|(annotation, _)| {
                // Which files there are is mounted; what their templates say is live.
                let is_other_file = annotation.name == "template."
                    && before.contains_key(*name) != pod::annotations(new).contains_key(*name);
                annotation.kind == Kind::Settled
                    || is_other_file
                    || matches!(annotation.name, "status" | "version")
            })
        });
        let mut mistakes: Vec<_> = settled
            .map(|name| Mistake {
                place: name.clone(),
                found: "changed on a pod that exists".to_owned(),
                accepted: "it is read when a pod is made: change the template of its workload"
                    .to_owned(),
            })
            .collect();
        if !pod::is_injected(old) {
            // Nothing is mounted that could follow.
            return if mistakes.is_empty() {
                Verdict::passes(Outcome::None)
            } else {
                Verdict::refused(400, mistakes)
            };
        }
        let given = match self.given(request, &Adopted::default(), config).await {
            Ok(given) => given,
            Err(refused) => return refused,
        };
        match Wanted::of(request, &given, config) {
            Err((code, more)) => {
                mistakes.extend(more);
                Verdict::refused(code, mistakes)
            }
            Ok(_) if !mistakes.is_empty() => Verdict::refused(400, mistakes),
            Ok(wanted) if door == Door::Validate => match wanted.stands(new) {
                Ok(()) => Verdict::passes(Outcome::None),
                Err(mistakes) => Verdict::refused(403, mistakes),
            },
            Ok(wanted) => {
                let ops = pod::patch_annotations(new, &wanted.generated);
                Verdict::Allowed { ops, warnings: Vec::new(), outcome: Outcome::None }
            }
        }
    }

    /// What holds for the pod: its annotations with those that it was adopted by, and its namespace's.
    async fn given(
        &self,
        request: &Request,
        adopted: &Adopted,
        config: &InjectConfig,
    ) -> Result<BTreeMap<String, String>, Verdict> {
        let mut own = pod::annotations(&request.object);
        adopted.beside(&mut own);
        if config.webhook.excluded.contains(&request.namespace) {
            return Ok(own);
        }
        match self.namespaces.annotations(&request.namespace).await {
            Ok(namespace) => Ok(settings::effective(&own, namespace)),
            Err(fault) => {
                tracing::warn!(%fault, namespace = request.namespace, "a namespace can't be read");
                let mistake = Mistake {
                    place: format!("namespace {}", request.namespace),
                    found: format!("its annotations can't be read: {fault}"),
                    accepted: "try again".to_owned(),
                };
                Err(Verdict::refused(503, vec![mistake]))
            }
        }
    }
}

/// Pods that pass are counted once, by the webhook that sees them first.
const fn passed(door: Door, outcome: Outcome) -> Verdict {
    match door {
        Door::Mutate => Verdict::passes(outcome),
        Door::Validate => Verdict::passes(Outcome::None),
    }
}

/// What a pod should have.
struct Wanted {
    settings: Settings,
    generated: BTreeMap<String, String>,
}

impl Wanted {
    fn of(
        request: &Request,
        given: &BTreeMap<String, String>,
        config: &InjectConfig,
    ) -> Result<Self, (u16, Vec<Mistake>)> {
        let pod = &request.object;
        let host_network = pod::uses_host_network(pod);
        let settings =
            Settings::read(given, &config.sidecar, host_network).map_err(|all| (400, all))?;
        let identity = request.identity();
        grants::check(config, &identity, &settings).map_err(|all| (403, all))?;
        let generated = pod::generated(&settings, given, &identity, &config.secrets)
            .map_err(|all| (400, all))?;
        Ok(Self { settings, generated })
    }

    /// Whether the pod carries exactly what was generated, so that nobody wrote the sidecar's configuration by hand.
    fn stands(&self, pod: &Value) -> Result<(), Vec<Mistake>> {
        let present = pod::annotations(pod);
        let differs = self.generated.iter().filter(|(name, text)| present.get(*name) != Some(text));
        let mistakes: Vec<_> = differs
            .map(|(name, _)| Mistake {
                place: name.clone(),
                found: "not what the webhook writes for this pod".to_owned(),
                accepted: "leave it to the webhook".to_owned(),
            })
            .collect();
        if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
    }
}

/// The annotations of ours in which two objects differ.
fn changed(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<String> {
    let ours = |name: &&String| name.starts_with(PREFIX);
    let mut names: Vec<_> = old.keys().chain(new.keys()).filter(ours).cloned().collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| old.get(name) != new.get(name));
    names
}

fn answer(request: &Request, verdict: Verdict) -> Value {
    let mut response = json!({ "uid": request.uid, "allowed": true });
    let mut put = |key: &str, value: Value| {
        if let Some(response) = response.as_object_mut() {
            response.insert(key.to_owned(), value);
        }
    };
    match verdict {
        Verdict::Allowed { ops, warnings, .. } => {
            if !ops.is_empty() {
                put("patchType", json!("JSONPatch"));
                // Operations are JSON already.
                put("patch", json!(STANDARD.encode(json!(ops).to_string())));
            }
            if !warnings.is_empty() {
                put("warnings", json!(warnings));
            }
        }
        Verdict::Refused { code, mistakes, .. } => {
            let reason = match code {
                403 => "Forbidden",
                503 => "ServiceUnavailable",
                _ => "BadRequest",
            };
            put("allowed", json!(false));
            put(
                "status",
                json!({ "code": code, "reason": reason, "message": told(request, &mistakes) }),
            );
        }
    }
    json!({ "apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response })
}

/// All mistakes for whoever made the pod.
fn told(request: &Request, mistakes: &[Mistake]) -> String {
    let n = mistakes.len();
    let plural = if n == 1 { "" } else { "s" };
    let mut text = format!("secret-broker refuses this pod for {n} mistake{plural}:");
    for mistake in mistakes {
        text.push_str("\n  ");
        text.push_str(&mistake.to_string());
    }
    let namespace = &request.namespace;
    tracing::info!(namespace, mistakes = n, why = text, "a pod was refused");
    text
}
