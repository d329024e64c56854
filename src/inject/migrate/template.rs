//! Templates of Vault Agent → ours, for the forms that mean the same in both.

use super::called::Called;

/// A template, translated: its text, and what has no counterpart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Translated {
    /// The template in our form.
    pub text: String,
    /// What could not be translated, each as it stands.
    pub left: Vec<String>,
}

/// What was opened and is not closed yet.
#[derive(Clone, Copy, PartialEq)]
enum Open {
    With,
    Range,
    Other,
}

/// Translates a template. `named` gives the name of the secret that a call reads.
pub(super) fn translate(source: &str, mut named: impl FnMut(Called) -> String) -> Translated {
    let mut out = Translated::default();
    let mut open = Vec::new();
    let mut variables: Vec<(String, String)> = Vec::new();
    let mut rest = source;
    while let Some((before, tag)) = rest.split_once("{{") {
        out.text.push_str(&literal(before));
        let Some((inside, after)) = tag.split_once("}}") else {
            out.left.push(format!("{{{{{tag}"));
            return out;
        };
        rest = after;
        let (left, inside) = match inside.strip_prefix('-') {
            Some(inside) => ("-", inside),
            None => ("", inside),
        };
        let (right, inside) = match inside.strip_suffix('-') {
            Some(inside) => ("-", inside),
            None => ("", inside),
        };
        let words = words(inside.trim());
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let tag = |text: &str| format!("{{%{left} {text} {right}%}}");
        let value = |text: &str| format!("{{{{{left} {text} {right}}}}}");
        let text = match words.as_slice() {
            ["with", "secret", path, parameters @ ..] => called(path, parameters).map(|called| {
                open.push(Open::With);
                tag(&format!("with data = secret(\"{}\")", named(called)))
            }),
            ["range", key, val, ":=", ".Data" | ".Data.data"]
                if key.ends_with(',') && key.starts_with('$') && val.starts_with('$') =>
            {
                open.push(Open::Range);
                variables.push((key.trim_end_matches(',').to_owned(), (*val).to_owned()));
                Some(tag("for key in data"))
            }
            ["end"] => match open.pop() {
                Some(Open::With) => Some(tag("endwith")),
                Some(Open::Range) => {
                    variables.pop();
                    Some(tag("endfor"))
                }
                _ => None,
            },
            [one] => match variables.last() {
                Some((key, _)) if one == key => Some(value("key")),
                Some((_, val)) if one == val => Some(value("data[key]")),
                _ => field(one).filter(|_| open.contains(&Open::With)).map(|field| value(&field)),
            },
            [first, ..] => {
                if matches!(*first, "if" | "with" | "range" | "block" | "define") {
                    open.push(Open::Other);
                }
                None
            }
            [] => None,
        };
        match text {
            Some(text) => out.text.push_str(&text),
            None => out.left.push(format!("{{{{{left}{inside}{right}}}}}")),
        }
    }
    out.text.push_str(&literal(rest));
    out
}

/// Text that is text in our form too.
fn literal(text: &str) -> String {
    let special = ["{%", "{#"].iter().any(|mark| text.contains(mark));
    if special { format!("{{% raw %}}{text}{{% endraw %}}") } else { text.to_owned() }
}

/// `.Data.x` and `.Data.data.x`.
fn field(word: &str) -> Option<String> {
    let name = word.strip_prefix(".Data.data.").or_else(|| word.strip_prefix(".Data."))?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (!name.is_empty() && name.bytes().all(plain)).then(|| format!("data[\"{name}\"]"))
}

fn called(path: &str, parameters: &[&str]) -> Option<Called> {
    let path = unquoted(path)?;
    let pair = |text: &&str| {
        let text = unquoted(text)?;
        text.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()))
    };
    let parameters = parameters.iter().map(pair).collect::<Option<Vec<_>>>()?;
    Some(Called { path: path.trim_matches('/').to_owned(), parameters })
}

fn unquoted(word: &str) -> Option<&str> {
    let inner = word.strip_prefix('"').and_then(|word| word.strip_suffix('"'));
    inner
        .or_else(|| word.strip_prefix('`').and_then(|word| word.strip_suffix('`')))
        .filter(|t| !t.contains('\\'))
}

/// Parts a tag into words; what stands in quotes is one.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    for c in text.chars() {
        match quote {
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            None if matches!(c, '"' | '`') => quote = Some(c),
            Some(q) if c == q => quote = None,
            _ => {}
        }
        word.push(c);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(source: &str) -> Translated {
        translate(source, |called| called.path.replace('/', "."))
    }

    #[test]
    fn the_usual_forms_mean_the_same() {
        let source =
            "{{- with secret \"secret/data/app\" -}}\nuser={{ .Data.data.user }}\n{{- end }}";
        let text = "{%- with data = secret(\"secret.data.app\") -%}\nuser={{ data[\"user\"] }}\n{%- endwith %}";
        assert_eq!(ours(source), Translated { text: text.into(), left: vec![] });
        let source = "{{ with secret \"db/creds/app\" }}{{ range $k, $v := .Data }}{{ $k }}: {{ $v }}\n{{ end }}{{ end }}";
        let text = "{% with data = secret(\"db.creds.app\") %}{% for key in data %}{{ key }}: {{ data[key] }}\n{% endfor %}{% endwith %}";
        assert_eq!(ours(source), Translated { text: text.into(), left: vec![] });
    }

    #[test]
    fn a_call_with_parameters_is_a_write() {
        let source = "{{ with secret \"pki/issue/app\" \"common_name=a b\" }}{{ .Data.certificate }}{{ end }}";
        let mut calls = Vec::new();
        let translated = translate(source, |called| {
            calls.push(called);
            "cert".to_owned()
        });
        assert_eq!(translated.left, Vec::<String>::new());
        assert_eq!(calls[0].parameters, [("common_name".to_owned(), "a b".to_owned())]);
    }

    #[test]
    fn what_has_no_counterpart_is_told_as_it_stands() {
        let source = "{{ with secret \"a/b\" }}{{ .Data.x | toJSON }}{{ if .Data.y }}y{{ end }}{{ end }}{{ env \"HOME\" }}";
        let left = ours(source).left;
        assert_eq!(
            left,
            ["{{ .Data.x | toJSON }}", "{{ if .Data.y }}", "{{ end }}", "{{ env \"HOME\" }}"]
        );
        assert_eq!(ours("{{ open").left, ["{{ open"]);
    }
}
