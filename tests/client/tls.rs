//! mTLS: certificates that turn over, and those that are refused.

use std::{fs, path::Path, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
    version::TLS13,
};
use secret_broker_client::{Client, Error};
use tokio_rustls::TlsAcceptor;

use crate::{broker::Broker, serving};

pub(crate) type Authority = CertifiedIssuer<'static, KeyPair>;

pub(crate) fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn leaf(authority: &Authority, san: SanType) -> (String, String, Vec<u8>) {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![san];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    (certificate.pem(), key.serialize_pem(), certificate.der().to_vec())
}

/// Writes what a client needs, and returns its certificate.
pub(crate) fn client_files(directory: &Path, trusted: &Authority, issuer: &Authority) -> Vec<u8> {
    let id = SanType::URI("spiffe://test/app".try_into().unwrap());
    let (chain, key, der) = leaf(issuer, id);
    fs::write(directory.join("ca.pem"), trusted.pem()).unwrap();
    // Renamed over, as those do that replace certificates.
    for (name, content) in [("client.pem", chain), ("client.key", key)] {
        fs::write(directory.join("new"), content).unwrap();
        fs::rename(directory.join("new"), directory.join(name)).unwrap();
    }
    der
}

pub(crate) fn acceptor(authority: &Authority) -> TlsAcceptor {
    let (chain, key, _) = leaf(authority, SanType::IpAddress([127, 0, 0, 1].into()));
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config).into()
}

#[tokio::test]
async fn a_new_connection_shows_the_certificate_that_is_there_now() {
    let (broker, directory, authority) = (Broker::new(), tempfile::tempdir().unwrap(), authority());
    broker.put("A", 1, &[]);
    let first = client_files(directory.path(), &authority, &authority);
    let (running, address, mut seen) = serving::on_tls(&broker, acceptor(&authority)).await;
    let client = Client::builder()
        .address(format!("https://{address}"))
        .cert_dir(directory.path())
        .build()
        .unwrap();
    let mut watch = client.watch(["A"]);
    watch.next().await.unwrap().unwrap();
    assert_eq!(seen.recv().await.unwrap(), first);

    let second = client_files(directory.path(), &authority, &authority);
    client.get("A").await.unwrap();
    assert!(seen.try_recv().is_err(), "the open connection stays in use");
    broker.cut_off();
    broker.put("A", 2, &[]);
    watch.next().await.unwrap().unwrap();
    assert_eq!(seen.recv().await.unwrap(), second);

    // Half replaced files do no harm: the last good ones stay in use.
    fs::write(directory.path().join("client.pem"), "-----BEGIN").unwrap();
    broker.cut_off();
    broker.put("A", 3, &[]);
    watch.next().await.unwrap().unwrap();
    assert_eq!(seen.recv().await.unwrap(), second);
    drop(running);
}

#[tokio::test]
async fn certificates_that_are_not_accepted_give_a_tls_error() {
    let (broker, directory) = (Broker::new(), tempfile::tempdir().unwrap());
    let (ours, theirs) = (authority(), authority());
    let (_serving, address, _seen) = serving::on_tls(&broker, acceptor(&ours)).await;
    // First a broker that refuses us, then one that we refuse.
    for (trusted, issuer) in [(&ours, &theirs), (&theirs, &ours)] {
        client_files(directory.path(), trusted, issuer);
        let client = Client::builder()
            .address(format!("https://{address}"))
            .cert_dir(directory.path())
            .build()
            .unwrap();
        let error = client.get("A").await.unwrap_err();
        assert!(matches!(error, Error::Tls { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_missing_certificate_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    let client = Client::builder().address(&address).cert_dir(directory.path()).build().unwrap();
    let error = client.get("A").await.unwrap_err().to_string();
    assert!(error.contains("ca.pem"), "{error}");
    let error = Client::builder().address(&address).build().err().unwrap().to_string();
    assert!(error.contains("SECRET_BROKER_CERT_DIR"), "{error}");
}
