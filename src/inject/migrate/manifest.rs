//! Manifests: where pods are described in them, and what becomes of those.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{Asked, Difference, Felt, PREFIX, free, translation};
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
    /// Who reads which of them, by namespace and service account.
    pub grants: BTreeMap<(String, String), BTreeSet<String>>,
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
            let felt = Felt::Yes;
            self.differences.push((name.clone(), Difference { annotation, what, felt }));
        }
        for template in ["/spec/template", "/spec/jobTemplate/spec/template"] {
            if let Some(template) = document.pointer_mut(template) {
                self.pod(&name, &namespace, template);
            }
        }
    }

    fn pod(&mut self, name: &str, namespace: &str, pod: &mut Value) {
        let Some(mut translation) = translation(&pod::annotations(pod)) else { return };
        let asked = std::mem::take(&mut translation.secrets);
        let entries = asked.into_iter().map(|(local, asked)| {
            let entry = self.entry(&local, &asked);
            (local, entry)
        });
        let entries: BTreeMap<_, _> = entries.collect();
        translation.name(&entries);
        if let Some(Value::Object(all)) = pod.pointer_mut("/metadata/annotations") {
            let kept =
                std::mem::take(all).into_iter().filter(|(name, _)| !name.starts_with(PREFIX));
            let ours =
                translation.annotations.iter().map(|(name, text)| (name.clone(), json!(text)));
            *all = kept.chain(ours).collect::<Map<_, _>>();
        }
        if !entries.is_empty() {
            let account = pod.pointer("/spec/serviceAccountName").and_then(Value::as_str);
            let identity = (namespace.to_owned(), account.unwrap_or("default").to_owned());
            self.grants.entry(identity).or_default().extend(entries.into_values());
        }
        self.annotations.push((name.to_owned(), translation.annotations));
        let differences = translation.differences.into_iter();
        self.differences.extend(differences.map(|difference| (name.to_owned(), difference)));
    }

    /// The catalogue's name for what a pod reads: the pod's own name for it, unless another pod calls another secret so.
    fn entry(&mut self, local: &str, asked: &Asked) -> String {
        let entry = asked.called.entry();
        let is_same = |name: &str| self.secrets.get(name).map(|there| json!(there) == json!(entry));
        let name = free(local, |name| is_same(name) == Some(false));
        self.secrets.entry(name.clone()).or_insert(entry);
        name
    }
}
