//! The other ways in which a pod is served, run as a kubelet runs them: modes, sources of certificates, the socket.

use std::{fs, os::unix::fs::MetadataExt};

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{ExtendedKeyUsagePurpose, SanType};
use serde_json::{Value, json};

use crate::{
    pki::Authority,
    support::until,
    whole::{HOURS, Whole, goes_on, users},
};

/// An application that asks the broker who it is, by the command line's client; what fails is tried again.
const ASKS: &str = "while sleep 0.1; do
    user=$(/secret-broker get DB --field username 2>>/out/errors) && echo \"$user\" >>/out/users
done";

/// Mode, user and group of a file of the injected containers.
fn owned(path: &std::path::Path) -> (u32, u32, u32) {
    let meta = fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (meta.mode() & 0o7777, meta.uid(), meta.gid())
}

#[tokio::test]
async fn a_plain_sidecar_holds_the_application_back_and_comes_back_with_its_lease() {
    let whole = Whole::start(HOURS).await;
    whole.vault.seal().await;
    let mut pod =
        whole.pod("plain", &[("mode", "plain")], &format!("touch /out/started; {ASKS}")).await;
    let (log, started) = (pod.log_file("secret-broker"), pod.path("out", "started"));
    let unsealed = async {
        until("the sidecar finds no Vault", async || {
            fs::read_to_string(&log).ok().filter(|log| log.contains("the login to Vault failed"))
        })
        .await;
        assert!(!started.exists(), "the application waits");
        whole.vault.unseal().await;
    };
    tokio::join!(pod.start(), unsealed);
    goes_on(&pod, 2).await;
    assert_eq!(pod.file("out", "errors"), "", "it had its secrets from the first call on");
    pod.kill("secret-broker").await;
    goes_on(&pod, 2).await;
    assert_eq!(whole.postgres.leased_users().await, users(&pod), "and had no other since");
    assert_eq!(whole.calls("database/creds/app"), 1);
    pod.end().await;
    whole.nobody_is_left().await;
}

#[tokio::test]
async fn an_init_container_leaves_files_that_the_application_queries_with_and_a_lease_that_ends_by_itself()
 {
    let whole = Whole::start(("15s", "1h")).await;
    let files = [("mode", "init"), ("files", "user=DB.username,password=DB.password")];
    let read = "cd /run/secrets/broker; export PGUSER=$(cat user) PGPASSWORD=$(cat password)";
    let mut pod = whole.pod("init", &files, &format!("{read}; {}", whole.query())).await;
    pod.start().await;
    assert!(!pod.runs("secret-broker"));
    let ended = pod.ended("app").await;
    assert_eq!((ended, pod.file("out", "errors").as_str()), (Some(0), ""));
    assert_eq!(users(&pod).len(), 1);
    // The pod is over, and nobody is left to revoke or to renew what it had.
    assert_eq!(whole.calls("sys/leases/revoke") + whole.calls("sys/leases/renew"), 0);
    whole.nobody_is_left().await;
}

#[tokio::test]
async fn vault_issues_the_certificates_of_both_sides() {
    let whole = Whole::start(HOURS).await;
    let vault = &whole.vault;
    vault.write("sys/mounts/pki", json!({ "type": "pki" })).await;
    let root = json!({ "common_name": "the pods' authority", "ttl": "300h" });
    vault.write("pki/root/generate/internal", root).await;
    let role = json!({
        "allow_localhost": true, "allow_bare_domains": true, "allowed_domains": ["localhost"],
        "allowed_uri_sans": [format!("spiffe://cluster.local/ns/{}/sa/default", whole.shop)],
    });
    vault.write("pki/roles/pods", role).await;
    let annotations =
        [("tls", "vault-pki"), ("tls-path", "pki/issue/pods"), ("files-mode", "0444")];
    let mut pod = whole.pod("pki", &annotations, ASKS).await;
    pod.start().await;
    goes_on(&pod, 2).await;
    assert_eq!(pod.file("out", "errors"), "");
    assert_eq!(whole.calls("pki/issue/pods"), 2, "one for each side");
    let key = pod.path("secret-broker-run", "client.key");
    assert_eq!(owned(&key).0, 0o440, "whatever the files' mode is");
    // Killed, it has certificates issued anew; the application's user stays.
    pod.kill("secret-broker").await;
    goes_on(&pod, 2).await;
    assert_eq!(users(&pod).len(), 1, "{}", pod.log("secret-broker"));
    pod.end().await;
    whole.nobody_is_left().await;
}

