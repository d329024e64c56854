//! Events of Kubernetes: what rotations came to, and what people were told.
//!
//! An event's name is made of what it tells, so that telling the same again tells it once.

use std::{
    fmt::Write,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{ConfigMap, ObjectReference},
        events::v1::Event,
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};

use tokio::time::timeout;

use super::{Cluster, OPERATOR, PREFIX, client::Object};
use crate::{
    broker::ports::Clock,
    domain::{
        fault::{Fault, Reason},
        rotation::{Rotation, Standing},
        secret::SecretName,
    },
    rotation::ports::{Alert, Alerts, Urgency},
};

/// The longest note that the API server takes, in bytes.
const MAX_NOTE: usize = 1024;

/// The object of the operator that events are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// A Deployment.
    Deployment(String),
    /// A `ConfigMap`.
    ConfigMap(String),
}

/// Something that happened to a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    /// Whether somebody should look.
    pub is_warning: bool,
    /// What happened, in one word.
    pub reason: String,
    /// The secret.
    pub secret: SecretName,
    /// The version that it is about.
    pub version: Option<u64>,
    /// The same for people; never a value.
    pub note: String,
}

/// Writes events into the operator's namespace.
pub struct Events {
    cluster: Cluster,
    about: About,
    instance: String,
    clock: Arc<dyn Clock>,
}

impl Events {
    /// Events about this object; `instance` is the process that writes them.
    pub fn new(cluster: Cluster, about: About, instance: String, clock: Arc<dyn Clock>) -> Self {
        Self { cluster, about, instance, clock }
    }

    /// Writes an event. Succeeds when it was written already.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn tell(&self, happened: &Happened) -> Result<(), Fault> {
        let event = self.event(happened, self.regarding().await);
        match self.cluster.create(self.cluster.namespace(), &event).await {
            Err(fault) if fault.reason != Reason::Conflict => Err(fault),
            _ => Ok(()),
        }
    }

    fn event(&self, happened: &Happened, regarding: ObjectReference) -> Event {
        let Happened { is_warning, reason, secret, version, note } = happened;
        let mut hasher = DefaultHasher::new();
        (reason, secret, version, note).hash(&mut hasher);
        let metadata = ObjectMeta {
            name: Some(format!("{OPERATOR}.{:016x}", hasher.finish())),
            namespace: Some(self.cluster.namespace().to_owned()),
            annotations: Some(
                [
                    Some((format!("{PREFIX}/secret"), secret.to_string())),
                    version.map(|version| (format!("{PREFIX}/version"), version.to_string())),
                ]
                .into_iter()
                .flatten()
                .collect(),
            ),
            ..ObjectMeta::default()
        };
        let instance: String = self.instance.chars().take(128).collect();
        Event {
            metadata,
            action: Some("Rotate".to_owned()),
            event_time: Some(MicroTime(self.clock.wall())),
            note: Some(shortened(&format!("{secret}: {note}"))),
            reason: Some(reason.clone()),
            regarding: Some(regarding),
            reporting_controller: Some(format!("{PREFIX}/{OPERATOR}")),
            reporting_instance: Some(instance),
            type_: Some(if *is_warning { "Warning" } else { "Normal" }.to_owned()),
            ..Event::default()
        }
    }

    /// The object, with its uid if we may read that: by it `kubectl describe` finds events.
    async fn regarding(&self) -> ObjectReference {
        match &self.about {
            About::Deployment(name) => self.reference::<Deployment>(name).await,
            About::ConfigMap(name) => self.reference::<ConfigMap>(name).await,
        }
    }

    async fn reference<K: Object>(&self, name: &str) -> ObjectReference {
        let namespace = self.cluster.namespace();
        let found = self.cluster.get::<K>(namespace, name).await.ok().flatten();
        ObjectReference {
            api_version: Some(K::API_VERSION.to_owned()),
            kind: Some(K::KIND.to_owned()),
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            uid: found.and_then(|object| object.metadata().uid.clone()),
            ..ObjectReference::default()
        }
    }
}

impl Happened {
    /// What a rotation that ended came to; `None` for one that goes on.
    pub fn ended(rotation: &Rotation) -> Option<Self> {
        let (is_warning, reason) = match rotation.standing {
            Standing::Succeeded => (false, "RotationSucceeded"),
            Standing::RolledBack => (true, "RotationRolledBack"),
            _ => return None,
        };
        let Rotation { id, secret, base, requested_by, trouble, standing, .. } = rotation;
        let mut note = format!("rotation {id}, asked for by {requested_by}, {standing}");
        let version = match rotation.standing {
            Standing::Succeeded => rotation.new_version(),
            _ => Some(base.current).filter(|version| *version > 0),
        };
        if let Some(version) = version {
            let _ = write!(note, "; version {version} is in force");
        }
        if let Some(trouble) = trouble {
            let _ = write!(note, "; {trouble}");
        }
        Some(Self { is_warning, reason: reason.to_owned(), secret: secret.clone(), version, note })
    }
}

