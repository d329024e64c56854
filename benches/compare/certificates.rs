//! One authority, and a certificate for the servers and one for the load.

use std::{fs, path::Path, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

pub const CLIENT: &str = "spiffe://bench/ns/shop/sa/api";

/// Writes `ca.pem`, `server.pem`, `server.key`, `client.pem` and `client.key`.
pub fn write(directory: &Path) {
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "bench");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().unwrap();
    let ca = authority.self_signed(&key).unwrap();
    fs::write(directory.join("ca.pem"), ca.pem()).unwrap();
    let issuer = Issuer::new(authority, key);
    let server = vec![
        SanType::DnsName("localhost".try_into().unwrap()),
        SanType::IpAddress([127, 0, 0, 1].into()),
    ];
    let client = vec![SanType::URI(CLIENT.try_into().unwrap())];
    for (name, sans, usage) in [
        ("server", server, ExtendedKeyUsagePurpose::ServerAuth),
        ("client", client, ExtendedKeyUsagePurpose::ClientAuth),
    ] {
        let mut leaf = CertificateParams::default();
        leaf.subject_alt_names = sans;
        leaf.extended_key_usages = vec![usage];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        let certificate = leaf.signed_by(&key, &issuer).unwrap();
        fs::write(directory.join(format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

/// The TLS settings of the load, with the protocols that it offers.
pub fn client(directory: &Path, protocols: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(directory.join("ca.pem")).unwrap() {
        roots.add(root.unwrap()).unwrap();
    }
    let chain = CertificateDer::pem_file_iter(directory.join("client.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(directory.join("client.key")).unwrap();
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
    Arc::new(config)
}
