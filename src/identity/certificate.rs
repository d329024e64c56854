//! The workload that a verified client certificate names.
//!
//! A SPIFFE ID counts if it is the one URI SAN of the certificate (X.509-SVID, sections 2 and 5.2); without any URI
//! SAN the first DNS SAN does. The subject's common name never does.

use jiff::Timestamp;
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
};

use crate::domain::workload::{Workload, is_spiffe_id};

/// What a client certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The workload.
    pub workload: Workload,
    /// When the certificate ends.
    pub not_after: Timestamp,
}

/// A certificate that names no workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// It is no X.509 certificate.
    #[error("the certificate can't be parsed")]
    Malformed,
    /// It has several URI SANs.
    #[error("the client certificate has several URI SANs; an X.509-SVID has exactly one")]
    SeveralUris,
    /// Its URI SAN is no SPIFFE ID.
    #[error(
        "the client certificate's URI SAN is not a SPIFFE ID of the form spiffe://TRUST-DOMAIN/PATH"
    )]
    NotSpiffe,
    /// It has neither.
    #[error("the client certificate has neither a SPIFFE ID as URI SAN nor a DNS SAN")]
    Anonymous,
}

/// Reads the workload from a certificate whose chain was verified already.
///
/// # Errors
/// When the certificate does not name exactly one workload.
pub fn peer(der: &[u8]) -> Result<Peer, IdentityError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| IdentityError::Malformed)?;
    let sans = certificate
        .subject_alternative_name()
        .map_err(|_| IdentityError::Malformed)?
        .map(|extension| extension.value.general_names.as_slice())
        .unwrap_or_default();
    let uris = sans.iter().filter_map(|san| match san {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let dns = sans.iter().find_map(|san| match san {
        GeneralName::DNSName(name) => Some(*name),
        _ => None,
    });
    let workload = match (uris.collect::<Vec<_>>().as_slice(), dns) {
        ([uri], _) if is_spiffe_id(uri) => Workload::Spiffe((*uri).to_owned()),
        ([_], _) => return Err(IdentityError::NotSpiffe),
        ([], Some(name)) => Workload::Dns(name.to_ascii_lowercase()),
        ([], None) => return Err(IdentityError::Anonymous),
        _ => return Err(IdentityError::SeveralUris),
    };
    Ok(Peer { workload, not_after: end(&certificate)? })
}

/// When a certificate ends.
///
/// # Errors
/// When it can't be parsed.
pub fn not_after(der: &[u8]) -> Result<Timestamp, IdentityError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| IdentityError::Malformed)?;
    end(&certificate)
}

fn end(certificate: &X509Certificate<'_>) -> Result<Timestamp, IdentityError> {
    Timestamp::from_second(certificate.validity().not_after.timestamp())
        .map_err(|_| IdentityError::Malformed)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType, string::Ia5String};

    use super::*;

    fn named(sans: Vec<SanType>) -> Result<Workload, IdentityError> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = sans;
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        peer(certificate.der()).map(|peer| peer.workload)
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(Ia5String::try_from(text).expect("ASCII"))
    }

    fn dns(text: &str) -> SanType {
        SanType::DnsName(Ia5String::try_from(text).expect("ASCII"))
    }

    #[test]
    fn the_one_uri_san_names_the_workload_before_any_dns_san() {
        let id = "spiffe://prod.example/ns/shop/sa/api";
        assert_eq!(named(vec![dns("api"), uri(id)]), Ok(Workload::Spiffe(id.into())));
        assert_eq!(named(vec![dns("API.shop"), dns("b")]), Ok(Workload::Dns("api.shop".into())));
    }

    #[test]
    fn certificates_that_name_no_one_workload_are_refused() {
        let two = vec![uri("spiffe://a/b"), uri("spiffe://a/c")];
        assert_eq!(named(two), Err(IdentityError::SeveralUris));
        assert_eq!(named(vec![]), Err(IdentityError::Anonymous));
        assert_eq!(peer(b"nonsense"), Err(IdentityError::Malformed));
        for bad in ["https://a/b", "spiffe://", "spiffe://A/b", "spiffe://a//b", "spiffe://a/../b"]
        {
            assert_eq!(named(vec![dns("x"), uri(bad)]), Err(IdentityError::NotSpiffe), "{bad}");
        }
        for bad in
            ["spiffe://a/b?c", "spiffe://a/b#c", "spiffe://a:1/b", "spiffe://u@a/b", "spiffe://a/"]
        {
            assert_eq!(named(vec![uri(bad)]), Err(IdentityError::NotSpiffe), "{bad}");
        }
    }
}
