//! Renders a template over the secrets that are held.
//!
//! - What is undefined is an error, never an empty place in a file.
//! - An error names the template and the line and never what stands there, as that may be a value.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use minijinja::{
    AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value,
    syntax::SyntaxConfig,
    value::{Enumerator, Object},
};
use secret_broker_client::Secret;
use zeroize::Zeroizing;

use super::super::{Failure, binding, failure::USAGE};

/// The secrets by name.
pub(super) type Held = BTreeMap<String, Arc<Secret>>;

/// What came of rendering.
pub(super) enum Rendered {
    /// The content, and the secrets that it was made from.
    Done(Zeroizing<String>, BTreeSet<String>),
    /// These have to be fetched first.
    Needs(BTreeSet<String>),
}

/// What the template asked for while it was rendered.
#[derive(Debug, Default)]
struct Asked {
    names: BTreeSet<String>,
    missing_field: Option<String>,
}

/// Renders `source`, which errors call `name`.
pub(super) fn render(name: &str, source: &str, held: &Held) -> Result<Rendered, Failure> {
    let asked = Arc::new(Mutex::new(Asked::default()));
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    if let Ok(syntax) = SyntaxConfig::builder().keep_trailing_newline(true).build() {
        environment.set_syntax(syntax);
    }
    let (secrets, record) = (held.clone(), Arc::clone(&asked));
    environment.add_function("secret", move |name: String| {
        let found = secrets.get(&name).map(Arc::clone);
        lock(&record).names.insert(name);
        match found {
            Some(secret) => Ok(Value::from_object(Fields { secret, asked: Arc::clone(&record) })),
            None => Err(minijinja::Error::new(ErrorKind::InvalidOperation, "not held yet")),
        }
    });
    let rendered = environment
        .template_from_named_str(name, source)
        .and_then(|template| template.render(()))
        .map(Zeroizing::new);
    let asked = std::mem::take(&mut *lock(&asked));
    let needed: BTreeSet<_> =
        asked.names.iter().filter(|name| !held.contains_key(*name)).cloned().collect();
    match rendered {
        _ if !needed.is_empty() => Ok(Rendered::Needs(needed)),
        Ok(content) => Ok(Rendered::Done(content, asked.names)),
        Err(error) => Err(explain(name, &error, asked.missing_field)),
    }
}

fn explain(name: &str, error: &minijinja::Error, missing_field: Option<String>) -> Failure {
    let line = error.line().map(|line| format!(", line {line}")).unwrap_or_default();
    let detail = match error.kind() {
        ErrorKind::UndefinedError => missing_field,
        // Before anything is rendered, no value can stand in an error.
        ErrorKind::SyntaxError => error.detail().map(ToOwned::to_owned),
        _ => None,
    };
    let detail = detail.map(|detail| format!(": {detail}")).unwrap_or_default();
    Failure::new(USAGE, format!("template {name}{line}: {}{detail}", error.kind()))
}

/// A secret in a template: its fields by name.
struct Fields {
    secret: Arc<Secret>,
    asked: Arc<Mutex<Asked>>,
}

impl std::fmt::Debug for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("secret(redacted)")
    }
}

impl Object for Fields {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let field = key.as_str()?;
        let Some(bytes) = self.secret.field(field) else {
            lock(&self.asked).missing_field = binding::missing(&self.secret, field).message;
            return None;
        };
        Some(match std::str::from_utf8(bytes) {
            Ok(text) => Value::from(text),
            Err(_) => Value::from_bytes(bytes.to_vec()),
        })
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.secret.fields().map(|(name, _)| Value::from(name)).collect())
    }
}

fn lock(asked: &Mutex<Asked>) -> std::sync::MutexGuard<'_, Asked> {
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}
