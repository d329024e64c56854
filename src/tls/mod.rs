//! Server certificates and client authorities that change while connections are open.
//!
//! A source ([`files`], [`pki`], [`authority`], [`spiffe`]) makes [`Material`]; [`LiveTls`] checks
//! it and publishes it. Material that can't be used is refused and what worked stays in force. TLS 1.3
//! only, client certificates always.

pub mod authority;
#[cfg(feature = "operator")]
pub mod client;
pub mod client_files;
pub mod files;
#[cfg(feature = "operator")]
pub mod own;
mod pem;
pub mod pki;
pub mod spiffe;
pub mod trust;

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::Timestamp;
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::Error as PemError},
};
use tokio::sync::watch;

use self::trust::{Callers, Certificates};
use crate::identity::certificate;

/// What a server needs to prove itself and to check its callers.
pub struct Material {
    /// The certificate chain, leaf first.
    pub chain: Certificates,
    /// The leaf's private key.
    pub key: PrivateKeyDer<'static>,
    /// What checks client certificates.
    pub callers: Callers,
}

/// Why material can't be used or had.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read as PEM.
    #[error("{path}: {what}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// The parts don't make a server.
    #[error("the certificate, key and authorities don't make a TLS server: {0}")]
    Unusable(String),
    /// A certificate could not be made or issued.
    #[error("no certificate could be had: {0}")]
    Issue(String),
}

impl TlsError {
    fn pem(path: &std::path::Path, expected: &str, error: &PemError) -> Self {
        let what = match error {
            PemError::NoItemsFound => format!("holds no {expected} in PEM form"),
            PemError::Io(error) => error.to_string(),
            _ => format!("is not the PEM form of {expected}"),
        };
        Self::File { path: path.display().to_string(), what }
    }
}

/// The material in force.
struct InForce {
    config: Arc<ServerConfig>,
    callers: Callers,
    not_after: Timestamp,
}

/// TLS whose material can be exchanged at any time.
pub struct LiveTls {
    in_force: ArcSwap<InForce>,
    version: watch::Sender<u64>,
    failure: ArcSwapOption<String>,
}

impl LiveTls {
    /// TLS with its first material.
    ///
    /// # Errors
    /// When the material can't be used.
    pub fn new(first: Material) -> Result<Self, TlsError> {
        Ok(Self {
            in_force: ArcSwap::from_pointee(check(first)?),
            version: watch::Sender::new(0),
            failure: ArcSwapOption::empty(),
        })
    }

    /// Puts new material in force for all handshakes from now on, or says why it is not; open
    /// connections are told to check their peers anew.
    pub fn offer(&self, material: Result<Material, TlsError>) {
        match material.and_then(check) {
            Ok(in_force) => {
                let not_after = in_force.not_after;
                self.in_force.store(Arc::new(in_force));
                self.failure.store(None);
                self.version.send_modify(|version| *version += 1);
                tracing::info!(%not_after, "certificates replaced");
            }
            Err(error) => {
                tracing::error!(%error, "new certificates refused; the last good ones stay");
                self.failure.store(Some(Arc::new(error.to_string())));
            }
        }
    }

    /// The configuration for the next handshake.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.in_force.load().config)
    }

    /// Tells when material was exchanged.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Whether a peer's chain, leaf first, would be accepted by a handshake at `now`.
    pub fn accepts(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> bool {
        let Some((leaf, intermediates)) = chain.split_first() else { return false };
        let since_epoch = u64::try_from(now.as_second()).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(since_epoch));
        self.in_force.load().callers.verify_client_cert(leaf, intermediates, now).is_ok()
    }

    /// When the server's certificate ends.
    pub fn not_after(&self) -> Timestamp {
        self.in_force.load().not_after
    }

    /// Why the last new material was refused; `None` if it was not.
    pub fn failure(&self) -> Option<Arc<String>> {
        self.failure.load_full()
    }
}

fn check(material: Material) -> Result<InForce, TlsError> {
    let unusable = |error: &dyn std::fmt::Display| TlsError::Unusable(error.to_string());
    let leaf = material.chain.first().ok_or_else(|| unusable(&"there is no certificate"))?;
    let not_after = certificate::not_after(leaf).map_err(|error| unusable(&error))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable(&error))?
        .with_client_cert_verifier(Arc::clone(&material.callers))
        .with_single_cert(material.chain, material.key)
        .map_err(|error| unusable(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Resumption would carry a peer past a change of authorities.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(InForce { config: Arc::new(config), callers: material.callers, not_after })
}

/// The one cryptography provider of the process.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
