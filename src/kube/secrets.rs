//! The versions of one secret as Secrets of Kubernetes.
//!
//! Each version is an immutable object `NAME-vN`: two writers can't make the same one. The head
//! object `NAME` holds, besides the labels, the data of the version that the label `current` names,
//! for pods to mount; labels and data are replaced together, and only if nobody replaced them
//! meanwhile. A Secret that was there before becomes version 1. Versions are told by what the operator
//! wrote beside them, and not by their names alone: what others made is neither read nor replaced nor
//! removed. As in Vault's key-value engine the last ones are kept, and those that a label names.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

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

/// Versions that are kept, besides those that labels name.
const KEPT: u64 = 10;

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

    /// The object of a version; nothing where another of its name is.
    async fn stored(&self, version: u64) -> Result<Option<Secret>, Fault> {
        let found = self.cluster.get(&self.at.namespace, &self.name(version)).await?;
        Ok(found.filter(|secret| self.is_own(secret)))
    }

    fn is_own(&self, secret: &Secret) -> bool {
        let ObjectMeta { labels, annotations, .. } = &secret.metadata;
        let says = |all: &Option<BTreeMap<String, String>>, name: &str, text: &str| {
            all.as_ref().and_then(|all| all.get(name)).is_some_and(|found| found == text)
        };
        says(labels, MANAGED_BY, OPERATOR)
            && says(annotations, &format!("{PREFIX}/secret"), &self.at.name)
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
        match self.cluster.create(&self.at.namespace, &secret).await {
            Err(fault) if fault.reason == Reason::Conflict => match self.stored(version).await? {
                Some(_) => Err(fault),
                None => Err(self.taken(version)),
            },
            made => made.map(drop),
        }
    }

    /// Somebody else's object has the name of a version.
    fn taken(&self, version: u64) -> Fault {
        let (name, place) = (self.name(version), &self.place);
        let detail = format!(
            "the Secret {name} was not made by the operator, and is left as it is: rename it, or give {place} another name"
        );
        Fault::new(Reason::Invalid, detail)
    }

    /// Removes the versions that are neither kept after this one nor named by a label; the oldest that is left.
    async fn forget(&self, head: &Head, latest: u64) -> Result<u64, Fault> {
        let named: BTreeSet<_> = head.labels()?.versions().collect();
        let kept = latest.saturating_sub(KEPT).saturating_add(1);
        let mut oldest = kept;
        for version in (head.oldest()..kept).rev() {
            if named.contains(&version) {
                oldest = version;
            } else if self.stored(version).await?.is_some() {
                self.cluster.delete::<Secret>(&self.at.namespace, &self.name(version)).await?;
            }
        }
        Ok(oldest)
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

    /// Notes that this many versions were made, so that no number is used again, and removes what is not kept.
    async fn note(&self, version: u64) -> Result<(), Fault> {
        let forgotten = self.forget(&self.head().await?, version).await;
        self.change(|head| {
            let is_new = head.latest() < version;
            if is_new {
                head.annotate("latest", &version.to_string());
                // What could not be removed is with the next.
                if let Ok(oldest) = &forgotten {
                    head.annotate("oldest", &oldest.to_string());
                }
            }
            Ok(is_new)
        })
        .await?;
        forgotten.map(drop)
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

    /// The oldest version that may still be there.
    fn oldest(&self) -> u64 {
        self.annotation("oldest").and_then(|oldest| oldest.parse().ok()).unwrap_or(1)
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
