//! Certificates that an authority elsewhere issues to the broker, renewed before they end.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::time::sleep;

use super::{
    LiveTls, Material, TlsError,
    trust::{self, Certificates},
};
use crate::domain::{fault::Fault, secret::SecretValue, time::Jitter};

/// The share of a certificate's life after which it is renewed: two thirds, spread.
const RENEW_SHARE: (f64, f64) = (0.6, 0.73);
/// The waits after a renewal that failed.
const RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(5));

/// A certificate fresh from its authority.
#[derive(Debug)]
pub struct IssuedCertificate {
    /// The leaf and intermediates, PEM.
    pub chain_pem: String,
    /// The private key, PEM.
    pub key_pem: SecretValue,
    /// The issuing authority, PEM.
    pub ca_pem: String,
    /// The time it has left.
    pub ends_in: Duration,
}

/// An authority that issues certificates to the broker.
#[async_trait]
pub trait CertificateIssuer: Send + Sync {
    /// Issues one.
    async fn issue(&self) -> Result<IssuedCertificate, Fault>;
}

/// Certificates from an issuer.
pub struct Issued {
    issuer: Arc<dyn CertificateIssuer>,
    /// The authorities of client certificates; the issuing one when empty.
    client_roots: Certificates,
    jitter: Jitter,
}

impl Issued {
    /// Certificates from `issuer`, with client certificates of `client_roots`, or of the issuing
    /// authority when there are none.
    pub fn new(
        issuer: Arc<dyn CertificateIssuer>,
        client_roots: Certificates,
        jitter: Jitter,
    ) -> Self {
        Self { issuer, client_roots, jitter }
    }

    /// Has a certificate issued; returns the time until the next one is due.
    ///
    /// # Errors
    /// When the issuer gives none, or gives what can't be read.
    pub async fn issue(&mut self) -> Result<(Material, Duration), TlsError> {
        let issued =
            self.issuer.issue().await.map_err(|fault| TlsError::Issue(fault.to_string()))?;
        let due = self.jitter.spread(issued.ends_in, RENEW_SHARE.0, RENEW_SHARE.1);
        let certificates = |pem: &str| {
            CertificateDer::pem_slice_iter(pem.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|_| TlsError::Issue("the issued certificate is not PEM".into()))
        };
        let key = PrivateKeyDer::from_pem_slice(issued.key_pem.expose())
            .map_err(|_| TlsError::Issue("the issued private key is not PEM".into()))?;
        let roots = if self.client_roots.is_empty() {
            certificates(&issued.ca_pem)?
        } else {
            self.client_roots.clone()
        };
        let callers = trust::by_any(roots, Vec::new())?;
        Ok((Material { chain: certificates(&issued.chain_pem)?, key, callers }, due))
    }

    /// Renews the certificate whenever it is due, for ever.
    pub async fn run(mut self, live: &LiveTls, mut due: Duration) {
        let mut retry = RETRY.0;
        loop {
            sleep(due).await;
            match self.issue().await {
                Ok((material, next)) => {
                    live.offer(Ok(material));
                    (due, retry) = (next, RETRY.0);
                }
                Err(error) => {
                    live.offer(Err(error));
                    due = self.jitter.spread(retry, 0.5, 1.0);
                    retry = (retry * 2).min(RETRY.1);
                }
            }
        }
    }
}
