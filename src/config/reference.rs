//! The JSON Schema of the configuration, and the reference table generated from it.

use std::fmt::{self, Write};

use serde_json::{Map, Value};

use super::raw;

/// The JSON Schema of a configuration file.
pub fn schema() -> Value {
    schemars::schema_for!(raw::File).to_value()
}

/// Every key with its default, its accepted values and its meaning, as Markdown tables.
///
/// # Errors
/// Never in practice: writing to a string does not fail.
pub fn reference() -> Result<String, fmt::Error> {
    let schema = schema();
    let mut out = String::new();
    let page = Page { root: &schema };
    page.section(&mut out, "", &schema)?;
    Ok(out)
}

struct Page<'a> {
    root: &'a Value,
}

impl<'a> Page<'a> {
    /// The table of one section, then the sections below it.
    fn section(&self, out: &mut String, path: &str, schema: &'a Value) -> fmt::Result {
        let empty = Map::new();
        let keys = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        let (below, here): (Vec<_>, Vec<_>) = keys
            .iter()
            .map(|(name, key)| (name, key, self.below(path, name, key)))
            .partition(|(_, _, below)| below.is_some());
        if path.is_empty() {
            writeln!(out, "## Keys of the file itself\n")?;
        } else {
            writeln!(out, "## `{path}`\n")?;
            writeln!(out, "{}\n", line(text(schema, "description")))?;
        }
        if !here.is_empty() {
            writeln!(out, "| key | default | accepted | meaning |\n|---|---|---|---|")?;
            for (name, key, _) in here {
                let default = default(key);
                let meaning = line(text(key, "description"));
                writeln!(out, "| `{name}` | {default} | {} | {meaning} |", accepted(key))?;
            }
            writeln!(out)?;
        }
        for (_, key, below) in below {
            let Some((path, schema)) = below else { continue };
            let mut schema = schema.clone();
            let own = text(key, "description");
            if let (false, Some(object)) = (own.is_empty(), schema.as_object_mut()) {
                object.insert("description".to_owned(), own.into());
            }
            Page { root: self.root }.section(out, &path, &schema)?;
        }
        Ok(())
    }

    /// The schema of the section that a key opens, and its name.
    fn below(&self, path: &str, name: &str, key: &'a Value) -> Option<(String, &'a Value)> {
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        if let Some(section) = self.resolve(key) {
            return Some((
                format!("[{}]", path.trim_matches(['[', ']'])).replace("].", "."),
                section,
            ));
        }
        if let Some(section) = key.get("items").and_then(|items| self.resolve(items)) {
            return Some((format!("[[{path}]]"), section));
        }
        let section = key.get("additionalProperties").and_then(|each| self.resolve(each))?;
        Some((format!("[{}.NAME]", path.replace(['[', ']'], "")), section))
    }

    /// The definition that a schema refers to.
    fn resolve(&self, schema: &'a Value) -> Option<&'a Value> {
        let refers = |schema: &'a Value| {
            let name = schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/")?;
            self.root.get("$defs")?.get(name)
        };
        let any = |schema: &'a Value| schema.get("anyOf")?.as_array()?.iter().find_map(refers);
        refers(schema).or_else(|| any(schema))
    }
}

fn text<'a>(schema: &'a Value, name: &str) -> &'a str {
    schema.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// One line for a cell of a table.
fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn default(key: &Value) -> String {
    match key.get("default") {
        None | Some(Value::Null) => "none".to_owned(),
        Some(Value::Array(items)) if items.is_empty() => "empty".to_owned(),
        Some(Value::Object(items)) if items.is_empty() => "empty".to_owned(),
        Some(value) => format!("`{value}`"),
    }
}

fn accepted(key: &Value) -> String {
    if let Some(choices) = choices(key) {
        return choices.join(", ");
    }
    let bound =
        |name: &str| key.get(name).map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
    if let (Some(min), Some(max)) = (bound("x-minimum"), bound("x-maximum")) {
        return format!("a time from {min} to {max}");
    }
    if let (Some(min), Some(max)) = (bound("minimum"), bound("maximum")) {
        return format!("a number from {min} to {max}");
    }
    match kind(key) {
        _ if key.get("x-form").is_some() => text(key, "x-form").to_owned(),
        "boolean" => "`true`, `false`".to_owned(),
        "array" => {
            let each = key.get("items").and_then(choices);
            each.map_or_else(
                || "a list of texts".to_owned(),
                |each| format!("a list of {}", each.join(", ")),
            )
        }
        "object" => "a table of texts".to_owned(),
        _ => "text".to_owned(),
    }
}

fn kind(key: &Value) -> &str {
    match key.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => kinds.first().and_then(Value::as_str).unwrap_or_default(),
        _ => "",
    }
}

/// The names of a closed choice, however deep the schema hides them.
fn choices(key: &Value) -> Option<Vec<String>> {
    let quoted = |value: &Value| value.as_str().map(|name| format!("`\"{name}\"`"));
    if let Some(names) = key.get("enum").and_then(Value::as_array) {
        return Some(names.iter().filter_map(quoted).collect());
    }
    let any = key.get("anyOf").or_else(|| key.get("oneOf"))?.as_array()?;
    let names = any
        .iter()
        .filter_map(|one| {
            one.get("const").and_then(quoted).map(|n| vec![n]).or_else(|| choices(one))
        })
        .flatten()
        .collect::<Vec<_>>();
    (!names.is_empty()).then_some(names)
}
