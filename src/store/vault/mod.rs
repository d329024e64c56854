//! Secrets from a Vault server.
//!
//! Invariants: every call passes one budget; nothing that Vault or a library says goes into an
//! error or a log; a 403 costs at most one look-up of the token and one login for all secrets.

mod answer;
#[cfg(feature = "operator")]
mod api;
#[cfg(feature = "operator")]
mod break_glass;
mod client;
#[cfg(feature = "operator")]
mod document;
mod fault;
#[cfg(feature = "operator")]
mod journal;
#[cfg(feature = "operator")]
mod kv;
mod labelled;
#[cfg(feature = "operator")]
mod leader;
mod login;
#[cfg(feature = "operator")]
mod relay;
mod session;

#[cfg(feature = "operator")]
pub use self::{
    break_glass::VaultGlass, journal::VaultJournal, kv::KvVersions, leader::VaultLock,
    relay::VaultRelay,
};

use std::{
    collections::HashMap,
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};

use self::{
    client::{Call, Client, Envelope},
    fault::Doing,
    labelled::Given,
    session::{Session, Sessions},
};
use super::VersionKey;
use crate::{
    broker::ports::{CallObserver, Clock, Origin},
    config::{self, VaultEngine, VaultMethod, VaultPath},
    domain::{
        fault::{Fault, Reason},
        life::{Issued, Lease, Lifetime, Renewed},
        secret::SecretValue,
        time::Jitter,
    },
};

/// The life that a credential is expected to have before the first one of its path was seen.
const EXPECTED_TTL: Duration = Duration::from_mins(10);

/// The connection to Vault can't be set up as configured.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SetupError(String);

/// One Vault server.
pub struct VaultStore {
    client: Arc<Client>,
    sessions: Sessions,
    clock: Arc<dyn Clock>,
    versions: Arc<VersionKey>,
    /// The lease time last seen of each path.
    expected: StdMutex<HashMap<String, Duration>>,
}

impl VaultStore {
    /// A store that logs in at its first call. `seed` makes its jitter differ from other pods'.
    ///
    /// # Errors
    /// When the address, a certificate or a key can't be used.
    pub fn new(
        vault: &Arc<config::Vault>,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn CallObserver>,
        versions: Arc<VersionKey>,
        seed: u64,
    ) -> Result<Arc<Self>, SetupError> {
        let client = Client::new(vault, Arc::clone(&clock), observer, Jitter::seeded(seed))?;
        let client = Arc::new(client);
        let jitter = Jitter::seeded(seed.rotate_left(32));
        let sessions =
            Sessions::new(Arc::clone(&client), Arc::clone(vault), Arc::clone(&clock), jitter);
        Ok(Arc::new(Self { client, sessions, clock, versions, expected: StdMutex::default() }))
    }

    /// The origin of the secret at a place of this server.
    pub fn origin(self: &Arc<Self>, place: VaultPath) -> Arc<dyn Origin> {
        let losses = Mutex::new(self.sessions.losses());
        Arc::new(VaultOrigin { store: Arc::clone(self), place, losses, given: Given::default() })
    }

    /// Keeps the token alive and follows the files of certificates. Runs for ever.
    pub async fn run(&self) {
        tokio::join!(self.sessions.run(), self.client.follow_files());
    }

    /// Revokes the broker's token, and with it whatever was minted under it. Answers whether that was all that is left: a
    /// token that was given to the broker stays, and leases of tokens before this one live on.
    ///
    /// # Errors
    /// When Vault did not confirm it.
    pub async fn close(&self) -> Result<bool, Fault> {
        self.sessions.close().await
    }

    /// How many leases were revoked so far.
    pub fn revoked(&self) -> u64 {
        self.sessions.revoked()
    }

    /// Why Vault as a whole can't be used now, as far as is known.
    pub fn outage(&self) -> Option<Reason> {
        self.client.outage()
    }

    /// The token for the encrypted state.
    pub fn export_session(&self) -> Option<SecretValue> {
        self.sessions.export()
    }

    /// Takes over the token of an earlier run, so that its leases live on. If Vault does not accept
    /// it any more, its first use shows that and logs in anew.
    ///
    /// # Errors
    /// When the record is not one of a session.
    pub fn import_session(&self, record: &SecretValue) -> Result<(), Fault> {
        self.sessions.import(record)
    }

    async fn read(
        &self,
        path: &str,
        method: Method,
        parameters: &[(&str, &str)],
    ) -> Result<(Envelope, Arc<Session>), Fault> {
        let body = (method != Method::GET).then(|| {
            let fields = parameters.iter().map(|(k, v)| ((*k).to_owned(), json!(v)));
            Value::Object(fields.collect())
        });
        let query = if body.is_some() { &[] } else { parameters };
        let call = |session: Arc<Session>| {
            let (method, body) = (method.clone(), body.clone());
            async move {
                let call =
                    Call { operation: "read", method, path, query, body, doing: Doing::Read };
                self.client.call(&session.token, call).await
            }
        };
        self.with_session(self.expected(path), call).await
    }