/// A Secret as cert-manager makes it, for the application and for the address that it reaches the broker at.
fn certificates(shop: &str) -> Value {
    let authority = Authority::new("cert-manager");
    let id = format!("spiffe://cluster.local/ns/{shop}/sa/default");
    let leaf = authority.client_with(|params| {
        params.subject_alt_names = vec![
            SanType::DnsName("localhost".try_into().unwrap()),
            SanType::URI(id.try_into().unwrap()),
        ];
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    });
    let parts = [("tls.crt", leaf.cert), ("tls.key", leaf.key), ("ca.crt", authority.pem)];
    let data: serde_json::Map<_, _> =
        parts.into_iter().map(|(key, pem)| (key.to_owned(), json!(STANDARD.encode(pem)))).collect();
    json!({ "metadata": { "name": "certs" }, "type": "kubernetes.io/tls", "data": data })
}

#[tokio::test]
async fn certificates_of_a_secret_are_served_and_exchanged_while_the_sidecar_runs() {
    let whole = Whole::start(HOURS).await;
    let kubernetes = &whole.rig.kubernetes;
    let secrets = format!("/api/v1/namespaces/{}/secrets", whole.shop);
    kubernetes.create(&secrets, certificates(&whole.shop)).await;
    let annotations = [("tls", "files"), ("tls-secret", "certs")];
    for (name, group, mode) in [("certs", None, 0o444), ("certs-of-a-group", Some(2000), 0o440)] {
        let mut asked = Whole::asked(name, &annotations, ASKS);
        asked["spec"]["securityContext"] = json!({ "fsGroup": group });
        let mut pod = whole.made(asked).await;
        pod.start().await;
        goes_on(&pod, 2).await;
        assert_eq!(pod.file("out", "errors"), "");
        let key = pod.path("secret-broker-tls", "client.key");
        assert_eq!(owned(&key), (mode, 0, group.unwrap_or_default()));

        // Another authority: whoever trusts the new one alone is answered once the sidecar serves by it.
        let path = format!("{secrets}/certs");
        let (status, told) =
            kubernetes.request("PATCH", &path, Some(certificates(&whole.shop))).await;
        assert_eq!(status, 200, "{told}");
        pod.refresh(kubernetes, "secret-broker-tls").await;
        goes_on(&pod, 3).await;
        assert_eq!(users(&pod).len(), 1);
        pod.end().await;
    }
    whole.nobody_is_left().await;
}

#[tokio::test]
async fn an_application_of_another_user_reaches_the_broker_by_its_socket_until_its_own_end() {
    let whole = Whole::start(HOURS).await;
    let mut asked = Whole::asked("socket", &[("connect", "socket")], ASKS);
    let app = &mut asked["spec"]["containers"][0];
    app["securityContext"]["runAsUser"] = json!(4711);
    // The kubelet ends native sidecars last, so that the application is served until it is gone.
    let last = ["/bin/sh", "-c", "/secret-broker get DB --field username >/out/last"];
    app["lifecycle"] = json!({ "preStop": { "exec": { "command": last } } });
    let mut pod = whole.made(asked).await;
    pod.start().await;
    goes_on(&pod, 2).await;
    assert_eq!(pod.file("out", "errors"), "");
    assert_eq!(owned(&pod.path("secret-broker-run", "broker.sock")), (0o660, 65532, 65532));
    pod.end().await;
    assert_eq!(users(&pod), [pod.file("out", "last")]);
    whole.nobody_is_left().await;
}
