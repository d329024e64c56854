//! Manifests: where pods are described in them, and what becomes of those.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{Difference, PREFIX, translation};
use crate::{config::raw, inject::pod};

/// What became of manifests.
#[derive(Debug, Default)]
pub struct Migrated {
    /// The manifests, translated.
    pub documents: Vec<Value>,
    /// The annotations of each pod, by what it belongs to.
    pub annotations: Vec<(String, BTreeMap<String, String>)>,
    /// The entries that the catalogue needs.
    pub secrets: BTreeMap<String, raw::Secret>,
    /// Who needs them: namespace and service account.
    pub identities: BTreeSet<(String, String)>,
    /// What differs, by what it belongs to.
    pub differences: Vec<(String, Difference)>,
}

impl Migrated {
    /// Translates the documents of a YAML text.
    ///
    /// # Errors
    /// Where the text is not YAML; nothing of it is repeated.
    pub fn read(&mut self, text: &str) -> Result<(), String> {
        let documents = serde_saphyr::from_multiple::<Value>(text).map_err(|error| {
            let place = error
                .location()
                .map(|at| format!(" at line {}, column {}", at.line(), at.column()));
            format!("not YAML{}", place.unwrap_or_default())
        })?;
        for mut document in documents {
            if document.is_null() {
                continue;
            }
            self.document(&mut document);
            self.documents.push(document);
        }
        Ok(())
    }

    fn document(&mut self, document: &mut Value) {
        if let Some(items) = document.get_mut("items").and_then(Value::as_array_mut) {
            for item in items {
                self.document(item);
            }
            return;
        }
        let text =
            |pointer: &str| document.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let kind = text("/kind").to_owned();
        let name = format!("{kind} {}", text("/metadata/name"));
        let namespace = Some(text("/metadata/namespace"))
            .filter(|n| !n.is_empty())
            .unwrap_or("default")
            .to_owned();
        if kind == "Pod" {
            return self.pod(&name, &namespace, document);
        }
        let misplaced =
            pod::annotations(document).into_keys().filter(|name| name.starts_with(PREFIX));
        for annotation in misplaced.collect::<Vec<_>>() {
            let what = "stands on the workload and not on its pod template, where it has no effect"
                .to_owned();
            self.differences.push((name.clone(), Difference { annotation, what }));
        }
        for template in ["/spec/template", "/spec/jobTemplate/spec/template"] {
            if let Some(template) = document.pointer_mut(template) {
                self.pod(&name, &namespace, template);
            }
        }
    }

    fn pod(&mut self, name: &str, namespace: &str, pod: &mut Value) {
        let Some(translation) = translation(&pod::annotations(pod)) else { return };
        if let Some(Value::Object(all)) = pod.pointer_mut("/metadata/annotations") {
            let kept =
                std::mem::take(all).into_iter().filter(|(name, _)| !name.starts_with(PREFIX));
            let ours =
                translation.annotations.iter().map(|(name, text)| (name.clone(), json!(text)));
            *all = kept.chain(ours).collect::<Map<_, _>>();
        }
        let account = pod.pointer("/spec/serviceAccountName").and_then(Value::as_str);
        self.identities.insert((namespace.to_owned(), account.unwrap_or("default").to_owned()));
        self.annotations.push((name.to_owned(), translation.annotations));
        let differences = translation.differences.into_iter();
        self.differences.extend(differences.map(|difference| (name.to_owned(), difference)));
        for (secret, entry) in translation.secrets {
            let same = |one: &raw::Secret| json!(one) == json!(entry);
            if self.secrets.get(&secret).is_some_and(|present| !same(present)) {
                let annotation = format!("{PREFIX}agent-inject-secret-{secret}");
                let what = format!(
                    "another pod gives the name {secret} to another secret: rename one, with LOCAL=NAME in secrets"
                );
                self.differences.push((name.to_owned(), Difference { annotation, what }));
            } else {
                self.secrets.insert(secret, entry);
            }
        }
    }
}
