//! The versions of one secret as Secrets of Kubernetes.
//!
//! Each version is an immutable object `NAME-vN`: two writers can't make the same one. The head
//! object `NAME` holds, besides the labels, the data of the version that the label `current` names,
//! for pods to mount; labels and data are replaced together, and only if nobody replaced them
//! meanwhile. A Secret that was there before becomes version 1.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{Cluster, MANAGED_BY, OPERATOR, PREFIX};
use crate::{
    config::operator::kubernetes::SecretPlace,
    domain::{
        fault::{Fault, Reason},
        labels::Labels,
        secret::{Fields, SecretValue},
    },
    rotation::ports::Versions,
};

/// How often a change of the head is tried when others change it too.
const ATTEMPTS: u32 = 5;

/// The versions of one secret.
pub struct SecretVersions {
    cluster: Cluster,
    at: SecretPlace,
    place: String,
}

impl SecretVersions {
    /// Those that lie at this place.
    pub fn new(cluster: Cluster, at: SecretPlace) -> Self {
        Self { cluster, place: at.to_string(), at }
    }

    fn name(&self, version: u64) -> String {
        format!("{}-v{version}", self.at.name)
    }

    async fn stored(&self, version: u64) -> Result<Option<Secret>, Fault> {
        self.cluster.get(&self.at.namespace, &self.name(version)).await
    }

    async fn existing(&self, version: u64) -> Result<Secret, Fault> {
        self.stored(version).await?.ok_or_else(|| {
            let detail = format!("version {version} of {} does not exist", self.place);
            Fault::new(Reason::NotFound, detail)
        })
    }

    async fn head(&self) -> Result<Head, Fault> {
        let found = self.cluster.get::<Secret>(&self.at.namespace, &self.at.name).await?;
        Ok(found.map_or_else(|| Head::of(&self.at.name), Head))
    }

    /// Makes the object of a version.
    async fn store(&self, version: u64, data: BTreeMap<String, ByteString>) -> Result<(), Fault> {
        let labels = [
            (MANAGED_BY.to_owned(), OPERATOR.to_owned()),
            (format!("{PREFIX}/version"), version.to_string()),
        ];
        // The name as an annotation, for it may be longer than a label can be.
        let annotations = [(format!("{PREFIX}/secret"), self.at.name.clone())];
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(self.name(version)),
                labels: Some(labels.into()),
                annotations: Some(annotations.into()),
                ..ObjectMeta::default()
            },
            data: Some(data),
            immutable: Some(true),
            ..Secret::default()
        };
        self.cluster.create(&self.at.namespace, &secret).await.map(drop)
    }

    /// Changes the head as `change` says, again when somebody else changed it meanwhile.
    async fn change(&self, change: impl Fn(&mut Head) -> Result<bool, Fault>) -> Result<(), Fault> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let mut head = self.head().await?;
            if !change(&mut head)? {
                return Ok(());
            }
            let written = if head.exists() {
                self.cluster.replace(&self.at.namespace, &head.0).await
            } else {
                self.cluster.create(&self.at.namespace, &head.0).await
            };
            match written {
                Ok(_) => return Ok(()),
                Err(fault) if fault.reason == Reason::Conflict => last = Some(fault),
                Err(fault) => return Err(fault),
            }
        }
        Err(last.unwrap_or_else(|| Fault::new(Reason::Conflict, "others change it all the time")))
    }

    /// Notes that this many versions were made, so that no number is used again.
    async fn note(&self, version: u64) -> Result<(), Fault> {
        self.change(|head| {
            let is_new = head.latest() < version;
            if is_new {
                head.annotate("latest", &version.to_string());
            }
            Ok(is_new)
        })
        .await
    }

    /// The latest version by the head and by what lies beside it: whoever made a version may have
    /// been killed before it was noted.
    async fn find_latest(&self, head: &Head) -> Result<u64, Fault> {
        let mut latest = head.latest();
        while self.stored(latest.saturating_add(1)).await?.is_some() {
            latest = latest.saturating_add(1);
        }
        Ok(latest)
    }
}

#[async_trait]
impl Versions for SecretVersions {
    fn place(&self) -> &str {
        &self.place
    }

    async fn latest(&self) -> Result<u64, Fault> {
        let mut head = self.head().await?;
        let latest = self.find_latest(&head).await?;
        if latest > 0 || head.data().is_empty() {
            return Ok(latest);
        }
        // It was there before the operator was.
        match self.store(1, std::mem::take(head.data())).await {
            Err(fault) if fault.reason != Reason::Conflict => return Err(fault),
            _ => self.note(1).await?,
        }
        Ok(1)
    }