impl From<&Alert> for Happened {
    fn from(alert: &Alert) -> Self {
        Self {
            is_warning: alert.urgency > Urgency::Info,
            reason: one_word(&alert.name),
            secret: alert.secret.clone(),
            version: None,
            note: alert.summary.clone(),
        }
    }
}

/// How long an event may take: who raises an alert waits for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Writes an event for each alert. Events are no people: whether an alert was raised is for the
/// others to say, who are called whether or not the API server answers.
pub struct WithEvents {
    people: Arc<dyn Alerts>,
    events: Arc<Events>,
}

impl WithEvents {
    /// Events beside these.
    pub fn new(people: Arc<dyn Alerts>, events: Arc<Events>) -> Self {
        Self { people, events }
    }
}

#[async_trait]
impl Alerts for WithEvents {
    async fn raise(&self, alert: &Alert) -> Result<(), Fault> {
        let happened = Happened::from(alert);
        let late = |_| Err(Fault::new(Reason::Timeout, "the API server does not answer"));
        let written =
            async { timeout(PATIENCE, self.events.tell(&happened)).await.unwrap_or_else(late) };
        let (raised, written) = tokio::join!(self.people.raise(alert), written);
        if let Err(fault) = written {
            tracing::warn!(alert = %alert.name, %fault, "no event was written");
        }
        raised
    }
}

/// `rotation_parked` as `RotationParked`.
fn one_word(name: &str) -> String {
    let part = |part: &str| {
        let mut letters = part.chars();
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
    };
    name.split('_').map(part).collect::<Vec<String>>().concat()
}

/// A note as long as may be.
fn shortened(note: &str) -> String {
    let end = (0..=MAX_NOTE.min(note.len())).rev().find(|end| note.is_char_boundary(*end));
    note.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use jiff::Timestamp;
    use tokio::net::TcpListener;

    use super::*;
    use crate::{
        config::operator::kubernetes::{ApiServer, Kubernetes},
        domain::time::Moment,
    };

    fn alert() -> Alert {
        Alert {
            urgency: Urgency::Critical,
            name: "rotation_parked".into(),
            secret: "JWT_SECRET".parse().unwrap(),
            summary: "rotation x can't go on".to_owned(),
        }
    }

    /// A time at which nothing goes on.
    struct Fixed;

    impl Clock for Fixed {
        fn now(&self) -> Moment {
            Moment::default()
        }

        fn wall(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }
    }

    /// People, and how many times they were called.
    #[derive(Default)]
    struct Called(AtomicU32);

    #[async_trait]
    impl Alerts for Called {
        async fn raise(&self, _: &Alert) -> Result<(), Fault> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }

    #[tokio::test]
    async fn people_are_called_while_the_api_server_keeps_silent() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let token_file = directory.path().join("token");
        std::fs::write(&token_file, "token").unwrap();
        let address = format!("http://{}", silent.local_addr().unwrap());
        let settings = Kubernetes {
            server: Some(ApiServer { address, token_file, ca_file: None }),
            namespace: Some("operator".to_owned()),
            timeout: Duration::from_hours(1),
            status: None,
            deployment: None,
            encrypted_at_rest: false,
            compare_interval: Duration::from_mins(1),
            lease: None,
        };
        let cluster = Cluster::connect(&settings).unwrap();
        let about = About::ConfigMap("status".to_owned());
        let events = Events::new(cluster, about, "one".to_owned(), Arc::new(Fixed));
        let events = Arc::new(events);
        let people = Arc::new(Called::default());
        let alerts = WithEvents::new(Arc::clone(&people) as Arc<dyn Alerts>, events);
        let (alert, again) = (alert(), alert());
        let raising = async {
            alerts.raise(&alert).await.unwrap();
            alerts.raise(&again).await.unwrap();
        };
        let (_asked, ()) = tokio::join!(silent.accept(), raising);
        assert_eq!(people.0.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn an_alert_is_an_event_of_one_word() {
        let happened = Happened::from(&alert());
        assert_eq!((happened.reason.as_str(), happened.is_warning), ("RotationParked", true));
    }

    #[test]
    fn a_note_is_cut_between_letters() {
        assert_eq!(shortened(&"ä".repeat(600)).len(), MAX_NOTE);
        assert_eq!(shortened("short"), "short");
    }
}
