//! Which version of a secret is served to whom.
//!
//! A store keeps the labels as pairs of texts beside the versions: `current`, `pending`, `previous`
//! and `previous_until`, `at.ENVIRONMENT` and `at.ENVIRONMENT.COLOUR`, `rotation` and `epoch`.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What the keys of audiences begin with.
const AUDIENCE: &str = "at.";

/// Who is served a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// One environment.
    Environment(String),
    /// One colour of an environment's deployment.
    Colour {
        /// The environment.
        environment: String,
        /// The colour.
        colour: String,
    },
    /// Everybody.
    Everyone,
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(environment) => f.write_str(environment),
            Self::Colour { environment, colour } => write!(f, "{environment} ({colour})"),
            Self::Everyone => f.write_str("everyone"),
        }
    }
}

/// The versions that one sidecar reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The version that it serves.
    pub served: u64,
    /// Another version that is still accepted, and until when; without a time for as long as the
    /// labels stay as they are.
    pub previous: Option<(u64, Option<Timestamp>)>,
}

/// The labels of one secret's versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// What everybody is served who has no label of its own.
    pub current: Option<u64>,
    /// Stored, and served to nobody yet.
    pub pending: Option<u64>,
    /// The version before, while it is still accepted.
    pub previous: Option<u64>,
    /// Until when `previous` is accepted at the latest.
    pub previous_until: Option<Timestamp>,
    /// What single audiences are served, by `ENVIRONMENT` or `ENVIRONMENT.COLOUR`.
    pub audiences: BTreeMap<String, u64>,
    /// The rotation that moved them last.
    pub rotation: Option<String>,
    /// Grows with each actor that takes over; labels of a higher one are not overwritten.
    pub epoch: u64,
}

