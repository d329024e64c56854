//! TOML text → the raw form of a file, going on after each mistake until all are found.
//!
//! A key that can't be taken is noted and left out, and the rest is read again; so one file's
//! mistakes are reported in one go. Text found in the file is quoted only for keys of a closed form.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use serde::de::DeserializeOwned;
use serde_path_to_error::{Path, Segment};
use toml::{
    Spanned,
    de::{DeTable, DeValue, Deserializer},
};

use super::{
    mistake::{Key, Mistake, Step},
    units,
};

/// Mistakes that are looked for in one file.
const MAX_MISTAKES: usize = 200;

/// What was read of a file.
pub(super) struct Read<T> {
    pub(super) file: T,
    pub(super) mistakes: Vec<Mistake>,
    pub(super) lines: Lines,
    /// Whether all of the text is TOML; if not, what seems missing may only be unread.
    pub(super) is_whole: bool,
}

/// Where keys stand in the text.
pub(super) struct Lines {
    starts: Vec<usize>,
    keys: BTreeMap<Key, Range<usize>>,
    /// Keys that are there but could not be taken.
    refused: BTreeSet<Key>,
}

impl Lines {
    /// The line of the key, or of the nearest key above it that the file has.
    pub(super) fn line(&self, key: &Key) -> Option<usize> {
        (1..=key.0.len()).rev().find_map(|n| {
            let span = self.keys.get(&Key(key.0.get(..n)?.to_vec()))?;
            Some(self.line_at(span.start))
        })
    }

    /// Whether the file has this key or one above it, but with a mistake that is already reported.
    pub(super) fn is_refused(&self, key: &Key) -> bool {
        (1..=key.0.len()).any(|n| {
            key.0.get(..n).is_some_and(|prefix| self.refused.contains(&Key(prefix.to_vec())))
        })
    }

    /// Whether the file has this key.
    pub(super) fn has(&self, key: &Key) -> bool {
        self.keys.contains_key(key)
    }

    fn line_at(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }
}

/// Reads as much of the text as can be taken.
pub(super) fn read<T: DeserializeOwned + Default>(text: &str) -> Read<T> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
    let mut lines = Lines { starts, keys: BTreeMap::new(), refused: BTreeSet::new() };
    index(&Key::default(), table.get_ref(), &mut lines.keys);
    let mut mistakes = errors.iter().map(|error| syntax(error, &lines)).collect::<Vec<_>>();
    // One slip makes the parser stumble on along its line.
    mistakes.dedup_by_key(|mistake| mistake.line);
    mistakes.truncate(MAX_MISTAKES);
    let is_whole = mistakes.is_empty();
    let file = take(table, &mut lines, &mut mistakes);
    Read { file, mistakes, lines, is_whole }
}

fn syntax(error: &toml::de::Error, lines: &Lines) -> Mistake {
    Mistake {
        key: Key::default(),
        line: error.span().map(|span| lines.line_at(span.start)),
        // The parser's messages name what it expects and never quote the text.
        found: format!("not TOML: {}", error.message().replace('\n', ", ")),
        accepted: "the file has to be TOML 1.0".to_owned(),
    }
}

fn take<T: DeserializeOwned + Default>(
    mut table: Spanned<DeTable<'_>>,
    lines: &mut Lines,
    mistakes: &mut Vec<Mistake>,
) -> T {
    while mistakes.len() < MAX_MISTAKES {
        let error = match serde_path_to_error::deserialize(Deserializer::from(table.clone())) {
            Ok(file) => return file,
            Err(error) => error,
        };
        let Some((key, value)) = remove(table.get_mut(), error.path(), &lines.keys) else {
            // Never seen: an error without a place. It still has to be told.
            mistakes.push(describe(Key::default(), error.inner().message(), None, lines));
            return T::default();
        };
        mistakes.push(describe(key.clone(), error.inner().message(), Some(&value), lines));
        lines.refused.insert(key);
    }
    T::default()
}

