//! The forms in which secrets are printed: for people, and as JSON for machines.
//!
//! Whatever holds a value is built in a buffer that is wiped.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use secret_broker_client::{Freshness, Metadata, Previous, Reason, Secret, State};
use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

/// A secret as JSON. Fields that are not UTF-8 stand in `fields_hex`.
#[derive(Serialize)]
pub(super) struct SecretJson<'s> {
    name: &'s str,
    version: &'s str,
    generation: u64,
    freshness: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stale_reason: Option<&'static str>,
    issue_time: Option<String>,
    expire_time: Option<String>,
    time_left_secs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fields: Option<BTreeMap<&'s str, &'s str>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    fields_hex: BTreeMap<&'s str, Hex<'s>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_valid_until: Option<String>,
}

impl<'s> SecretJson<'s> {
    /// The secret with its values.
    pub(super) fn with_values(secret: &'s Secret) -> Self {
        let text = |(name, value)| Some((name, std::str::from_utf8(value).ok()?));
        let binary = |(name, value): (&'s str, &'s [u8])| match std::str::from_utf8(value) {
            Ok(_) => None,
            Err(_) => Some((name, Hex(value))),
        };
        Self {
            fields: Some(secret.fields().filter_map(text).collect()),
            fields_hex: secret.fields().filter_map(binary).collect(),
            ..Self::without_values(secret)
        }
    }

    /// The secret without its values.
    pub(super) fn without_values(secret: &'s Secret) -> Self {
        Self {
            name: secret.name(),
            version: secret.version(),
            generation: secret.generation(),
            freshness: freshness(secret),
            stale_reason: match secret.freshness() {
                Freshness::Stale { reason, .. } => Some(reason_name(reason)),
                Freshness::Fresh => None,
            },
            issue_time: secret.issued_at().map(rfc3339),
            expire_time: secret.expires_at().map(rfc3339),
            time_left_secs: secret.time_left().map(|left| left.as_secs()),
            fields: None,
            fields_hex: BTreeMap::new(),
            previous_valid_until: secret.previous().and_then(Previous::valid_until).map(rfc3339),
        }
    }
}

/// A secret's metadata as JSON.
#[derive(Serialize)]
pub(super) struct MetadataJson<'m> {
    name: &'m str,
    category: &'m str,
    state: &'static str,
    version: &'m str,
    generation: u64,
    issue_time: Option<String>,
    expire_time: Option<String>,
    reason: Option<&'static str>,
}

impl<'m> From<&'m Metadata> for MetadataJson<'m> {
    fn from(metadata: &'m Metadata) -> Self {
        Self {
            name: &metadata.name,
            category: &metadata.category,
            state: state_name(metadata.state),
            version: &metadata.version,
            generation: metadata.generation,
            issue_time: metadata.issued_at.map(rfc3339),
            expire_time: metadata.expires_at.map(rfc3339),
            reason: metadata.reason.map(reason_name),
        }
    }
}

/// One line of JSON.
pub(super) fn json_line(value: &impl Serialize) -> Zeroizing<Vec<u8>> {
    let mut line = Zeroizing::new(Vec::new());
    // Maps with text keys into memory can't fail to serialise.
    if serde_json::to_writer(&mut *line, value).is_ok() {
        line.push(b'\n');
    }
    line
}

/// Rows under a heading, in columns of equal width.
pub(super) fn table(heading: &[&str], rows: &[Vec<String>]) -> Zeroizing<String> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        let title = heading.get(column).map_or(0, |title| title.len());
        cells.chain([title]).max().unwrap_or_default()
    };
    let widths: Vec<_> = (0..heading.len()).map(width).collect();
    let mut text = Zeroizing::new(String::new());
    let titles: Vec<_> = heading.iter().map(|title| (*title).to_owned()).collect();
    for row in std::iter::once(&titles).chain(rows) {
        let mut line = Zeroizing::new(String::new());
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// `FRESH` or `STALE`.
pub(super) fn freshness(secret: &Secret) -> &'static str {
    match secret.freshness() {
        Freshness::Fresh => "FRESH",
        Freshness::Stale { .. } => "STALE",
    }
}

/// The state's name in the contract, without its prefix.
pub(super) fn state_name(state: State) -> &'static str {
    state.as_str_name().trim_start_matches("SECRET_STATE_")
}

/// The reason's name in the contract, without its prefix.
pub(super) fn reason_name(reason: Reason) -> &'static str {
    reason.as_str_name().trim_start_matches("ERROR_REASON_")
}

/// A moment of the wall clock.
pub(super) fn rfc3339(time: SystemTime) -> String {
    Timestamp::try_from(time).map(|time| format!("{time:.0}")).unwrap_or_default()
}

/// A span for people: the two largest units.
pub(super) fn span(span: Duration) -> String {
    let secs = span.as_secs();
    let (days, hours, minutes) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60);
    match secs {
        0..60 => format!("{secs}s"),
        60..3600 => format!("{minutes}m{:02}s", secs % 60),
        3600..86_400 => format!("{hours}h{minutes:02}m"),
        _ => format!("{days}d{hours:02}h"),
    }
}

/// The time left for people; a value that nothing ends has none.
pub(super) fn time_left(secret: &Secret) -> String {
    secret.time_left().map_or_else(|| "no end".to_owned(), span)
}

/// Bytes as hexadecimal digits.
pub(super) struct Hex<'s>(pub(super) &'s [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Hex<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_show_two_units() {
        for (secs, shown) in
            [(0, "0s"), (59, "59s"), (61, "1m01s"), (7_260, "2h01m"), (90_000, "1d01h")]
        {
            assert_eq!(span(Duration::from_secs(secs)), shown);
        }
    }

    #[test]
    fn a_table_is_aligned_and_has_no_trailing_space() {
        let rows = [vec!["A".to_owned(), "1".to_owned()], vec!["LONG".to_owned(), String::new()]];
        assert_eq!(table(&["NAME", "N"], &rows).as_str(), "NAME  N\nA     1\nLONG\n");
    }
}
