//! The client's certificates: read when first needed, and again whenever their files changed.
//!
//! While the files are half replaced or unreadable, the last good ones stay in use; nothing is cached of a failure.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::TLS13,
};

/// Three PEM files.
pub(crate) struct Certificates {
    ca: PathBuf,
    chain: PathBuf,
    key: PathBuf,
    loaded: Mutex<Option<Loaded>>,
}

#[derive(Clone)]
struct Loaded {
    stamp: Stamp,
    config: Arc<ClientConfig>,
}

/// What tells one content of the three files from the next: inode, size, and change time of each.
type Stamp = [(u64, u64, i64, i64); 3];

impl Certificates {
    pub(crate) fn in_directory(directory: &Path) -> Self {
        let file = |name| directory.join(name);
        Self::of_files(file("ca.pem"), file("client.pem"), file("client.key"))
    }

    pub(crate) fn of_files(ca: PathBuf, chain: PathBuf, key: PathBuf) -> Self {
        Self { ca, chain, key, loaded: Mutex::new(None) }
    }

    /// The configuration for a new connection. Reads small local files.
    pub(crate) fn current(&self) -> Result<Arc<ClientConfig>, String> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        match (self.read(loaded.as_ref()), loaded.as_ref()) {
            (Ok(fresh), _) => Ok(Arc::clone(&loaded.insert(fresh).config)),
            (Err(_), Some(last_good)) => Ok(Arc::clone(&last_good.config)),
            (Err(error), None) => Err(error),
        }
    }

    fn read(&self, last: Option<&Loaded>) -> Result<Loaded, String> {
        // Taken before reading: a change in between is seen at the next connection.
        let stamp = [stamp(&self.ca)?, stamp(&self.chain)?, stamp(&self.key)?];
        match last.filter(|last| last.stamp == stamp) {
            Some(last) => Ok(last.clone()),
            None => Ok(Loaded { stamp, config: Arc::new(self.load()?) }),
        }
    }

    fn load(&self) -> Result<ClientConfig, String> {
        let mut roots = RootCertStore::empty();
        for authority in certificates(&self.ca)? {
            roots.add(authority).map_err(|error| at(&self.ca, &error))?;
        }
        let chain = certificates(&self.chain)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|_| at(&self.key, &"no PEM private key can be read from it"))?;
        let mut config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|error| at(&self.chain, &error))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would carry the identity of the certificate before.
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

fn stamp(path: &Path) -> Result<(u64, u64, i64, i64), String> {
    let found = fs::metadata(path).map_err(|error| at(path, &error))?;
    Ok((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    match read() {
        Ok(found) if found.is_empty() => Err(at(path, &"it holds no PEM certificate")),
        Ok(found) => Ok(found),
        Err(_) => Err(at(path, &"no PEM certificate can be read from it")),
    }
}

fn at(path: &Path, problem: &dyn std::fmt::Display) -> String {
    format!("{}: {problem}", path.display())
}
