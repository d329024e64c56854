//! A secret as the application holds it.
//!
//! Values are wiped on drop and never printed; time left is counted on this machine's monotonic clock from the
//! moment of the reply, so that a clock that differs from the broker's does no harm.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::{Reason, State, proto};

/// A version of a secret with all that says how far it can be trusted.
pub struct Secret {
    name: String,
    fields: Fields,
    version: String,
    generation: u64,
    issued_at: Option<SystemTime>,
    expires_at: Option<SystemTime>,
    ends: Option<Instant>,
    freshness: Freshness,
    previous: Option<Previous>,
}

/// The version before, while it is still accepted.
pub struct Previous {
    fields: Fields,
    version: String,
    generation: u64,
    valid_until: Option<SystemTime>,
    ends: Option<Instant>,
}

/// Whether the source of a secret still confirms it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// It did when it was last due.
    Fresh,
    /// It could not be asked or did not answer; the value is within its limit.
    Stale {
        /// Why.
        reason: Reason,
        /// For how long, at the time of the reply.
        since: Duration,
    },
}

/// What is known of a secret without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The name.
    pub name: String,
    /// The category, such as `database`.
    pub category: String,
    /// Where it stands in its life.
    pub state: State,
    /// The current version; empty when none is held.
    pub version: String,
    /// The current generation; 0 when none is held.
    pub generation: u64,
    /// When the version was issued.
    pub issued_at: Option<SystemTime>,
    /// When the version ends; `None` when nothing ends it.
    pub expires_at: Option<SystemTime>,
    /// Why the state is not fresh.
    pub reason: Option<Reason>,
}

type Fields = BTreeMap<String, Zeroizing<Vec<u8>>>;

impl Secret {
    /// The name in the broker's catalogue.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The bytes of a field.
    pub fn field(&self, field: &str) -> Option<&[u8]> {
        self.fields.get(field).map(|value| value.as_slice())
    }

    /// A field as text; `None` also when it is not UTF-8.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.field(field).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// All fields in the order of their names.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        pairs(&self.fields)
    }

    /// The version at the source; equal versions have equal values.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Grows with each new version that the broker serves.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// When the version was issued, by the broker's clock.
    pub fn issued_at(&self) -> Option<SystemTime> {
        self.issued_at
    }

    /// When the version ends, by the broker's clock; `None` when nothing ends it.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.expires_at
    }

    /// The time left now, by this machine's monotonic clock; `None` when nothing ends the version.
    pub fn time_left(&self) -> Option<Duration> {
        self.ends.map(|ends| ends.saturating_duration_since(Instant::now()))
    }

    /// Whether the source still confirms the version.
    pub fn freshness(&self) -> Freshness {
        self.freshness
    }

    /// The version before, while it overlaps this one by this machine's monotonic clock.
    pub fn previous(&self) -> Option<&Previous> {
        self.previous
            .as_ref()
            .filter(|previous| previous.ends.is_none_or(|end| Instant::now() < end))
    }
}

impl Previous {
    /// The bytes of a field.
    pub fn field(&self, field: &str) -> Option<&[u8]> {
        self.fields.get(field).map(|value| value.as_slice())
    }

    /// All fields in the order of their names.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        pairs(&self.fields)
    }

    /// The version at the source.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Its generation.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Until when it is accepted at the latest, by the broker's clock.
    pub fn valid_until(&self) -> Option<SystemTime> {
        self.valid_until
    }
}

impl From<proto::Secret> for Secret {
    fn from(secret: proto::Secret) -> Self {
        let freshness = match secret.freshness() {
            proto::Freshness::Stale => Freshness::Stale {
                reason: secret.stale_reason(),
                since: secret.stale_for.and_then(duration).unwrap_or_default(),
            },
            _ => Freshness::Fresh,
        };
        let sent = sent_at(&secret);
        Self {
            name: secret.name,
            fields: guarded(secret.fields),
            version: secret.version,
            generation: secret.generation,
            issued_at: secret.issue_time.and_then(instant),
            expires_at: secret.expire_time.and_then(instant),
            ends: secret
                .time_left
                .and_then(duration)
                .and_then(|left| Instant::now().checked_add(left)),
            freshness,
            previous: secret.previous.map(|previous| Previous::sent(previous, sent)),
        }
    }
}

