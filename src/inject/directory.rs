//! The webhook's certificate in a directory, for a webhook of one replica.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
};

use async_trait::async_trait;

use super::certificate::{Certificates, Kept};
use crate::{
    domain::{
        fault::{Fault, Reason},
        secret::SecretValue,
    },
    files::replace,
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
        replace(&self.0.join(AUTHORITIES), kept.authorities.as_bytes())?;
        replace(&self.0.join(KEY), kept.key.expose())?;
        replace(&self.0.join(CERTIFICATE), kept.certificate.as_bytes())
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
