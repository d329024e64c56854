//! Quantities that carry their own default and range, so that what is parsed, what the schema says
//! and what the reference prints can't drift apart.

use std::{borrow::Cow, fmt, net::SocketAddr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A number of seconds in milliseconds, the unit of [`Span`]'s parameters.
pub const fn secs(n: u64) -> u64 {
    n * 1000
}

/// A number of minutes in milliseconds.
pub const fn mins(n: u64) -> u64 {
    secs(n * 60)
}

/// A number of hours in milliseconds.
pub const fn hours(n: u64) -> u64 {
    mins(n * 60)
}

/// A number of days in milliseconds.
pub const fn days(n: u64) -> u64 {
    hours(n * 24)
}

/// A time such as `30s` or `1h30m` from `MIN` to `MAX`, all in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span<const DEFAULT: u64, const MIN: u64, const MAX: u64>(u64);

impl<const D: u64, const MIN: u64, const MAX: u64> Span<D, MIN, MAX> {
    /// The time.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }

    fn accepted() -> String {
        format!("a time from {} to {}, such as \"30s\", \"5m\" or \"1h30m\"", show(MIN), show(MAX))
    }
}

impl<const D: u64, const MIN: u64, const MAX: u64> Default for Span<D, MIN, MAX> {
    fn default() -> Self {
        Self(D)
    }
}

impl<'de, const D: u64, const MIN: u64, const MAX: u64> Deserialize<'de> for Span<D, MIN, MAX> {
    fn deserialize<T: Deserializer<'de>>(from: T) -> Result<Self, T::Error> {
        let text = Cow::<str>::deserialize(from).map_err(|e| expected(&e, &Self::accepted()))?;
        match millis(&text) {
            Some(ms) if (MIN..=MAX).contains(&ms) => Ok(Self(ms)),
            _ => {
                Err(de::Error::custom(format!("{}, expected {}", quoted(&text), Self::accepted())))
            }
        }
    }
}

impl<const D: u64, const MIN: u64, const MAX: u64> Serialize for Span<D, MIN, MAX> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&show(self.0))
    }
}

impl<const D: u64, const MIN: u64, const MAX: u64> JsonSchema for Span<D, MIN, MAX> {
    fn schema_name() -> Cow<'static, str> {
        format!("Span_{D}_{MIN}_{MAX}").into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^([0-9]+(ms|s|m|h|d))+$",
            "x-minimum": show(MIN),
            "x-maximum": show(MAX),
        })
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count<const DEFAULT: u64, const MIN: u64, const MAX: u64>(u64);

impl<const D: u64, const MIN: u64, const MAX: u64> Count<D, MIN, MAX> {
    /// The number; saturates where `usize` is smaller than its range.
    pub fn size(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// The number; saturates where its range is larger.
    pub fn small(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }

    fn accepted() -> String {
        format!("a whole number from {MIN} to {MAX}")
    }
}

impl<const D: u64, const MIN: u64, const MAX: u64> Default for Count<D, MIN, MAX> {
    fn default() -> Self {
        Self(D)
    }
}

impl<'de, const D: u64, const MIN: u64, const MAX: u64> Deserialize<'de> for Count<D, MIN, MAX> {
    fn deserialize<T: Deserializer<'de>>(from: T) -> Result<Self, T::Error> {
        let n = i64::deserialize(from).map_err(|e| expected(&e, &Self::accepted()))?;
        match u64::try_from(n) {
            Ok(n) if (MIN..=MAX).contains(&n) => Ok(Self(n)),
            _ => Err(de::Error::custom(format!("`{n}`, expected {}", Self::accepted()))),
        }
    }
}

impl<const D: u64, const MIN: u64, const MAX: u64> Serialize for Count<D, MIN, MAX> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(self.0)
    }
}

impl<const D: u64, const MIN: u64, const MAX: u64> JsonSchema for Count<D, MIN, MAX> {
    fn schema_name() -> Cow<'static, str> {
        format!("Count_{D}_{MIN}_{MAX}").into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

/// An IP address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Address(pub SocketAddr);

impl<'de> Deserialize<'de> for Address {
    fn deserialize<T: Deserializer<'de>>(from: T) -> Result<Self, T::Error> {
        let accepted = || "an IP address and port, such as \"127.0.0.1:7443\"".to_owned();
        let text = Cow::<str>::deserialize(from).map_err(|e| expected(&e, &accepted()))?;
        let wrong = |_| de::Error::custom(format!("{}, expected {}", quoted(&text), accepted()));
        text.parse().map(Self).map_err(wrong)
    }
}

impl JsonSchema for Address {
    fn schema_name() -> Cow<'static, str> {
        "Address".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-form": "an IP address and port" })
    }
}

/// Keeps what a foreign message says was found, and says what we accept.
fn expected<E: de::Error>(error: &impl fmt::Display, accepted: &str) -> E {
    let error = error.to_string();
    let found = error.split(", expected ").next().unwrap_or_default();
    E::custom(format!("{found}, expected {accepted}"))
}

/// What was found, if it is a short word; anything else may be something that somebody pasted.
pub(super) fn quoted(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b' ');
    if text.len() <= 16 && text.bytes().all(plain) {
        format!("`{text}`")
    } else {
        "another text".to_owned()
    }
}

const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", secs(1)), ("m", mins(1)), ("h", hours(1)), ("d", days(1))];

/// The milliseconds of a text such as `1h30m`: numbers with units, in any order, without spaces.
pub fn millis(text: &str) -> Option<u64> {
    let mut total = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(unit_at);
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*scale)?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

/// The shortest text that [`millis`] reads as this many milliseconds, in one unit.
pub fn show(millis: u64) -> String {
    if millis == 0 {
        return "0s".to_owned();
    }
    let whole = UNITS.iter().rev().find(|(_, scale)| millis.is_multiple_of(*scale));
    whole.map_or_else(String::new, |(unit, scale)| format!("{}{unit}", millis / scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_numbers_with_units() {
        for (text, ms) in [
            ("30s", Some(30_000)),
            ("1h30m", Some(5_400_000)),
            ("250ms", Some(250)),
            ("7d", Some(604_800_000)),
            ("0s", Some(0)),
            ("", None),
            ("30", None),
            ("s", None),
            ("3 s", None),
            ("-3s", None),
            ("1.5h", None),
            ("99999999999999999999s", None),
            ("999999999999999999d", None),
        ] {
            assert_eq!(millis(text), ms, "{text}");
        }
    }

    #[test]
    fn times_are_shown_as_they_are_read() {
        for ms in [0, 1, 250, 1500, 30_000, 60_000, 90_000, 5_400_000, 86_400_000, 604_800_000] {
            assert_eq!(millis(&show(ms)), Some(ms), "{}", show(ms));
        }
        assert_eq!(show(hours(24)), "1d");
    }
}
