//! The server's certificates, from where the configuration says.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{FutureExt, future::BoxFuture};

use super::{StartError, stores::Server};
use crate::{
    broker::ports::{Clock, Origin},
    config::{Tls, VaultEngine, VaultMethod, VaultPath},
    domain::{
        fault::{Fault, Reason},
        life::{Issued as Fetched, Lifetime},
        secret::SecretValue,
        time::Jitter,
    },
    tls::{
        LiveTls,
        authority::Authority,
        client_files::ClientFiles,
        files::{self, PemFiles},
        pki::{CertificateIssuer, Issued, IssuedCertificate},
        spiffe::{self, Svids},
    },
};

/// TLS with its first certificate, and the task that keeps it current.
pub(super) type Kept = (Arc<LiveTls>, BoxFuture<'static, ()>);

/// Has the first certificate made, read or issued.
pub(super) async fn keep(
    tls: Tls,
    server: Option<&Server>,
    clock: Arc<dyn Clock>,
    seed: u64,
) -> Result<Kept, StartError> {
    match tls {
        Tls::Files { cert, key, ca, crl } => {
            let files = PemFiles { cert, key, ca, crl };
            let live = Arc::new(LiveTls::new(files.read()?)?);
            let keep = Arc::clone(&live);
            Ok((live, async move { files.run(&keep).await }.boxed()))
        }
        Tls::Authority { directory, client_id, mode, ttl } => {
            let files = ClientFiles::in_directory(directory, mode)?;
            let authority = Authority::new(files, &client_id, ttl, clock.wall())?;
            let live = Arc::new(LiveTls::new(authority.issue(clock.wall())?)?);
            let keep = Arc::clone(&live);
            Ok((live, async move { authority.run(&keep, || clock.wall()).await }.boxed()))
        }
        Tls::Spiffe { endpoint, svid, client_svid, server_name, files, startup_timeout } => {
            let files = files.map(|(directory, mode)| ClientFiles::in_directory(directory, mode));
            let files = files.transpose()?;
            let plan = spiffe::Plan { endpoint, svid, client_svid, files, server_name };
            let mut svids = Svids::new(plan, Jitter::seeded(seed));
            let live = Arc::new(LiveTls::new(svids.first(startup_timeout).await?)?);
            let keep = Arc::clone(&live);
            Ok((live, async move { svids.run(&keep).await }.boxed()))
        }
        Tls::VaultPki { path, common_name, alt_names, ttl, client_ca } => {
            let Some(server) = server else { return Err(StartError::NoVault) };
            let origin = server.store.origin(certificate(path, common_name, &alt_names, ttl));
            let client_roots = client_ca.as_deref().map(files::certificates).transpose()?;
            let issuer = Arc::new(VaultIssuer(origin));
            let jitter = Jitter::seeded(seed);
            let mut certificates = Issued::new(issuer, client_roots.unwrap_or_default(), jitter);
            let (first, due) = certificates.issue().await?;
            let live = Arc::new(LiveTls::new(first)?);
            let keep = Arc::clone(&live);
            Ok((live, async move { certificates.run(&keep, due).await }.boxed()))
        }
    }
}

/// The place in Vault that issues the certificate.
fn certificate(
    path: String,
    common_name: String,
    alt_names: &[String],
    ttl: Duration,
) -> VaultPath {
    let (uris, names): (Vec<_>, Vec<_>) =
        alt_names.iter().map(String::as_str).partition(|name| name.contains("://"));
    let (ips, names): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|name| name.parse::<std::net::IpAddr>().is_ok());
    let parameters = [
        ("common_name", common_name),
        ("alt_names", names.join(",")),
        ("ip_sans", ips.join(",")),
        ("uri_sans", uris.join(",")),
        ("ttl", format!("{}s", ttl.as_secs())),
    ];
    let parameters = parameters.into_iter().filter(|(_, value)| !value.is_empty());
    let parameters = parameters.map(|(key, value)| (key.to_owned(), value)).collect();
    let engine = VaultEngine::Generic { path, method: VaultMethod::Post, parameters };
    VaultPath { engine, fields: BTreeMap::new() }
}

/// Vault's PKI engine as the issuer of the broker's own certificate.
struct VaultIssuer(Arc<dyn Origin>);

#[async_trait]
impl CertificateIssuer for VaultIssuer {
    async fn issue(&self) -> Result<IssuedCertificate, Fault> {
        let Fetched { fields, lifetime, .. } = self.0.fetch().await?;
        let missing =
            |name| Fault::new(Reason::Invalid, format!("the issued certificate has no {name}"));
        let field = |name: &'static str| fields.field(name).ok_or_else(|| missing(name));
        let text = |value: &SecretValue| String::from_utf8_lossy(value.expose()).into_owned();
        let ca_pem = text(field("issuing_ca")?);
        let (Lifetime::Ends(ends_in) | Lifetime::Leased { ttl: ends_in, .. }) = lifetime else {
            return Err(missing("expiration"));
        };
        Ok(IssuedCertificate {
            chain_pem: format!("{}\n{ca_pem}", text(field("certificate")?)),
            key_pem: SecretValue::new(field("private_key")?.expose()),
            ca_pem,
            ends_in,
        })
    }
}
