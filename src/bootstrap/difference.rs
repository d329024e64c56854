//! What tells what is there from what should be, line by line.

use serde_json::{Map, Value};

use super::{Object, State};

/// Lists whose order means nothing to Vault.
const SETS: [&str; 5] = [
    "bound_service_account_names",
    "bound_service_account_namespaces",
    "token_policies",
    "allowed_roles",
    "allowed_policies_glob",
];

/// Compares texts by their lines.
pub(super) fn of_texts(there: Option<&str>, wanted: &str) -> State {
    let lines =
        |text: &str| text.trim().lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
    let wanted = lines(wanted);
    let Some(there) = there.map(lines) else {
        return State::Missing(wanted.iter().map(|line| format!("+ {line}")).collect());
    };
    if there == wanted {
        return State::Right;
    }
    State::Different(merged(&there, &wanted))
}

/// Compares the fields that are wanted; what else is there is left as it is. `fields` are what it shall have then.
pub(super) fn of_fields(
    there: Option<&Map<String, Value>>,
    fields: &Map<String, Value>,
    object: &Object<'_>,
) -> State {
    let Some(there) = there else {
        let fields = fields.iter().map(|(name, value)| format!("+ {}", shown(name, value)));
        let credential = object.credential.map(|hidden| format!("+ {} = (not shown)", hidden.name));
        return State::Missing(fields.chain(credential).collect());
    };
    let mut lines = Vec::new();
    for (name, value) in fields {
        let found = there.get(name);
        if found.is_some_and(|found| same(name, found, value)) {
            continue;
        }
        if let Some(found) = found.filter(|found| !is_nothing(found)) {
            if object.owner == Some(name) {
                return State::Taken(format!("{} is there", shown(name, found)));
            }
            lines.push(format!("- {}", shown(name, found)));
        }
        lines.push(format!("+ {}", shown(name, value)));
    }
    if lines.is_empty() { State::Right } else { State::Different(lines) }
}

/// A field as people are told of it.
fn shown(name: &str, value: &Value) -> String {
    match value {
        // A certificate, by its first line.
        Value::String(text) if text.contains('\n') => {
            format!("{name} = {} …", text.lines().next().unwrap_or_default())
        }
        value => format!("{name} = {value}"),
    }
}

fn is_nothing(value: &Value) -> bool {
    value.is_null() || value.as_str().is_some_and(str::is_empty)
}

fn same(name: &str, there: &Value, wanted: &Value) -> bool {
    match (there, wanted) {
        (Value::Array(there), Value::Array(wanted)) if SETS.contains(&name) => {
            there.len() == wanted.len() && wanted.iter().all(|value| there.contains(value))
        }
        // Nothing is answered as nothing or as an empty list.
        (Value::Null, Value::Array(wanted)) => wanted.is_empty(),
        (Value::String(there), Value::String(wanted)) => there.trim() == wanted.trim(),
        _ => there == wanted,
    }
}

/// Both texts as one, by their longest common lines.
fn merged(there: &[String], wanted: &[String]) -> Vec<String> {
    let width = wanted.len() + 1;
    let mut common = vec![0_usize; (there.len() + 1) * width];
    let at = |common: &[usize], i: usize, j: usize| common.get(i * width + j).copied().unwrap_or(0);
    for (i, old) in there.iter().enumerate().rev() {
        for (j, new) in wanted.iter().enumerate().rev() {
            let best = if old == new {
                at(&common, i + 1, j + 1) + 1
            } else {
                at(&common, i + 1, j).max(at(&common, i, j + 1))
            };
            if let Some(cell) = common.get_mut(i * width + j) {
                *cell = best;
            }
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    loop {
        match (there.get(i), wanted.get(j)) {
            (Some(old), Some(new)) if old == new => (i, j) = (i + 1, j + 1),
            (Some(old), new) if new.is_none() || at(&common, i + 1, j) >= at(&common, i, j + 1) => {
                lines.push(format!("- {old}"));
                i += 1;
            }
            (_, Some(new)) => {
                lines.push(format!("+ {new}"));
                j += 1;
            }
            _ => return lines,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_lines_that_differ_are_shown() {
        let state = of_texts(Some("a\nb\nc\n"), "a\nc\nd\n");
        assert_eq!(state, State::Different(vec!["- b".to_owned(), "+ d".to_owned()]));
        assert_eq!(of_texts(Some(" a\n\n"), "a\n"), State::Right);
        assert_eq!(of_texts(None, "a\n"), State::Missing(vec!["+ a".to_owned()]));
    }

    #[test]
    fn fields_are_compared_as_vault_means_them() {
        let Value::Object(fields) =
            json!({ "token_policies": ["a", "b"], "username": "vault", "ttl": 60 })
        else {
            unreachable!("an object")
        };
        let nested: Option<(&str, &[&str])> = Some(("connection_details", &["username"]));
        let object = Object { path: "x".to_owned(), fields, nested, ..Object::default() };
        let of_fields = |there: &Value| {
            of_fields(Some(&crate::bootstrap::flat(there, &object)), &object.fields, &object)
        };
        let there = json!({
            "token_policies": ["b", "a"],
            "ttl": 60,
            "more": 1,
            "connection_details": { "username": "vault" },
        });
        assert_eq!(of_fields(&there), State::Right);
        let there = json!({ "token_policies": ["a"], "ttl": 60 });
        let lines = [
            r#"- token_policies = ["a"]"#,
            r#"+ token_policies = ["a","b"]"#,
            r#"+ username = "vault""#,
        ];
        let lines = lines.map(str::to_owned).to_vec();
        assert_eq!(of_fields(&there), State::Different(lines));
    }
}
