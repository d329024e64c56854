//! The stores of a configuration, and the catalogue that leads into them.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use crate::{
    broker::{
        Entry,
        ports::{CallObserver, Clock, Origin},
        service::Catalogue,
    },
    config::{Secret, SecretOrigin, Vault},
    domain::{
        fault::{Fault, Reason},
        secret::SecretName,
    },
    store::{
        VersionKey,
        directory::Directory,
        dotenv::Dotenv,
        memory::{LeaseTerms, Memory},
        sealed::SealedFile,
        vault::{SetupError, VaultStore},
    },
    telemetry::{
        Metrics, WithTelemetry,
        events::{BudgetWaited, VaultCalled},
    },
};

/// What every store is built with.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) versions: Arc<VersionKey>,
    pub(super) seed: u64,
}

/// The Vault server of a configuration, and a mark that differs for each one that was set up.
pub(super) struct Server {
    pub(super) store: Arc<VaultStore>,
    settings: Arc<Vault>,
    mark: u64,
}

impl Server {
    pub(super) fn connect(
        vault: Vault,
        around: &Surroundings,
        mark: u64,
    ) -> Result<Self, SetupError> {
        let calls = Arc::new(Calls(Arc::clone(&around.metrics)));
        let settings = Arc::new(vault);
        let store = VaultStore::new(
            &settings,
            Arc::clone(&around.clock),
            calls,
            Arc::clone(&around.versions),
            around.seed ^ mark,
        )?;
        Ok(Self { store, settings, mark })
    }

    /// Whether it is what these settings describe.
    pub(super) fn is(&self, vault: Option<&Vault>) -> bool {
        vault == Some(&*self.settings)
    }
}

/// Tells the metrics of calls to Vault.
struct Calls(Arc<Metrics>);

impl CallObserver for Calls {
    fn called(&self, operation: &'static str, fault: Option<Reason>, _: std::time::Duration) {
        let fault = fault.map(|reason| Fault::new(reason, ""));
        let result = fault.as_ref().map_or(Ok(()), Err);
        VaultCalled { operation, result }.record(&self.0);
    }

    fn waited(&self, wait: std::time::Duration) {
        BudgetWaited { wait }.record(&self.0);
    }
}

/// The catalogue of a configuration.
pub(super) fn catalogue(
    secrets: BTreeMap<SecretName, Secret>,
    server: Option<&Server>,
    around: &Surroundings,
) -> Catalogue {
    secrets
        .into_iter()
        .filter_map(|(name, secret)| {
            let place = place(&secret.origin, server);
            let store = secret.origin.store();
            let origin = WithTelemetry {
                origin: origin(secret.origin, server, around)?,
                secret: name.clone(),
                store,
                clock: Arc::clone(&around.clock),
                metrics: Arc::clone(&around.metrics),
            };
            let category = Arc::from(secret.category);
            let origin: Arc<dyn Origin> = Arc::new(origin);
            Some((name, Entry { category, terms: secret.terms, origin, place }))
        })
        .collect()
}

/// The origin of a secret; `None` for one of Vault's when no Vault is configured, which no valid
/// configuration has.
fn origin(
    origin: SecretOrigin,
    server: Option<&Server>,
    around: &Surroundings,
) -> Option<Arc<dyn Origin>> {
    let versions = Arc::clone(&around.versions);
    Some(match origin {
        SecretOrigin::Vault(place) => return server.map(|server| server.store.origin(place)),
        SecretOrigin::Dotenv { file, fields } => Arc::new(Dotenv::new(file, fields, versions)),
        SecretOrigin::Directory { directory, fields } => {
            Arc::new(Directory::new(directory, fields, versions))
        }
        SecretOrigin::Sealed { file, key, place, deployment } => {
            Arc::new(SealedFile::new(file, key).origin(place, deployment))
        }
        SecretOrigin::Memory { fields, ttl, max_ttl } => {
            let terms = ttl.map(|ttl| LeaseTerms { ttl, max_ttl });
            Arc::new(Memory::new(fields, terms, Arc::clone(&around.clock)))
        }
    })
}

/// Tells places apart: another path, or the same path at a server that was set up anew.
fn place(origin: &SecretOrigin, server: Option<&Server>) -> u64 {
    let mut hasher = DefaultHasher::new();
    format_args!("{origin:?}").to_string().hash(&mut hasher);
    if matches!(origin, SecretOrigin::Vault(_)) {
        server.map(|server| server.mark).hash(&mut hasher);
    }
    hasher.finish()
}