    /// Makes a call with the current token; if Vault refuses the token itself, once more with a
    /// new one.
    async fn with_session<T, F>(
        &self,
        ttl: Duration,
        call: impl Fn(Arc<Session>) -> F,
    ) -> Result<(T, Arc<Session>), Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let session = self.sessions.session(ttl).await?;
        match call(Arc::clone(&session)).await {
            Err(fault)
                if fault.reason == Reason::Forbidden && self.sessions.is_lost(&session).await? =>
            {
                let session = self.sessions.session(ttl).await?;
                Ok((call(Arc::clone(&session)).await?, session))
            }
            result => result.map(|value| (value, session)),
        }
    }

    fn expected(&self, path: &str) -> Duration {
        let expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        expected.get(path).copied().unwrap_or(EXPECTED_TTL)
    }

    fn expect(&self, path: &str, ttl: Duration) {
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        expected.insert(path.to_owned(), ttl);
    }
}

/// The origin of one secret.
struct VaultOrigin {
    store: Arc<VaultStore>,
    place: VaultPath,
    losses: Mutex<watch::Receiver<u64>>,
    /// The values of key-value versions that somebody still holds.
    given: Given,
}

impl VaultOrigin {
    fn call(&self) -> (Method, Vec<(&str, &str)>) {
        match &self.place.engine {
            VaultEngine::KvV1 { .. } | VaultEngine::KvV2 { .. } => (Method::GET, vec![]),
            VaultEngine::Generic { method, parameters, .. } => {
                let method = match method {
                    VaultMethod::Get => Method::GET,
                    VaultMethod::Post => Method::POST,
                };
                (method, parameters.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect())
            }
        }
    }

    /// Reads or mints the value.
    async fn mint(&self) -> Result<Issued, Fault> {
        let path = self.place.api_path();
        let located =
            |fault: Fault| if fault.reason.is_store_wide() { fault } else { fault.at(&path) };
        if let VaultEngine::KvV2 { deployment, .. } = &self.place.engine {
            return self.labelled(&path, deployment).await.map_err(located);
        }
        let (method, parameters) = self.call();
        let (envelope, session) =
            self.store.read(&path, method, &parameters).await.map_err(located)?;
        let wall = self.store.clock.wall();
        let mut issued =
            answer::issued(&self.place, envelope, wall, &self.store.versions).map_err(located)?;
        if let Lifetime::Leased { lease, ttl } = &issued.lifetime {
            self.store.expect(&path, *ttl);
            self.store.sessions.minted(Arc::clone(&lease.id), Arc::clone(&session));
            issued.max_left = session.max_left(self.store.clock.now());
        }
        Ok(issued)
    }

    async fn lease(
        &self,
        operation: &'static str,
        path: &str,
        lease: &Lease,
    ) -> Result<Envelope, Fault> {
        let body = json!({ "lease_id": &*lease.id });
        let call = |session: Arc<Session>| {
            let body = Some(body.clone());
            async move {
                let call = Call {
                    operation,
                    method: Method::PUT,
                    path,
                    query: &[],
                    body,
                    doing: Doing::Lease,
                };
                self.store.client.call(&session.token, call).await
            }
        };
        let envelope =
            self.store.with_session(Duration::ZERO, call).await.map(|(envelope, _)| envelope);
        if envelope.as_ref().is_err_and(|fault| fault.reason == Reason::LeaseLost) {
            self.store.sessions.gone(&lease.id);
        }
        envelope
    }
}

#[async_trait]
impl Origin for VaultOrigin {
    async fn fetch(&self) -> Result<Issued, Fault> {
        // Boxed, so that those that wait for their turn are small.
        let _turn = self.store.client.turn().await;
        Box::pin(self.mint()).await
    }

    async fn renew(&self, lease: &Lease) -> Result<Renewed, Fault> {
        let _turn = self.store.client.turn().await;
        let envelope = Box::pin(self.lease("lease_renew", "sys/leases/renew", lease)).await?;
        Ok(Renewed {
            ttl: Duration::from_secs(envelope.lease_duration),
            renewable: envelope.renewable,
            max_left: self.store.sessions.lease_max_left(&lease.id),
        })
    }

    async fn revoke(&self, lease: &Lease) -> Result<(), Fault> {
        let _turn = self.store.client.turn().await;
        match Box::pin(self.lease("lease_revoke", "sys/leases/revoke", lease)).await {
            Ok(_) => {}
            Err(fault) if fault.reason == Reason::LeaseLost => {}
            Err(fault) => return Err(fault),
        }
        self.store.sessions.gone(&lease.id);
        Ok(())
    }

    async fn changed(&self) {
        if self.losses.lock().await.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
