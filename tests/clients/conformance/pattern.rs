//! Patterns that answers are compared with, and the names that they bind.
//!
//! A pattern is JSON: an object matches one with at least its keys, `null` also a missing key; the strings and objects
//! that begin with `$` are described in `tests/conformance/README.md`.

use std::collections::BTreeMap;

use serde_json::Value;

/// What names stand for.
pub type Names = BTreeMap<String, Value>;

/// Puts what names stand for in the place of `$name` and `$name.key`.
pub fn fill(template: &Value, names: &Names) -> Result<Value, String> {
    Ok(match template {
        Value::String(text) => match text.strip_prefix('$') {
            Some(path) => {
                let mut parts = path.split('.');
                let first = parts.next().unwrap_or_default();
                let found = names.get(first).ok_or_else(|| format!("nothing is named {first}"))?;
                parts.fold(found, |value, key| &value[key]).clone()
            }
            None => template.clone(),
        },
        Value::Array(all) => {
            all.iter().map(|each| fill(each, names)).collect::<Result<Vec<_>, _>>()?.into()
        }
        Value::Object(all) => {
            let filled = all.iter().map(|(key, each)| Ok((key.clone(), fill(each, names)?)));
            Value::Object(filled.collect::<Result<_, String>>()?)
        }
        other => other.clone(),
    })
}

/// Compares, and binds names; the error says what differs and where.
pub fn compare(pattern: &Value, found: &Value, names: &mut Names) -> Result<(), String> {
    match pattern {
        Value::String(text) if text.starts_with('$') => special(text, found, names),
        Value::Object(pattern) => {
            if let Some((test, wanted)) = pattern.iter().find(|(key, _)| key.starts_with('$')) {
                return tested(test, wanted, found, names);
            }
            for (key, wanted) in pattern {
                let value = found.get(key).unwrap_or(&Value::Null);
                compare(wanted, value, names).map_err(|error| format!("{key}: {error}"))?;
            }
            found.is_object().then_some(()).ok_or_else(|| differs("an object", found))
        }
        Value::Array(pattern) => {
            let found = found.as_array().ok_or_else(|| differs("an array", found))?;
            if pattern.len() != found.len() {
                return Err(format!("{} elements, not {}", found.len(), pattern.len()));
            }
            let mut pairs = pattern.iter().zip(found);
            pairs.try_for_each(|(pattern, found)| compare(pattern, found, names))
        }
        _ if pattern == found => Ok(()),
        _ => Err(differs(&pattern.to_string(), found)),
    }
}

fn special(pattern: &str, found: &Value, names: &mut Names) -> Result<(), String> {
    let holds = match pattern {
        "$any" => !found.is_null(),
        "$number" => found.is_number(),
        "$text" => found.as_str().is_some_and(|text| !text.is_empty()),
        _ => {
            if let Some(name) = pattern.strip_prefix("$=") {
                names.insert(name.to_owned(), found.clone());
                return if found.is_null() { Err(differs("something", found)) } else { Ok(()) };
            }
            let wanted = fill(&Value::String(pattern.to_owned()), names)?;
            return compare(&wanted, found, names);
        }
    };
    holds.then_some(()).ok_or_else(|| differs(pattern, found))
}

fn tested(test: &str, wanted: &Value, found: &Value, names: &mut Names) -> Result<(), String> {
    match test {
        "$one_of" => {
            let any = wanted.as_array().into_iter().flatten();
            let mut any = any.map(|pattern| compare(pattern, found, names));
            any.any(|compared| compared.is_ok())
        }
        "$not" => compare(wanted, found, names).is_err(),
        "$greater" => found.as_u64() > fill(wanted, names)?.as_u64(),
        "$includes" => {
            let elements = found.as_array().ok_or_else(|| differs("an array", found))?;
            for pattern in wanted.as_array().into_iter().flatten() {
                if !elements.iter().any(|element| compare(pattern, element, names).is_ok()) {
                    return Err(format!("no {pattern} in {found}"));
                }
            }
            true
        }
        "$without" => {
            let shown = found.as_str().ok_or_else(|| differs("a text", found))?;
            let mut parts = wanted.as_array().into_iter().flatten();
            // The text may hold the value, and is not repeated here.
            !parts.any(|part| part.as_str().is_some_and(|part| shown.contains(part)))
        }
        other => return Err(format!("no such test: {other}")),
    }
    .then_some(())
    .ok_or_else(|| match test {
        "$without" => format!("it contains one of {wanted}"),
        _ => differs(&format!("{test} {wanted}"), found),
    })
}

fn differs(wanted: &str, found: &Value) -> String {
    format!("{found} is not {wanted}")
}
