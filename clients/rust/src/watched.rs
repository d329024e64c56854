//! What a watcher has seen: turns the broker's messages into events, each version once.
//!
//! Pure. The ledger survives reconnects and is what a stream resumes from.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Error, Reason, Secret,
    proto::{self, WatchEventType as Type, secret_result},
};

/// What happened to a watched secret. Each event carries the full state.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The version that is current when the watch begins to see this secret.
    Current(Secret),
    /// A new version is served, also one that came while the connection was lost.
    Rotated(Secret),
    /// The same version ends later.
    Renewed(Secret),
    /// The version ends soon, and no successor could be had yet.
    Expiring(Secret),
    /// The source could not confirm the version when it was due.
    Stale(Secret),
    /// The source confirms the version again.
    Recovered(Secret),
    /// The value must not be used any more.
    Revoked {
        /// The secret.
        name: String,
        /// Why.
        reason: Reason,
    },
    /// No value can be had now; the next one comes as [`Current`](Self::Current).
    Unavailable {
        /// The secret.
        name: String,
        /// Why.
        error: Error,
    },
}

impl Event {
    /// The name of the secret.
    pub fn name(&self) -> &str {
        match self.secret() {
            Some(secret) => secret.name(),
            None => match self {
                Self::Revoked { name, .. } | Self::Unavailable { name, .. } => name,
                _ => "",
            },
        }
    }

    /// The secret's state, where a value can be had.
    pub fn secret(&self) -> Option<&Secret> {
        match self {
            Self::Current(secret)
            | Self::Rotated(secret)
            | Self::Renewed(secret)
            | Self::Expiring(secret)
            | Self::Stale(secret)
            | Self::Recovered(secret) => Some(secret),
            Self::Revoked { .. } | Self::Unavailable { .. } => None,
        }
    }
}

/// The versions seen, by the secret's name.
#[derive(Debug, Default)]
pub(crate) struct Ledger(BTreeMap<String, (u64, String)>);

impl Ledger {
    pub(crate) fn note(&mut self, secret: &Secret) {
        let seen = (secret.generation(), secret.version().to_owned());
        self.0.insert(secret.name().to_owned(), seen);
    }

    pub(crate) fn generations(&self) -> impl Iterator<Item = (String, u64)> {
        self.0.iter().map(|(name, (generation, _))| (name.clone(), *generation))
    }

    /// The events of one message, in its order.
    pub(crate) fn take(&mut self, message: proto::WatchSecretsResponse) -> Vec<Event> {
        match message.r#type() {
            Type::Snapshot => self.snapshot(message),
            Type::Revoked => {
                self.0.remove(&message.name);
                let reason = message.reason();
                vec![Event::Revoked { name: message.name, reason }]
            }
            kind => {
                let secrets = message.secrets.into_iter();
                secrets.filter_map(|secret| self.changed(kind, secret.into())).collect()
            }
        }
    }

    fn snapshot(&mut self, message: proto::WatchSecretsResponse) -> Vec<Event> {
        let mut named: BTreeSet<String> = message.unchanged.into_iter().collect();
        let mut events = Vec::new();
        for secret in message.secrets {
            named.insert(secret.name.clone());
            events.extend(self.changed(Type::Snapshot, secret.into()));
        }
        for proto::SecretResult { name, outcome } in message.unavailable {
            named.insert(name.clone());
            self.0.remove(&name);
            if let Some(secret_result::Outcome::Error(error)) = outcome {
                events.push(Event::Unavailable { name, error: error.into() });
            }
        }
        let withdrawn: Vec<_> =
            self.0.keys().filter(|name| !named.contains(*name)).cloned().collect();
        for name in withdrawn {
            self.0.remove(&name);
            events.push(Event::Revoked { name, reason: Reason::Withdrawn });
        }
        events
    }

    /// A version not seen before is a rotation whatever the message calls it: the broker may have left out the
    /// message that lay between.
    fn changed(&mut self, kind: Type, secret: Secret) -> Option<Event> {
        let seen = self.0.get(secret.name());
        let known = seen.is_some();
        let same =
            seen.is_some_and(|(g, v)| (*g, v.as_str()) == (secret.generation(), secret.version()));
        self.note(&secret);
        match kind {
            _ if !known => Some(Event::Current(secret)),
            _ if !same => Some(Event::Rotated(secret)),
            Type::Renewed => Some(Event::Renewed(secret)),
            Type::Expiring => Some(Event::Expiring(secret)),
            Type::Stale => Some(Event::Stale(secret)),
            Type::Recovered => Some(Event::Recovered(secret)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(name: &str, generation: u64) -> proto::Secret {
        proto::Secret { name: name.into(), generation, ..Default::default() }
    }

    fn message(kind: Type, secrets: Vec<proto::Secret>) -> proto::WatchSecretsResponse {
        proto::WatchSecretsResponse { r#type: kind.into(), secrets, ..Default::default() }
    }

    fn shown(events: &[Event]) -> Vec<String> {
        let kind = |event: &Event| {
            let debug = format!("{event:?}");
            debug.split([' ', '(']).next().unwrap_or_default().to_owned()
        };
        events.iter().map(|event| format!("{} {}", kind(event), event.name())).collect()
    }

    #[tokio::test]
    async fn a_version_is_told_once_however_often_it_is_sent() {
        let mut ledger = Ledger::default();
        let first = ledger.take(message(Type::Snapshot, vec![secret("A", 1)]));
        assert_eq!(shown(&first), ["Current A"]);
        assert!(ledger.take(message(Type::Snapshot, vec![secret("A", 1)])).is_empty());
        assert!(ledger.take(message(Type::Rotated, vec![secret("A", 1)])).is_empty());
        let next = ledger.take(message(Type::Rotated, vec![secret("A", 2)]));
        assert_eq!(shown(&next), ["Rotated A"]);
    }

    #[tokio::test]
    async fn a_rotation_hidden_in_another_message_is_told_as_one() {
        let mut ledger = Ledger::default();
        ledger.take(message(Type::Snapshot, vec![secret("A", 1)]));
        let renewed = ledger.take(message(Type::Renewed, vec![secret("A", 3)]));
        assert_eq!(shown(&renewed), ["Rotated A"]);
        let renewed = ledger.take(message(Type::Renewed, vec![secret("A", 3)]));
        assert_eq!(shown(&renewed), ["Renewed A"]);
    }

    #[tokio::test]
    async fn what_a_snapshot_leaves_out_is_withdrawn() {
        let mut ledger = Ledger::default();
        ledger.take(message(Type::Snapshot, vec![secret("A", 1), secret("B", 1), secret("C", 1)]));
        let mut again = message(Type::Snapshot, vec![secret("B", 2)]);
        again.unchanged = vec!["A".into()];
        assert_eq!(shown(&ledger.take(again)), ["Rotated B", "Revoked C"]);
    }

    #[tokio::test]
    async fn after_it_was_unavailable_a_value_is_told_again() {
        let mut ledger = Ledger::default();
        ledger.take(message(Type::Snapshot, vec![secret("A", 1)]));
        let mut gone = message(Type::Snapshot, vec![]);
        gone.unavailable = vec![proto::SecretResult {
            name: "A".into(),
            outcome: Some(secret_result::Outcome::Error(proto::SecretError::default())),
        }];
        assert_eq!(shown(&ledger.take(gone)), ["Unavailable A"]);
        let back = ledger.take(message(Type::Recovered, vec![secret("A", 1)]));
        assert_eq!(shown(&back), ["Current A"]);
    }
}
