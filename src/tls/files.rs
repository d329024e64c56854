//! Certificates from PEM files, read again whenever one changes.

use std::path::{Path, PathBuf};

use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject,
};

use super::{
    LiveTls, Material, TlsError,
    trust::{self, Certificates, RevocationLists},
};
use crate::files::FileWatch;

/// Where the files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PemFiles {
    /// The certificate chain, leaf first.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// The authorities of client certificates.
    pub ca: PathBuf,
    /// Their revocation lists.
    pub crl: Option<PathBuf>,
}

impl PemFiles {
    /// Reads all files.
    ///
    /// # Errors
    /// Which file is missing or not what it should be.
    pub fn read(&self) -> Result<Material, TlsError> {
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| TlsError::pem(&self.key, "a private key", &error))?;
        let crls = self.crl.as_deref().map(revocation_lists).transpose()?.unwrap_or_default();
        let callers = trust::by_any(certificates(&self.ca)?, crls)?;
        Ok(Material { chain: certificates(&self.cert)?, key, callers })
    }

    /// Offers the files anew at each change, for ever.
    pub async fn run(self, live: &LiveTls) {
        let paths = [&self.cert, &self.key, &self.ca].into_iter().chain(&self.crl).cloned();
        let watch = FileWatch::new(paths);
        loop {
            watch.changed().await;
            live.offer(self.read());
        }
    }
}

/// All certificates of a PEM file.
///
/// # Errors
/// When it can't be read, or holds none.
pub fn certificates(path: &Path) -> Result<Certificates, TlsError> {
    let error = |error: &_| TlsError::pem(path, "a certificate", error);
    let certificates = CertificateDer::pem_file_iter(path)
        .map_err(|e| error(&e))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| error(&e))?;
    if certificates.is_empty() {
        return Err(error(&rustls::pki_types::pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

fn revocation_lists(path: &Path) -> Result<RevocationLists, TlsError> {
    CertificateRevocationListDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| TlsError::pem(path, "a revocation list", &error))
}
