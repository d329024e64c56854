//! A server's certificate with an authority of its own, for callers that are handed the authority, such as the API server.
//!
//! The authority's key is thrown away once it has signed: each certificate has another authority, and nobody can make a
//! second one of the same.

use std::{net::IpAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType, string::Ia5String,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use x509_parser::{extensions::GeneralName, parse_x509_certificate};
use zeroize::Zeroizing;

use super::{
    TlsError,
    authority::{issue_error, set_validity},
    provider,
};
use crate::{domain::secret::SecretValue, identity::certificate};

/// A certificate and its authority.
#[derive(Debug)]
pub struct OwnCertificate {
    /// The certificate, PEM.
    pub certificate: String,
    /// Its private key, PEM.
    pub key: SecretValue,
    /// Its authority, PEM.
    pub authority: String,
}

impl OwnCertificate {
    /// Makes one for these DNS names and IP addresses.
    ///
    /// # Errors
    /// When it can't be made, such as for a name that is not ASCII.
    pub fn issue(names: &[String], ttl: Duration, now: Timestamp) -> Result<Self, TlsError> {
        let unusable = |error: rcgen::Error| issue_error(&error);
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        // Authorities of one name would be taken for each other where both are trusted.
        let name = format!("secret-broker webhook authority {now}");
        params.distinguished_name.push(DnType::CommonName, name);
        set_validity(&mut params, now, ttl);
        let key = KeyPair::generate().map_err(unusable)?;
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(unusable)?;
        let mut params = CertificateParams::default();
        params.subject_alt_names =
            names.iter().map(|name| alternative(name)).collect::<Result<_, _>>()?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, now, ttl);
        let key = KeyPair::generate().map_err(unusable)?;
        let certificate = params.signed_by(&key, &issuer).map_err(unusable)?;
        let pem = Zeroizing::new(key.serialize_pem());
        Ok(Self {
            certificate: certificate.pem(),
            key: SecretValue::new(pem.as_bytes()),
            authority: issuer.pem(),
        })
    }
}

fn alternative(name: &str) -> Result<SanType, TlsError> {
    match name.parse::<IpAddr>() {
        Ok(ip) => Ok(SanType::IpAddress(ip)),
        Err(_) => Ia5String::try_from(name).map(SanType::DnsName).map_err(|e| issue_error(&e)),
    }
}

/// What is known of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// When it ends.
    pub not_after: Timestamp,
    /// The DNS names and IP addresses that it is for.
    pub names: Vec<String>,
}

/// What is known of the first certificate of a PEM text.
///
/// # Errors
/// When there is none.
pub fn known(pem: &str) -> Result<Known, TlsError> {
    let unusable = |what: &str| TlsError::Unusable(what.to_owned());
    let der = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| unusable("no certificate in PEM form"))?;
    let not_after = certificate::not_after(&der).map_err(|error| unusable(&error.to_string()))?;
    let (_, parsed) = parse_x509_certificate(&der).map_err(|_| unusable("no certificate"))?;
    let alternatives = parsed.subject_alternative_name().ok().flatten();
    let names = alternatives.into_iter().flat_map(|names| &names.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => ip(bytes),
        _ => None,
    });
    Ok(Known { not_after, names: names.collect() })
}

fn ip(bytes: &[u8]) -> Option<String> {
    let ip = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    ip.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok().map(|ip| ip.to_string())
}

/// Splits a PEM text into its blocks.
pub fn blocks(pem: &str) -> impl Iterator<Item = &str> {
    pem.split_inclusive("-----END CERTIFICATE-----")
        .filter(|block| block.contains("BEGIN"))
        .map(str::trim)
}

/// TLS of a server that knows its callers by other means, with a certificate that changes while connections are open.
pub struct LiveServer(ArcSwap<ServerConfig>);

impl LiveServer {
    /// TLS with its first certificate, PEM.
    ///
    /// # Errors
    /// When certificate and key don't make a server.
    pub fn new(certificate: &str, key: &SecretValue) -> Result<Self, TlsError> {
        Ok(Self(ArcSwap::new(server(certificate, key)?)))
    }

    /// Puts another certificate in force for all handshakes from now on.
    ///
    /// # Errors
    /// When certificate and key don't make a server; the one before stays.
    pub fn offer(&self, certificate: &str, key: &SecretValue) -> Result<(), TlsError> {
        self.0.store(server(certificate, key)?);
        Ok(())
    }

    /// The configuration for the next handshake.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.0.load_full()
    }
}

fn server(certificate: &str, key: &SecretValue) -> Result<Arc<ServerConfig>, TlsError> {
    let unusable = |what: String| TlsError::Unusable(what);
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| unusable("the certificate is not PEM".to_owned()))?;
    let key = PrivateKeyDer::from_pem_slice(key.expose())
        .map_err(|_| unusable("the private key is not PEM".to_owned()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable(error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| unusable(error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_of_ones_own_names_what_it_is_for() {
        let now = Timestamp::now();
        let names = ["webhook.broker.svc".to_owned(), "127.0.0.1".to_owned()];
        let made = OwnCertificate::issue(&names, Duration::from_hours(1), now).unwrap();
        let known = known(&made.certificate).unwrap();
        assert_eq!(known.names, names);
        assert!(known.not_after > now && LiveServer::new(&made.certificate, &made.key).is_ok());
        let both = format!("{}{}", made.authority, made.certificate);
        assert_eq!(blocks(&both).count(), 2);
    }
}