impl Previous {
    fn sent(previous: proto::PreviousSecret, at: SystemTime) -> Self {
        let valid_until = previous.valid_until.and_then(instant);
        let left = valid_until.map(|until| until.duration_since(at).unwrap_or_default());
        Self {
            fields: guarded(previous.fields),
            version: previous.version,
            generation: previous.generation,
            valid_until,
            ends: left.and_then(|left| Instant::now().checked_add(left)),
        }
    }
}

/// The broker's time of a reply, as far as the reply tells it; else this machine's.
#[expect(
    clippy::disallowed_methods,
    reason = "the reading against which a reply's times are taken"
)]
fn sent_at(secret: &proto::Secret) -> SystemTime {
    let left = secret.time_left.and_then(duration);
    let end = secret.expire_time.and_then(instant);
    let told = end.zip(left).and_then(|(end, left)| end.checked_sub(left));
    told.unwrap_or_else(SystemTime::now)
}

impl From<proto::SecretMetadata> for Metadata {
    fn from(metadata: proto::SecretMetadata) -> Self {
        let reason = metadata.reason();
        Self {
            state: metadata.state(),
            name: metadata.name,
            category: metadata.category,
            version: metadata.version,
            generation: metadata.generation,
            issued_at: metadata.issue_time.and_then(instant),
            expires_at: metadata.expire_time.and_then(instant),
            reason: (reason != Reason::Unspecified).then_some(reason),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("name", &self.name)
            .field("fields", &self.fields.keys())
            .field("version", &self.version)
            .field("generation", &self.generation)
            .field("time_left", &self.time_left())
            .field("freshness", &self.freshness)
            .field("previous", &self.previous)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Previous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Previous")
            .field("fields", &self.fields.keys())
            .field("version", &self.version)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// Takes the buffers over as they are: no copy stays behind.
fn guarded(fields: impl IntoIterator<Item = (String, Vec<u8>)>) -> Fields {
    fields.into_iter().map(|(name, value)| (name, Zeroizing::new(value))).collect()
}

fn pairs(fields: &Fields) -> impl Iterator<Item = (&str, &[u8])> {
    fields.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
}

fn instant(timestamp: prost_types::Timestamp) -> Option<SystemTime> {
    SystemTime::try_from(timestamp).ok()
}

fn duration(duration: prost_types::Duration) -> Option<Duration> {
    Duration::try_from(duration).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> proto::Secret {
        proto::Secret {
            name: "DB".into(),
            fields: [("password".into(), b"hunter2".to_vec())].into(),
            generation: 7,
            time_left: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            previous: Some(proto::PreviousSecret {
                fields: [("password".into(), b"hunter1".to_vec())].into(),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[tokio::test]
    async fn debug_shows_no_value() {
        let shown = format!("{:?} {:?}", sample(), Secret::from(sample()));
        assert!(shown.contains("password") && !shown.contains("hunter"), "{shown}");
        assert!(!shown.contains("104, 117"), "{shown}");
    }

    #[tokio::test]
    async fn values_are_taken_over_without_a_copy_into_what_wipes_them() {
        fn wiping<T: zeroize::ZeroizeOnDrop>(_: &T) {}
        let message = sample();
        let came = message.fields["password"].as_ptr();
        let secret = Secret::from(message);
        assert_eq!(secret.field("password").map(<[u8]>::as_ptr), Some(came));
        let before = secret.previous().expect("it overlaps");
        secret.fields.values().chain(before.fields.values()).for_each(wiping);
    }

    #[tokio::test(start_paused = true)]
    async fn the_version_before_is_shown_until_its_overlap_ends() {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let mut secret = sample();
        secret.expire_time = at(1_000_060);
        let previous = secret.previous.get_or_insert_default();
        previous.valid_until = at(1_000_030);
        let secret = Secret::from(secret);
        tokio::time::advance(Duration::from_secs(29)).await;
        assert!(secret.previous().is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(secret.previous().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_left_runs_down_on_the_local_clock() {
        let secret = Secret::from(sample());
        tokio::time::advance(Duration::from_secs(45)).await;
        assert_eq!(secret.time_left(), Some(Duration::from_secs(15)));
        tokio::time::advance(Duration::from_secs(45)).await;
        assert_eq!(secret.time_left(), Some(Duration::ZERO));
    }
}