fn describe(key: Key, message: &str, value: Option<&DeValue<'_>>, lines: &Lines) -> Mistake {
    let line = lines.line(&key);
    let (found, accepted) = message.split_once(", expected ").unwrap_or((message, "another value"));
    if found.starts_with("unknown field") {
        return Mistake {
            line,
            found: "unknown key".to_owned(),
            accepted: nearest(&key, accepted),
            key,
        };
    }
    let found = match value {
        Some(DeValue::String(text)) => quoted(text, found),
        Some(DeValue::Integer(n)) => format!("the number {n}"),
        Some(DeValue::Boolean(b)) => b.to_string(),
        Some(value) => format!("a {}", value.type_str()),
        None => "a value".to_owned(),
    };
    Mistake { key, line, found, accepted: format!("expected {accepted}") }
}

/// A text that was found: quoted only if the key is of a closed form, as its own type says by
/// quoting it, or as serde says of a choice.
fn quoted(text: &str, found: &str) -> String {
    if found.starts_with('`') || found.starts_with("unknown variant") {
        return units::quoted(text);
    }
    if found.starts_with("invalid") { "a string".to_owned() } else { found.to_owned() }
}

/// What an unknown key was probably meant to be.
fn nearest(key: &Key, known: &str) -> String {
    let Some(Step::Name(name)) = key.0.last() else { return known.to_owned() };
    let names = known.split('`').skip(1).step_by(2).collect::<Vec<_>>();
    let best = names
        .iter()
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .min()
        .filter(|(distance, known)| *distance <= 1 + known.len() / 4);
    match best {
        Some((_, known)) => format!("did you mean `{known}`?"),
        None => format!("the keys here are {}", names.join(", ")),
    }
}

/// Takes the value at the path out and returns it with its key in the unchanged file.
fn remove<'i>(
    table: &mut DeTable<'i>,
    path: &Path,
    keys: &BTreeMap<Key, Range<usize>>,
) -> Option<(Key, DeValue<'i>)> {
    let path = path.iter().filter(|s| !matches!(s, Segment::Enum { .. } | Segment::Unknown));
    remove_at(table, &path.collect::<Vec<_>>(), &Key::default(), keys)
}

fn remove_at<'i>(
    table: &mut DeTable<'i>,
    path: &[&Segment],
    at: &Key,
    keys: &BTreeMap<Key, Range<usize>>,
) -> Option<(Key, DeValue<'i>)> {
    let (Segment::Map { key }, rest) = path.split_first()? else { return None };
    let here = at.name(key);
    if rest.is_empty() {
        return table.remove(key.as_str()).map(|value| (here, value.into_inner()));
    }
    match table.get_mut(key.as_str())?.get_mut() {
        DeValue::Table(inner) => remove_at(inner, rest, &here, keys),
        DeValue::Array(array) => {
            let (Segment::Seq { index }, rest) = rest.split_first()? else { return None };
            // Elements before it may be gone already: the place in the text tells which it was.
            let span = array.get(*index)?.span();
            let original = keys
                .iter()
                .find(|(key, at)| **at == span && matches!(key.0.last(), Some(Step::Index(_))))?;
            if rest.is_empty() {
                return Some((original.0.clone(), take_element(array, *index)?));
            }
            match array.get_mut(*index)?.get_mut() {
                DeValue::Table(inner) => remove_at(inner, rest, original.0, keys),
                _ => None,
            }
        }
        _ => None,
    }
}

fn take_element<'i>(array: &mut toml::de::DeArray<'i>, index: usize) -> Option<DeValue<'i>> {
    let mut taken = None;
    let elements = std::mem::replace(array, std::iter::empty().collect());
    *array = elements
        .into_iter()
        .enumerate()
        .filter_map(|(i, element)| {
            if i == index {
                taken = Some(element.into_inner());
                None
            } else {
                Some(element)
            }
        })
        .collect();
    taken
}

/// Notes where every key stands.
fn index(at: &Key, table: &DeTable<'_>, keys: &mut BTreeMap<Key, Range<usize>>) {
    for (name, value) in table {
        let key = at.name(name.get_ref());
        keys.insert(key.clone(), name.span());
        index_value(&key, value.get_ref(), keys);
    }
}

fn index_value(at: &Key, value: &DeValue<'_>, keys: &mut BTreeMap<Key, Range<usize>>) {
    match value {
        DeValue::Table(table) => index(at, table, keys),
        DeValue::Array(array) => {
            for (i, element) in array.iter().enumerate() {
                let key = at.index(i);
                keys.insert(key.clone(), element.span());
                index_value(&key, element.get_ref(), keys);
            }
        }
        _ => {}
    }
}