    async fn read(&self, version: u64) -> Result<Arc<Fields>, Fault> {
        Ok(Arc::new(fields(self.existing(version).await?)))
    }

    async fn append(&self, fields: &Fields, after: u64) -> Result<u64, Fault> {
        if self.latest().await? != after {
            let detail = format!("version {after} of {} is not the latest", self.place);
            return Err(Fault::new(Reason::Conflict, detail));
        }
        let version = after.saturating_add(1);
        self.store(version, data(fields)).await?;
        // It is there, whether or not that can be noted now: it is found without the note, too.
        if let Err(fault) = self.note(version).await {
            tracing::debug!(%fault, place = self.place, version, "a version is not noted yet");
        }
        Ok(version)
    }

    async fn labels(&self) -> Result<Labels, Fault> {
        self.head().await?.labels()
    }

    async fn label(&self, labels: &Labels) -> Result<(), Fault> {
        // Before labels are there, what is in force is what the head holds.
        let latest = self.latest().await?;
        let served = match labels.current {
            None => BTreeMap::new(),
            Some(version) => self.existing(version).await?.data.unwrap_or_default(),
        };
        let pairs = serde_json::to_string(&labels.to_pairs())
            .map_err(|_| Fault::new(Reason::Invalid, "the labels can't be written"))?;
        self.change(|head| {
            if head.labels()?.epoch > labels.epoch {
                let detail = format!("somebody else moved the labels of {} meanwhile", self.place);
                return Err(Fault::new(Reason::Conflict, detail));
            }
            head.annotate("labels", &pairs);
            let noted = head.latest().max(latest);
            head.annotate("latest", &noted.to_string());
            *head.data() = served.clone();
            Ok(true)
        })
        .await
    }

    async fn destroy(&self, version: u64) -> Result<(), Fault> {
        self.note(version).await?;
        self.cluster.delete::<Secret>(&self.at.namespace, &self.name(version)).await?;
        // Nobody is served what was destroyed.
        self.change(|head| {
            let is_served = head.labels()?.current == Some(version) && !head.data().is_empty();
            if is_served {
                head.data().clear();
            }
            Ok(is_served)
        })
        .await
    }
}

/// The object that holds labels, and what is in force.
struct Head(Secret);

impl Head {
    /// One that does not exist yet.
    fn of(name: &str) -> Self {
        let labels = [(MANAGED_BY.to_owned(), OPERATOR.to_owned())];
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels.into()),
            ..ObjectMeta::default()
        };
        Self(Secret { metadata, ..Secret::default() })
    }

    fn exists(&self) -> bool {
        self.0.metadata.resource_version.is_some()
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        let annotations = self.0.metadata.annotations.as_ref()?;
        annotations.get(&format!("{PREFIX}/{name}")).map(String::as_str)
    }

    fn annotate(&mut self, name: &str, value: &str) {
        let annotations = self.0.metadata.annotations.get_or_insert_default();
        annotations.insert(format!("{PREFIX}/{name}"), value.to_owned());
    }

    /// The latest version that was noted.
    fn latest(&self) -> u64 {
        self.annotation("latest").and_then(|latest| latest.parse().ok()).unwrap_or(0)
    }

    fn labels(&self) -> Result<Labels, Fault> {
        let Some(pairs) = self.annotation("labels") else { return Ok(Labels::default()) };
        let pairs: BTreeMap<String, String> = serde_json::from_str(pairs)
            .map_err(|_| Fault::new(Reason::Invalid, "the labels can't be read"))?;
        Ok(Labels::from_pairs(pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()))))
    }

    fn data(&mut self) -> &mut BTreeMap<String, ByteString> {
        self.0.data.get_or_insert_default()
    }
}

/// The fields of an object.
pub(super) fn fields(secret: Secret) -> Fields {
    let data = secret.data.unwrap_or_default();
    data.into_iter().map(|(name, value)| (name, SecretValue::new(value.0))).collect()
}

/// The fields as an object holds them.
pub(super) fn data(fields: &Fields) -> BTreeMap<String, ByteString> {
    let pair = |(name, value): (&str, &SecretValue)| {
        (name.to_owned(), ByteString(value.expose().to_vec()))
    };
    fields.iter().map(pair).collect()
}
