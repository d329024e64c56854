//! Authorities and certificates of every kind, the bad ones included.

use std::{fs, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};

/// The identity that the policy lets in.
pub const API: &str = "spiffe://test/ns/shop/sa/api";

pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM form.
pub struct Leaf {
    pub cert: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    pub fn server(&self) -> Leaf {
        self.leaf(|params| {
            params.subject_alt_names = vec![
                SanType::DnsName("localhost".try_into().unwrap()),
                SanType::IpAddress([127, 0, 0, 1].into()),
            ];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        })
    }

    pub fn client(&self) -> Leaf {
        self.client_with(|_| {})
    }

    pub fn client_with(&self, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        self.leaf(|params| {
            params.subject_alt_names = vec![SanType::URI(API.try_into().unwrap())];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            change(params);
        })
    }

    /// A certificate for clients and servers with this SPIFFE ID, as an agent hands it out.
    pub fn svid(&self, id: &str, dns: &[&str]) -> Leaf {
        self.leaf(|params| {
            let names = dns.iter().map(|&name| SanType::DnsName(name.try_into().unwrap()));
            params.subject_alt_names =
                [SanType::URI(id.try_into().unwrap())].into_iter().chain(names).collect();
            params.is_ca = IsCa::ExplicitNoCa;
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        })
    }

    fn leaf(&self, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let mut params = CertificateParams::default();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        Leaf { cert, key: key.serialize_pem() }
    }

    /// A revocation list with these serial numbers.
    pub fn revoke(&self, serials: &[u64]) -> String {
        let revoked = |&serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2025, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2025, 1, 1),
            next_update: date_time_ymd(2125, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

impl Leaf {
    pub fn der(&self) -> Vec<u8> {
        der(&self.cert)
    }

    /// Puts the pair into place as `NAME.pem` and `NAME.key`, each by a rename.
    pub fn install(&self, directory: &Path, name: &str) {
        put(directory, &format!("{name}.key"), &self.key);
        put(directory, &format!("{name}.pem"), &self.cert);
    }
}

/// The bytes of the first certificate of a PEM text.
pub fn der(pem: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

/// Puts a file into place whole.
pub fn put(directory: &Path, name: &str, text: &str) {
    let next = directory.join(format!(".{name}"));
    fs::write(&next, text).unwrap();
    fs::rename(next, directory.join(name)).unwrap();
}

pub fn expired(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
}
