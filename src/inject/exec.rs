//! Commands that are wrapped by `exec`, so that they find secrets in their environment.

use serde_json::{Value, json};

use super::{Mistake, annotations::whole, containers::BIN_DIRECTORY, settings::Settings};

/// The program in the wrapped container.
fn program() -> String {
    format!("{BIN_DIRECTORY}/secret-broker")
}

fn words(container: &Value) -> Vec<&str> {
    let command = container.get("command").and_then(Value::as_array);
    command.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Whether the container's command is wrapped already.
pub(super) fn is_wrapped(container: &Value) -> bool {
    words(container).first().is_some_and(|first| *first == program())
}

/// The wrapped command of a container, whether or not it is wrapped already.
///
/// # Errors
/// When the pod does not say what the container's command is.
pub(super) fn wrapped(
    settings: &Settings,
    name: &str,
    container: &Value,
) -> Result<Value, Mistake> {
    let mut words = words(container);
    if is_wrapped(container) {
        let own = words.iter().position(|word| *word == "--").map_or(words.len(), |at| at + 1);
        words.drain(..own);
    }
    if words.is_empty() {
        return Err(Mistake {
            place: whole("env"),
            found: format!("container {name} has no command"),
            accepted: "`exec` wraps a command, and cannot see the image's own: write it as the container's `command`"
                .to_owned(),
        });
    }
    let mut command = vec![program(), "exec".to_owned()];
    for (variable, from) in &settings.env {
        command.push("--env".to_owned());
        command.push(format!("{variable}={}.{}", from.secret, from.field));
    }
    command.extend(["--on-rotation".to_owned(), settings.on_rotation.clone(), "--".to_owned()]);
    command.extend(words.into_iter().map(str::to_owned));
    Ok(json!(command))
}
