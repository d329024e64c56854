//! An authority that lives in this pod: made at start, its key in memory only.
//!
//! It issues the broker's certificate and the application's, and writes the application's into a
//! directory: `ca.pem`, `client.pem`, `client.key`. All are replaced before they end; the
//! authority itself stays for the life of the process.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType, string::Ia5String,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::time::sleep;
use zeroize::Zeroizing;

use super::{LiveTls, Material, TlsError, client_files::ClientFiles, trust};

/// The share of a certificate's life after which it is replaced.
const RENEW_SHARE: f64 = 2.0 / 3.0;
/// The life of the authority itself, in days: longer than any pod's.
const AUTHORITY_DAYS: i64 = 3650;
/// Certificates are valid from this long ago, for peers whose clock is behind.
const SKEW: Duration = Duration::from_mins(1);

/// The authority of one pod.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    files: ClientFiles,
    client_id: Ia5String,
    ttl: Duration,
}

impl Authority {
    /// Makes the authority, which writes the application's certificate to `files`.
    ///
    /// # Errors
    /// When it can't be made, or `client_id` is not ASCII.
    pub fn new(
        files: ClientFiles,
        client_id: &str,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Self, TlsError> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "secret-broker pod authority");
        set_validity(&mut params, now, Duration::from_hours(24 * AUTHORITY_DAYS.unsigned_abs()));
        let key = KeyPair::generate().map_err(|error| issue_error(&error))?;
        let issuer =
            CertifiedIssuer::self_signed(params, key).map_err(|error| issue_error(&error))?;
        let client_id = Ia5String::try_from(client_id).map_err(|error| issue_error(&error))?;
        Ok(Self { issuer, files, client_id, ttl })
    }

    /// Issues a certificate for the broker, and writes one for the application.
    ///
    /// # Errors
    /// When one can't be made or written.
    pub fn issue(&self, now: Timestamp) -> Result<Material, TlsError> {
        let client = self.leaf(
            vec![SanType::URI(self.client_id.clone())],
            ExtendedKeyUsagePurpose::ClientAuth,
            now,
        )?;
        let client_key = Zeroizing::new(client.1.serialize_pem());
        self.files.write(&self.issuer.pem(), &client.0.pem(), &client_key)?;

        let localhost = Ia5String::try_from("localhost").map_err(|error| issue_error(&error))?;
        let server_names = vec![
            SanType::DnsName(localhost),
            SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        ];
        let (server, key) = self.leaf(server_names, ExtendedKeyUsagePurpose::ServerAuth, now)?;
        Ok(Material {
            chain: vec![server.der().clone()],
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            callers: trust::by_any(
                vec![CertificateDer::from(self.issuer.der().to_vec())],
                Vec::new(),
            )?,
        })
    }

    /// Replaces the certificates whenever they are due, for ever.
    pub async fn run(self, live: &LiveTls, now: impl Fn() -> Timestamp) {
        loop {
            sleep(self.ttl.mul_f64(RENEW_SHARE)).await;
            live.offer(self.issue(now()));
        }
    }

    fn leaf(
        &self,
        names: Vec<SanType>,
        usage: ExtendedKeyUsagePurpose,
        now: Timestamp,
    ) -> Result<(Certificate, KeyPair), TlsError> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, now, self.ttl);
        let key = KeyPair::generate().map_err(|error| issue_error(&error))?;
        let certificate =
            params.signed_by(&key, &self.issuer).map_err(|error| issue_error(&error))?;
        Ok((certificate, key))
    }
}

pub(super) fn set_validity(params: &mut CertificateParams, now: Timestamp, ttl: Duration) {
    let (from, to) = (now.saturating_sub(SKEW), now.saturating_add(ttl));
    let from = from.map_or(0, Timestamp::as_second);
    let to = to.map_or(i64::MAX, Timestamp::as_second);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(from.unsigned_abs());
    params.not_after = epoch + Duration::from_secs(to.unsigned_abs());
}

pub(super) fn issue_error(error: &rcgen::Error) -> TlsError {
    TlsError::Issue(error.to_string())
}
