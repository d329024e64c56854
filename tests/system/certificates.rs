//! The broker's own certificate, issued and renewed by Vault's PKI engine.

use std::{fs, path::Path};

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use secret_broker_client::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::{
    broker::Broker,
    until,
    vault::{BROKER_POLICY, Vault},
};

const CALLER: &str = "spiffe://test/ns/shop/sa/api";

fn config(vault: &Vault) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nsocket = \"DIR/broker.sock\"\n\
         [tls]\nsource = \"vault-pki\"\npath = \"pki/issue/any\"\ncommon_name = \"broker.shop\"\n\
         alt_names = [\"localhost\", \"127.0.0.1\"]\nttl = \"30s\"\n\
         [audit]\nfile = \"DIR/audit.log\"\n\
         [vault]\naddress = \"{}\"\n\
         [vault.auth]\nmethod = \"approle\"\nrole_id_env = \"ROLE_ID\"\nsecret_id_env = \"SECRET_ID\"\n\
         [[policy]]\nidentities = [\"{CALLER}\"]\nsecrets = [\"**\"]\nverbs = [\"get\", \"watch\"]\n\
         [secrets.KEY]\ncategory = \"application\"\nstore = \"dotenv\"\nfile = \"DIR/secrets.env\"\nkey = \"KEY\"\n",
        vault.address()
    )
}

async fn issuing_vault() -> Vault {
    let vault = Vault::start().await;
    vault.write("sys/mounts/pki", json!({ "type": "pki" })).await;
    let root = json!({ "common_name": "the authority", "ttl": "24h" });
    vault.write("pki/root/generate/internal", root).await;
    let role = json!({ "allow_any_name": true, "allowed_uri_sans": "spiffe://*", "max_ttl": "1h" });
    vault.write("pki/roles/any", role).await;
    vault
}

/// The files of a caller whose certificate the same engine issued.
async fn caller(vault: &Vault) -> TempDir {
    let request = json!({ "common_name": "api", "uri_sans": CALLER, "ttl": "30m" });
    let issued = vault.write("pki/issue/any", request).await;
    let directory = tempfile::tempdir().unwrap();
    let put = |name: &str, value: &Value| {
        fs::write(directory.path().join(name), value.as_str().unwrap()).unwrap();
    };
    put("client.pem", &issued["data"]["certificate"]);
    put("client.key", &issued["data"]["private_key"]);
    put("ca.pem", &issued["data"]["issuing_ca"]);
    directory
}

/// The certificate that a new connection is shown.
async fn shown(address: &str, files: &Path) -> Option<CertificateDer<'static>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(files.join("ca.pem")).unwrap()).unwrap();
    let chain = vec![CertificateDer::from_pem_file(files.join("client.pem")).unwrap()];
    let key = rustls::pki_types::PrivateKeyDer::from_pem_file(files.join("client.key")).unwrap();
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    let tcp = TcpStream::connect(address).await.ok()?;
    let name = ServerName::try_from("localhost").unwrap();
    let tls = TlsConnector::from(std::sync::Arc::new(config)).connect(name, tcp).await.ok()?;
    tls.get_ref().1.peer_certificates()?.first().map(|leaf| leaf.clone().into_owned())
}

#[tokio::test]
async fn vault_issues_the_certificate_and_renews_it_under_an_open_stream() {
    let vault = issuing_vault().await;
    let (role_id, secret_id) = vault.approle("broker", BROKER_POLICY, json!({})).await;
    let mut broker = Broker::bare(&[("ROLE_ID", &role_id), ("SECRET_ID", &secret_id)]);
    broker.write(&config(&vault));
    fs::write(broker.path("secrets.env"), "KEY=first\n").unwrap();
    broker.run();
    broker.wait().await;

    let files = caller(&vault).await;
    let address = broker.address();
    let client = Client::builder()
        .address(format!("https://{address}"))
        .cert_dir(files.path())
        .build()
        .unwrap();
    let mut watch = client.watch(["KEY"]);
    watch.next().await.unwrap().expect("the stream is open");
    let first = shown(&address, files.path()).await.expect("a trusted certificate");
    until("another certificate is shown", async || {
        shown(&address, files.path()).await.filter(|now| *now != first)
    })
    .await;
    fs::write(broker.path("secrets.env"), "KEY=second\n").unwrap();
    let event = watch.next().await.unwrap().expect("the stream goes on");
    assert_eq!(event.secret().unwrap().text("value"), Some("second"));
}
