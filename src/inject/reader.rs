//! Reads annotations one by one and goes on after each mistake.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::{
    DeserializeOwned,
    value::{Error, I64Deserializer, StrDeserializer},
};

use super::{
    Mistake,
    annotations::{self, Kind, PREFIX, whole},
    lists,
};

/// What is quoted of a text that was found.
const MAX_QUOTED: usize = 64;

/// The annotations of this prefix, and what is wrong about them.
pub(super) struct Reader<'a> {
    given: BTreeMap<&'a str, &'a str>,
    pub(super) mistakes: Vec<Mistake>,
}

impl<'a> Reader<'a> {
    /// Reads all annotations; unknown ones of the prefix are mistakes.
    pub(super) fn new(annotations: &'a BTreeMap<String, String>) -> Self {
        let mut reader = Self { given: BTreeMap::new(), mistakes: Vec::new() };
        for (name, text) in annotations {
            let Some(name) = name.strip_prefix(PREFIX) else { continue };
            match annotations::find(name) {
                None => reader.wrong(name, "unknown annotation", annotations::nearest(name)),
                Some((annotation, Some(file)))
                    if annotation.kind != Kind::Generated && !lists::is_file(file) =>
                {
                    let accepted = "expected after the dot 1 to 50 of A-Z a-z 0-9 - _ . that end in a letter or digit";
                    reader.wrong(name, "not the name of a file", accepted);
                }
                Some((annotation, _)) if annotation.kind == Kind::Generated => {}
                Some(_) => drop(reader.given.insert(name, text)),
            }
        }
        reader
    }

    pub(super) fn wrong(
        &mut self,
        name: &str,
        found: impl Into<String>,
        accepted: impl Into<String>,
    ) {
        let (found, accepted) = (found.into(), accepted.into());
        self.mistakes.push(Mistake { place: whole(name), found, accepted });
    }

    /// The same with what the table says is accepted.
    pub(super) fn refuse(&mut self, name: &str, found: impl Into<String>) {
        let accepted = annotations::find(name).map_or("another value", |(a, _)| a.accepted);
        self.wrong(name, found, format!("expected {accepted}"));
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// The text as it stands.
    pub(super) fn raw(&self, name: &str) -> Option<&'a str> {
        self.given.get(name).copied()
    }

    /// A text that must not be empty.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let text = self.raw(name)?.trim();
        if text.is_empty() {
            self.refuse(name, "an empty text");
            return None;
        }
        Some(text.to_owned())
    }

    /// Takes a value of a form that its type knows over, if it is given.
    pub(super) fn value<T: DeserializeOwned>(&mut self, name: &str, into: &mut T) {
        let Some(text) = self.text(name) else { return };
        match T::deserialize(StrDeserializer::<Error>::new(&text)) {
            Ok(value) => *into = value,
            Err(_) => self.refuse(name, quoted(&text)),
        }
    }

    /// Takes a number over, if it is given.
    pub(super) fn number<T: DeserializeOwned>(&mut self, name: &str, into: &mut T) {
        let Some(text) = self.text(name) else { return };
        let number = text.parse().ok().map(I64Deserializer::<Error>::new);
        match number.and_then(|number| T::deserialize(number).ok()) {
            Some(value) => *into = value,
            None => self.refuse(name, quoted(&text)),
        }
    }

    /// Takes a text over, if it is given.
    pub(super) fn option(&mut self, name: &str, into: &mut Option<String>) {
        if let Some(text) = self.text(name) {
            *into = Some(text);
        }
    }

    /// A quantity, or nothing.
    pub(super) fn quantity(&mut self, name: &str, into: &mut String) {
        let Some(text) = self.raw(name).map(str::trim) else { return };
        if text.is_empty() || lists::quantity(text).is_some() {
            text.clone_into(into);
        } else {
            self.refuse(name, quoted(text));
        }
    }

    /// The name of an object of Kubernetes.
    pub(super) fn object(&mut self, name: &str) -> Option<String> {
        let text = self.text(name)?;
        if !lists::is_object(&text) {
            self.refuse(name, quoted(&text));
            return None;
        }
        Some(text)
    }

    /// A list of different names.
    pub(super) fn names(&mut self, name: &str) -> Option<BTreeSet<String>> {
        let text = self.text(name)?;
        Some(lists::items(&text).map(str::to_owned).collect())
    }

    /// All annotations of a prefix that ends in a dot: what follows it, and the text.
    pub(super) fn each(&self, prefix: &str) -> Vec<(&'a str, &'a str)> {
        let named = |(name, text): (&&'a str, &&'a str)| {
            let name: &'a str = name;
            name.strip_prefix(prefix).map(|file| (file, *text))
        };
        self.given.iter().filter_map(named).collect()
    }
}

/// What was found, not longer than is useful.
pub(super) fn quoted(text: &str) -> String {
    let short: String = text.chars().take(MAX_QUOTED).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("\"{}{more}\"", short.escape_debug())
}
