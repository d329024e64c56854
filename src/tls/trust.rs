//! Who vouches for callers: any authority of a set, or those of the trust domain that a caller says it is of.

use std::{collections::BTreeMap, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use super::{TlsError, provider};
use crate::{
    domain::workload::{self, Workload},
    identity::certificate,
};

/// What checks the certificates of callers.
pub type Callers = Arc<dyn ClientCertVerifier>;

/// Certificates in DER form.
pub type Certificates = Vec<CertificateDer<'static>>;

/// Revocation lists in DER form.
pub type RevocationLists = Vec<CertificateRevocationListDer<'static>>;

/// Callers whom any of these authorities vouches for.
///
/// # Errors
/// When there is no authority, or a part can't be used.
pub fn by_any(authorities: Certificates, crls: RevocationLists) -> Result<Callers, TlsError> {
    callers(roots(authorities)?, crls)
}

/// Authorities to trust.
///
/// # Errors
/// When one of them can't be used.
pub fn roots(authorities: Certificates) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority).map_err(|error| TlsError::Unusable(error.to_string()))?;
    }
    Ok(roots)
}

fn callers(roots: RootCertStore, crls: RevocationLists) -> Result<Callers, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider())
        .with_crls(crls)
        .allow_unknown_revocation_status()
        .build()
        .map_err(|error| TlsError::Unusable(error.to_string()))?;
    Ok(verifier)
}

/// Callers with a SPIFFE ID, whom an authority of their own trust domain vouches for. No domain can speak for another's
/// workloads.
///
/// # Errors
/// When a domain has no authority, or a revocation list can't be used.
pub fn by_domain(
    bundles: BTreeMap<String, RootCertStore>,
    crls: &RevocationLists,
) -> Result<Callers, TlsError> {
    let verifier = |(domain, roots)| {
        let callers = callers(roots, crls.clone())
            .map_err(|error| TlsError::Unusable(format!("trust domain {domain}: {error}")))?;
        Ok((domain, callers))
    };
    let domains = bundles.into_iter().map(verifier).collect::<Result<_, TlsError>>()?;
    Ok(Arc::new(ByDomain { domains, algorithms: provider().signature_verification_algorithms }))
}

#[derive(Debug)]
struct ByDomain {
    domains: BTreeMap<String, Callers>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ByDomain {
    fn of(&self, leaf: &CertificateDer<'_>) -> Option<&Callers> {
        match certificate::peer(leaf).ok()?.workload {
            Workload::Spiffe(id) => self.domains.get(workload::trust_domain(&id)?),
            _ => None,
        }
    }
}

impl ClientCertVerifier for ByDomain {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let callers = self.of(leaf).ok_or(CertificateError::UnknownIssuer)?;
        callers.verify_client_cert(leaf, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
