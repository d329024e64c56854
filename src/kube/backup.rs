//! A copy of a secret in a Secret of Kubernetes, which pods can mount when Vault is lost.

use async_trait::async_trait;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::{
    Cluster, MANAGED_BY, OPERATOR, PREFIX,
    secrets::{data, fields},
};
use crate::{
    config::operator::kubernetes::SecretPlace,
    domain::{
        fault::{Fault, Reason},
        secret::Fields,
    },
    rotation::backup::{Copied, Copies},
};

/// A copy in one Secret. Its version is an annotation of it.
pub struct SecretCopy {
    cluster: Cluster,
    at: SecretPlace,
    place: String,
}

impl SecretCopy {
    /// The copy at this place.
    pub fn new(cluster: Cluster, at: SecretPlace) -> Self {
        Self { cluster, place: at.to_string(), at }
    }
}

fn version() -> String {
    format!("{PREFIX}/version")
}

#[async_trait]
impl Copies for SecretCopy {
    fn place(&self) -> &str {
        &self.place
    }

    async fn read(&self) -> Result<Option<Copied>, Fault> {
        let found = self.cluster.get::<Secret>(&self.at.namespace, &self.at.name).await?;
        Ok(found.map(|secret| {
            let annotations = secret.metadata.annotations.as_ref();
            let version = annotations.and_then(|all| all.get(&version())?.parse().ok());
            let stamp = secret.metadata.resource_version.clone().unwrap_or_default();
            Copied { version, fields: fields(secret), stamp }
        }))
    }

    async fn write(
        &self,
        copied_version: u64,
        value: &Fields,
        over: Option<&Copied>,
    ) -> Result<(), Fault> {
        let namespace = &self.at.namespace;
        let annotation = (version(), copied_version.to_string());
        let Some(over) = over else {
            let labels = [(MANAGED_BY.to_owned(), OPERATOR.to_owned())];
            let metadata = ObjectMeta {
                name: Some(self.at.name.clone()),
                labels: Some(labels.into()),
                annotations: Some([annotation].into()),
                ..ObjectMeta::default()
            };
            let secret = Secret { metadata, data: Some(data(value)), ..Secret::default() };
            return self.cluster.create(namespace, &secret).await.map(drop);
        };
        // Read again for what it has besides, such as annotations of others.
        let found = self.cluster.get::<Secret>(namespace, &self.at.name).await?;
        let read = found.filter(|s| s.metadata.resource_version.as_ref() == Some(&over.stamp));
        let Some(mut secret) = read else {
            return Err(
                Fault::new(Reason::Conflict, "somebody else wrote it meanwhile").at(&self.place)
            );
        };
        secret.metadata.annotations.get_or_insert_default().extend([annotation]);
        secret.data = Some(data(value));
        self.cluster.replace(namespace, &secret).await.map(drop)
    }
}
