//! The plain text of the state: JSON that states its form.
//!
//! Values are written in hex, so that no escape makes a reader copy them. Errors of the JSON
//! reader are dropped: they quote what they found.

use std::{collections::BTreeMap, fmt, io, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    broker::state::{Distrust, SavedSecret, SavedSession, SavedState, SavedVersion},
    domain::{
        life::Lease,
        secret::{Fields, Generation, SecretValue, Version},
    },
};

/// Grows with each change of the form.
const FORM: u32 = 1;

#[derive(Deserialize)]
struct Form {
    form: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    form: u32,
    saved_at_ms: i64,
    secrets: BTreeMap<String, Secret>,
    session: Option<Session>,
    version_key: Option<Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Secret {
    current: Held,
    overlaps: Vec<Overlap>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Overlap {
    held: Held,
    until_ms: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Held {
    fields: FieldValues,
    version: String,
    generation: u64,
    issued_at_ms: i64,
    ends_at_ms: Option<i64>,
    lease: Option<LeaseRecord>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaseRecord {
    id: String,
    renewable: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Session {
    content: Value,
    ends_at_ms: Option<i64>,
}

/// Writes the state.
pub(super) fn encode(state: &SavedState, to: &mut dyn io::Write) -> io::Result<()> {
    let session = state.session.as_ref().map(|session| Session {
        content: Value(Arc::clone(&session.content)),
        ends_at_ms: session.ends_at.map(Timestamp::as_millisecond),
    });
    let secrets = state.secrets.iter().map(|(name, s)| (name.to_string(), Secret::from(s)));
    let record = State {
        form: FORM,
        saved_at_ms: state.saved_at.as_millisecond(),
        secrets: secrets.collect(),
        session,
        version_key: state.version_key.clone().map(Value),
    };
    serde_json::to_writer(to, &record).map_err(io::Error::from)
}

/// Reads a state of our form.
pub(super) fn decode(plain: &[u8]) -> Result<SavedState, Distrust> {
    let form = serde_json::from_slice::<Form>(plain).map_err(|_| Distrust::Malformed)?.form;
    if form != FORM {
        return Err(Distrust::UnknownForm);
    }
    let state = serde_json::from_slice::<State>(plain).map_err(|_| Distrust::Malformed)?;
    state.saved()
}

impl State {
    fn saved(self) -> Result<SavedState, Distrust> {
        let session = |session: Session| {
            let ends_at = session.ends_at_ms.map(time).transpose()?;
            Ok(SavedSession { content: session.content.0, ends_at })
        };
        let secret = |(name, secret): (String, Secret)| {
            Ok((name.parse().map_err(|_| Distrust::Malformed)?, secret.saved()?))
        };
        Ok(SavedState {
            saved_at: time(self.saved_at_ms)?,
            secrets: self.secrets.into_iter().map(secret).collect::<Result<_, _>>()?,
            session: self.session.map(session).transpose()?,
            version_key: self.version_key.map(|key| key.0),
        })
    }
}

impl Secret {
    fn saved(self) -> Result<SavedSecret, Distrust> {
        let overlap = |overlap: Overlap| Ok((overlap.held.saved()?, time(overlap.until_ms)?));
        Ok(SavedSecret {
            current: self.current.saved()?,
            overlaps: self.overlaps.into_iter().map(overlap).collect::<Result<_, _>>()?,
        })
    }
}

impl Held {
    fn saved(self) -> Result<SavedVersion, Distrust> {
        Ok(SavedVersion {
            fields: self.fields.0,
            version: Version(self.version.into()),
            generation: Generation(self.generation),
            issued_at: time(self.issued_at_ms)?,
            ends_at: self.ends_at_ms.map(time).transpose()?,
            lease: self.lease.map(|l| Lease { id: l.id.into(), renewable: l.renewable }),
        })
    }
}

impl From<&SavedSecret> for Secret {
    fn from(secret: &SavedSecret) -> Self {
        let overlap = |(version, until): &(SavedVersion, Timestamp)| Overlap {
            held: Held::from(version),
            until_ms: until.as_millisecond(),
        };
        Self {
            current: Held::from(&secret.current),
            overlaps: secret.overlaps.iter().map(overlap).collect(),
        }
    }
}

impl From<&SavedVersion> for Held {
    fn from(version: &SavedVersion) -> Self {
        let lease =
            |lease: &Lease| LeaseRecord { id: lease.id.to_string(), renewable: lease.renewable };
        Self {
            fields: FieldValues(Arc::clone(&version.fields)),
            version: version.version.0.to_string(),
            generation: version.generation.0,
            issued_at_ms: version.issued_at.as_millisecond(),
            ends_at_ms: version.ends_at.map(Timestamp::as_millisecond),
            lease: version.lease.as_ref().map(lease),
        }
    }
}

fn time(ms: i64) -> Result<Timestamp, Distrust> {
    Timestamp::from_millisecond(ms).map_err(|_| Distrust::Malformed)
}

struct FieldValues(Arc<Fields>);

impl Serialize for FieldValues {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, Hex(value))))
    }
}

impl<'de> Deserialize<'de> for FieldValues {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = BTreeMap::<String, Unshared>::deserialize(deserializer)?;
        let fields = values.into_iter().map(|(name, value)| (name, value.0));
        Ok(Self(Arc::new(fields.collect())))
    }
}

struct Value(Arc<SecretValue>);

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Hex(&self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Unshared::deserialize(deserializer).map(|value| Self(Arc::new(value.0)))
    }
}

struct Hex<'a>(&'a SecretValue);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expose().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Hex<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Straight into the encrypting writer, without a text in between.
        serializer.collect_str(self)
    }
}

struct Unshared(SecretValue);

impl<'de> Deserialize<'de> for Unshared {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HexText;
        impl de::Visitor<'_> for HexText {
            type Value = Unshared;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("hexadecimal digits")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Unshared, E> {
                let malformed = || E::custom("not hexadecimal digits");
                let bytes = unhex(text.as_bytes()).ok_or_else(malformed)?;
                Ok(Unshared(SecretValue::new(bytes)))
            }
        }
        deserializer.deserialize_str(HexText)
    }
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut bytes = Vec::with_capacity(text.len() / 2);
    for pair in text.chunks(2) {
        let [high, low] = pair else { return None };
        bytes.push(digit(*high)? << 4 | digit(*low)?);
    }
    Some(bytes)
}
