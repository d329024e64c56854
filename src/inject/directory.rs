//! The webhook's certificate in a directory, for a webhook of one replica.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::PathBuf,
};

use async_trait::async_trait;

use super::certificate::{Certificates, Kept};
use crate::domain::{
    fault::{Fault, Reason},
    secret::SecretValue,
};

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITIES: &str = "ca.crt";

/// Keeps it as `tls.crt`, `tls.key` and `ca.crt`.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// Keeps it in this directory, which is made where it is missing.
    pub const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    fn read(&self) -> io::Result<Kept> {
        let text = |name| fs::read_to_string(self.0.join(name));
        let key = SecretValue::new(fs::read(self.0.join(KEY))?);
        Ok(Kept { certificate: text(CERTIFICATE)?, key, authorities: text(AUTHORITIES)? })
    }

    /// The certificate last: who finds it finds what belongs to it.
    fn write(&self, kept: &Kept) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        self.put(AUTHORITIES, kept.authorities.as_bytes())?;
        self.put(KEY, kept.key.expose())?;
        self.put(CERTIFICATE, kept.certificate.as_bytes())
    }

    fn put(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let fresh = self.0.join(format!(".{name}.new"));
        let _ = fs::remove_file(&fresh);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&fresh, self.0.join(name))
    }

    fn fault(&self, error: &io::Error) -> Fault {
        Fault::new(Reason::Failed, format!("{}: {}", self.0.display(), error.kind()))
    }
}

#[async_trait]
impl Certificates for Directory {
    async fn load(&self) -> Result<Option<(Kept, String)>, Fault> {
        match self.read() {
            Ok(kept) => Ok(Some((kept, String::new()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.fault(&error)),
        }
    }

    async fn save(&self, kept: &Kept, _: Option<&str>) -> Result<(), Fault> {
        self.write(kept).map_err(|error| self.fault(&error))
    }
}