impl Labels {
    /// Reads the pairs that a store keeps; what can't be understood is as good as absent.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut labels = Self::default();
        for (key, value) in pairs {
            let version = || value.parse().ok();
            match key {
                "current" => labels.current = version(),
                "pending" => labels.pending = version(),
                "previous" => labels.previous = version(),
                "previous_until" => labels.previous_until = value.parse().ok(),
                "rotation" => labels.rotation = Some(value.to_owned()),
                "epoch" => labels.epoch = version().unwrap_or_default(),
                _ => {
                    if let (Some(audience), Some(version)) = (key.strip_prefix(AUDIENCE), version())
                    {
                        labels.audiences.insert(audience.to_owned(), version);
                    }
                }
            }
        }
        labels
    }

    /// All versions that a label names.
    pub fn versions(&self) -> impl Iterator<Item = u64> {
        let single = [self.current, self.pending, self.previous];
        single.into_iter().flatten().chain(self.audiences.values().copied())
    }

    /// The pairs for a store to keep.
    pub fn to_pairs(&self) -> BTreeMap<String, String> {
        let audiences = self.audiences.iter();
        let mut pairs: BTreeMap<_, _> =
            audiences.map(|(a, version)| (format!("{AUDIENCE}{a}"), version.to_string())).collect();
        let mut put = |key: &str, value: Option<String>| {
            pairs.extend(value.map(|value| (key.to_owned(), value)));
        };
        put("current", self.current.map(|version| version.to_string()));
        put("pending", self.pending.map(|version| version.to_string()));
        put("previous", self.previous.map(|version| version.to_string()));
        put("previous_until", self.previous_until.map(|until| until.to_string()));
        put("rotation", self.rotation.clone());
        put("epoch", (self.epoch > 0).then(|| self.epoch.to_string()));
        pairs
    }

    /// Whether a key of a store's pairs is one of a label.
    pub fn is_label(key: &str) -> bool {
        key.starts_with(AUDIENCE)
            || ["current", "pending", "previous", "previous_until", "rotation", "epoch"]
                .contains(&key)
    }

    /// The version that a sidecar of this environment and colour serves; `None` when nothing is
    /// labelled, and the latest version is meant.
    pub fn served(&self, environment: Option<&str>, colour: Option<&str>) -> Option<u64> {
        let environment = environment.unwrap_or_default();
        let by_colour = colour.and_then(|c| self.audiences.get(&format!("{environment}.{c}")));
        let version = by_colour.or_else(|| self.audiences.get(environment)).copied();
        version.or(self.current)
    }

    /// What a sidecar of this environment and colour reads at `now`; `None` when no label is for
    /// it.
    pub fn reading(
        &self,
        environment: Option<&str>,
        colour: Option<&str>,
        now: Timestamp,
    ) -> Option<Reading> {
        let served = self.served(environment, colour)?;
        let previous = if Some(served) == self.current {
            let until = self.previous_until.filter(|until| *until > now);
            self.previous.zip(until).map(|(previous, until)| (previous, Some(until)))
        } else {
            self.current.map(|current| (current, None))
        };
        let previous = previous.filter(|(version, _)| *version != served);
        Some(Reading { served, previous })
    }

    /// Whether nothing is labelled: nobody moves labels here.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Stores a version aside.
    pub fn hold(&mut self, version: u64) {
        self.pending = Some(version);
    }

    /// Serves a version to an audience. To everyone, it takes the place of the current one, which
    /// overlaps it until `until` if that is given.
    pub fn promote(&mut self, version: u64, audience: &Audience, until: Option<Timestamp>) {
        let key = match audience {
            Audience::Environment(environment) => environment.clone(),
            Audience::Colour { environment, colour } => format!("{environment}.{colour}"),
            Audience::Everyone => {
                if self.current != Some(version) {
                    self.previous = self.current.filter(|_| until.is_some());
                }
                self.previous_until = until.filter(|_| self.previous.is_some());
                self.current = Some(version);
                self.pending = None;
                self.audiences.clear();
                return;
            }
        };
        self.audiences.insert(key, version);
    }

    /// Serves an earlier version to everybody again.
    pub fn demote(&mut self, to: u64) {
        self.current = (to != 0).then_some(to);
        self.pending = None;
        self.audiences.clear();
        self.withdraw();
    }

    /// Serves nobody the version before any more.
    pub fn withdraw(&mut self) {
        self.previous = None;
        self.previous_until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_label_is_served() {
        let mut labels = Labels { current: Some(3), ..Labels::default() };
        labels.hold(4);
        assert_eq!(labels.served(Some("staging"), None), Some(3));
        labels.promote(4, &Audience::Environment("staging".into()), None);
        assert_eq!(labels.served(Some("staging"), Some("green")), Some(4));
        assert_eq!(labels.served(Some("production"), Some("green")), Some(3));
        let green = Audience::Colour { environment: "production".into(), colour: "green".into() };
        labels.promote(4, &green, None);
        assert_eq!(labels.served(Some("production"), Some("green")), Some(4));
        assert_eq!(labels.served(Some("production"), Some("blue")), Some(3));
        labels.promote(4, &Audience::Everyone, Some(Timestamp::UNIX_EPOCH));
        assert_eq!((labels.current, labels.previous, labels.pending), (Some(4), Some(3), None));
        assert_eq!(labels.served(None, None), Some(4));
    }

    #[test]
    fn the_version_before_is_read_while_it_is_accepted() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut labels = Labels { current: Some(3), ..Labels::default() };
        let read = |labels: &Labels, colour, now| {
            let reading = labels.reading(Some("production"), Some(colour), at(now)).unwrap();
            (reading.served, reading.previous)
        };
        assert_eq!(read(&labels, "green", 0), (3, None));
        let green = Audience::Colour { environment: "production".into(), colour: "green".into() };
        labels.promote(4, &green, None);
        assert_eq!(read(&labels, "green", 0), (4, Some((3, None))));
        assert_eq!(read(&labels, "blue", 0), (3, None));
        labels.promote(4, &Audience::Everyone, Some(at(100)));
        assert_eq!(read(&labels, "blue", 99), (4, Some((3, Some(at(100))))));
        assert_eq!(read(&labels, "blue", 100), (4, None));
        labels.withdraw();
        assert_eq!(read(&labels, "green", 0), (4, None));
        let held = Labels { pending: Some(1), ..Labels::default() };
        assert!(held.reading(None, None, at(0)).is_none() && !held.is_empty());
    }

    #[test]
    fn labels_survive_their_pairs() {
        let labels = Labels {
            current: Some(4),
            pending: Some(5),
            previous: Some(3),
            previous_until: Some(Timestamp::UNIX_EPOCH),
            audiences: [("staging".into(), 5), ("production.green".into(), 5)].into(),
            rotation: Some("r1".into()),
            epoch: 7,
        };
        let pairs = labels.to_pairs();
        assert!(pairs.keys().all(|key| Labels::is_label(key)));
        assert_eq!(Labels::from_pairs(pairs.iter().map(|(k, v)| (k.as_str(), v.as_str()))), labels);
    }

    #[test]
    fn promoting_twice_keeps_the_version_before() {
        let mut labels = Labels { current: Some(3), ..Labels::default() };
        labels.promote(4, &Audience::Everyone, Some(Timestamp::UNIX_EPOCH));
        let once = labels.clone();
        labels.promote(4, &Audience::Everyone, Some(Timestamp::UNIX_EPOCH));
        assert_eq!(labels, once);
        labels.demote(3);
        assert_eq!((labels.current, labels.previous), (Some(3), None));
    }
}
