//! A document, and the JSON Patch (RFC 6902) that led to it from what it was.

use serde::Serialize;
use serde_json::{Map, Value};

use super::lists;

/// One operation of a patch.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Op {
    /// Puts a value where none is, or into a list.
    Add {
        /// Where, as a JSON Pointer.
        path: String,
        /// What.
        value: Value,
    },
    /// Puts a value in the place of another.
    Replace {
        /// Where, as a JSON Pointer.
        path: String,
        /// What.
        value: Value,
    },
}

impl Op {
    /// Where it changes the document.
    pub fn path(&self) -> &str {
        match self {
            Self::Add { path, .. } | Self::Replace { path, .. } => path,
        }
    }
}

/// The keys that tell the elements of Kubernetes' lists apart.
const KEYS: [&str; 3] = ["mountPath", "name", "path"];

/// A document under change.
#[derive(Debug)]
pub(super) struct Edit {
    doc: Value,
    ops: Vec<Op>,
}

impl Edit {
    pub(super) fn of(doc: Value) -> Self {
        Self { doc, ops: Vec::new() }
    }

    pub(super) fn at(&self, path: &str) -> Option<&Value> {
        self.doc.pointer(path)
    }

    /// The elements of the list at the path; none where there is no list.
    pub(super) fn list(&self, path: &str) -> &[Value] {
        self.at(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    pub(super) fn into_ops(self) -> Vec<Op> {
        self.ops
    }

    /// Makes the value at the path hold at least what `wanted` holds: what is there besides, such as defaults that the API
    /// server filled in, stays.
    pub(super) fn cover(&mut self, path: &str, wanted: &Value) {
        match (self.at(path), wanted) {
            (None | Some(Value::Null), _) => self.set(path, wanted.clone()),
            (Some(Value::Object(_)), Value::Object(fields)) => {
                for (key, value) in fields {
                    self.cover(&format!("{path}/{}", escaped(key)), value);
                }
            }
            (Some(Value::Array(present)), Value::Array(elements)) => {
                match elements.iter().map(key).collect::<Option<Vec<_>>>() {
                    Some(keys) => {
                        for (element, (name, key)) in elements.iter().zip(keys) {
                            let same = |one: &Value| one.get(name) == Some(key);
                            match self.list(path).iter().position(same) {
                                Some(index) => self.cover(&format!("{path}/{index}"), element),
                                None => self.append(path, element.clone()),
                            }
                        }
                    }
                    None if present.len() == elements.len() => {
                        for (index, element) in elements.iter().enumerate() {
                            self.cover(&format!("{path}/{index}"), element);
                        }
                    }
                    None => self.set(path, wanted.clone()),
                }
            }
            (Some(present), wanted) if same(path, present, wanted) => {}
            _ => self.set(path, wanted.clone()),
        }
    }

    /// Puts an element into the list at the path, which is made where there is none.
    pub(super) fn insert(&mut self, path: &str, index: usize, value: Value) {
        let len = self.list(path).len();
        if !matches!(self.at(path), Some(Value::Array(_))) {
            return self.set(path, Value::Array(vec![value]));
        }
        let at = index.min(len);
        if let Some(Value::Array(list)) = self.doc.pointer_mut(path) {
            list.insert(at, value.clone());
        }
        let at = if at == len { "-".to_owned() } else { at.to_string() };
        self.ops.push(Op::Add { path: format!("{path}/{at}"), value });
    }

    /// Puts an element at the end of the list at the path; list and all above it are made where they are absent.
    pub(super) fn append(&mut self, path: &str, value: Value) {
        self.insert(path, usize::MAX, value);
    }

    /// Makes the value at the path exactly `wanted`.
    pub(super) fn cover_whole(&mut self, path: &str, wanted: &Value) {
        if self.at(path) != Some(wanted) {
            self.set(path, wanted.clone());
        }
    }

    /// Puts the value at the path, whatever is there. The objects above are made where they are absent.
    pub(super) fn set(&mut self, path: &str, value: Value) {
        let Some((above, last)) = path.rsplit_once('/') else { return };
        if !above.is_empty() && self.at(above).is_none_or(Value::is_null) {
            self.set(above, Value::Object(Map::new()));
        }
        let was = self.at(path).is_some();
        match self.doc.pointer_mut(above) {
            Some(Value::Object(object)) => drop(object.insert(unescaped(last), value.clone())),
            Some(Value::Array(elements)) => {
                let slot = last.parse().ok().and_then(|index: usize| elements.get_mut(index));
                let Some(slot) = slot else { return };
                *slot = value.clone();
            }
            _ => return,
        }
        let path = path.to_owned();
        self.ops.push(if was { Op::Replace { path, value } } else { Op::Add { path, value } });
    }
}

fn key(element: &Value) -> Option<(&'static str, &Value)> {
    KEYS.iter().find_map(|name| element.get(name).map(|value| (*name, value)))
}

/// Whether two values mean the same. The API server writes quantities in a form of its own.
fn same(path: &str, a: &Value, b: &Value) -> bool {
    let quantity = |value: &Value| value.as_str().and_then(lists::quantity);
    let is_quantity = path.contains("/resources/") || path.ends_with("/sizeLimit");
    a == b || (is_quantity && quantity(a).is_some() && quantity(a) == quantity(b))
}

/// A key as a part of a JSON Pointer.
pub(super) fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn unescaped(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}
