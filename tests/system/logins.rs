//! Each way to log in, at a real Vault.

use std::{fs, path::Path};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType,
};
use secret_broker_client::Reason;
use serde_json::{Value, json};

use crate::support::{
    broker::Broker,
    free_port,
    kubernetes::Kubernetes,
    proxy::Proxy,
    until,
    vault::{BROKER_POLICY, Vault},
};

const SECRET: &str = "[secrets.KEY]\ncategory = \"application\"\nstore = \"vault\"\nengine = \"kv2\"\npath = \"app\"\nfields = { value = \"key\" }\nretry_min = \"100ms\"\nretry_max = \"1s\"\n";

/// A Vault with one secret and a policy `broker` that may read it.
async fn vault() -> Vault {
    prepared(Vault::start().await).await
}

async fn prepared(vault: Vault) -> Vault {
    vault.write("sys/mounts/secret", json!({ "type": "kv", "options": { "version": "2" } })).await;
    until("the engine is ready", async || {
        let body = json!({ "data": { "key": "the value" } });
        let (status, _) = vault.request("POST", "secret/data/app", Some(body)).await;
        (status < 300).then_some(())
    })
    .await;
    vault.write("sys/policies/acl/broker", json!({ "policy": BROKER_POLICY })).await;
    vault
}

/// Sections of a broker that logs in like this.
fn sections(address: &str, auth: &str) -> String {
    format!(
        "[vault]\naddress = \"{address}\"\ntimeout = \"5s\"\n[vault.budget]\nprobe_min = \"100ms\"\nprobe_max = \"1s\"\n[vault.auth]\n{auth}\n{SECRET}"
    )
}

async fn logs_in(vault: &Vault, auth: &str, environment: &[(&str, &str)]) -> Broker {
    let broker = Broker::start(&sections(&vault.address(), auth), environment).await;
    let secret = broker.client().get("KEY").await.expect(auth);
    assert_eq!(secret.text("value"), Some("the value"));
    broker
}

/// A signed JSON web token, and the PEM form of the key that proves it.
fn jwt(claims: &Value) -> (String, String) {
    let pair = KeyPair::generate().unwrap();
    let der = pair.serialize_der();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der).unwrap();
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({ "alg": "ES256", "typ": "JWT" })), part(claims));
    let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    let token = format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref()));
    (token, pair.public_key_pem())
}

fn in_an_hour() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 3600
}

fn file(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn userpass() {
    let vault = vault().await;
    vault.write("sys/auth/userpass", json!({ "type": "userpass" })).await;
    let user = json!({ "password": "pass phrase", "token_policies": ["broker"] });
    vault.write("auth/userpass/users/broker", user).await;
    let auth = "method = \"userpass\"\nusername = \"broker\"\npassword_env = \"PASSWORD\"";
    logs_in(&vault, auth, &[("PASSWORD", "pass phrase")]).await;
}

#[tokio::test]
async fn a_wrong_password_is_told_as_the_brokers_own_login() {
    let vault = vault().await;
    vault.write("sys/auth/userpass", json!({ "type": "userpass" })).await;
    vault.write("auth/userpass/users/broker", json!({ "password": "right" })).await;
    let auth = "method = \"userpass\"\nusername = \"broker\"\npassword_env = \"PASSWORD\"";
    let text = sections(&vault.address(), auth);
    let broker = Broker::start(&text, &[("PASSWORD", "wrong-and-planted")]).await;
    let error = broker.client().get("KEY").await.expect_err("the login is refused");
    assert_eq!(error.reason(), Some(Reason::SourceUnauthenticated), "{error}");
    assert!(!broker.log().contains("wrong-and-planted"));
}

#[tokio::test]
async fn a_token_is_used_as_it_is_and_left_alive_at_the_end() {
    let vault = vault().await;
    let made =
        vault.write("auth/token/create", json!({ "policies": ["broker"], "ttl": "1h" })).await;
    let token = made["auth"]["client_token"].as_str().unwrap();
    let mut broker =
        logs_in(&vault, "method = \"token\"\ntoken_env = \"TOKEN\"", &[("TOKEN", token)]).await;
    assert_eq!(broker.terminate().await, Some(0));
    let lookup = vault.request("POST", "auth/token/lookup", Some(json!({ "token": token }))).await;
    assert_eq!(lookup.0, 200, "what others gave is not ours to revoke");
}

#[tokio::test]
async fn a_token_file_that_is_replaced_is_read_again_when_its_token_is_lost() {
    let vault = vault().await;
    let create = async || {
        let made = vault.write("auth/token/create", json!({ "policies": ["broker"] })).await;
        made["auth"]["client_token"].as_str().unwrap().to_owned()
    };
    let (first, second) = (create().await, create().await);
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), "token", &first);
    let auth = format!("method = \"token\"\ntoken_file = \"{path}\"");
    let short = "poll_interval = \"1s\"\nmax_stale = \"0s\"\n";
    let text = format!("{}{short}", sections(&vault.address(), &auth));
    let broker = Broker::start(&text, &[]).await;
    broker.client().get("KEY").await.expect("a secret");
    file(directory.path(), "token", &second);
    vault.write("auth/token/revoke", json!({ "token": first })).await;
    vault.write("secret/data/app", json!({ "data": { "key": "after" } })).await;
    until("the new token is used", async || {
        let secret = broker.client().get("KEY").await.ok()?;
        (secret.text("value") == Some("after")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn approle_with_a_wrapped_secret_id_which_works_once() {
    let vault = vault().await;
    let (role_id, _) = vault.approle("wrapped", BROKER_POLICY, json!({})).await;
    let http = reqwest::Client::new();
    let wrapped = http
        .post(format!("{}/v1/auth/approle/role/wrapped/secret-id", vault.address()))
        .header("X-Vault-Token", &vault.root)
        .header("X-Vault-Wrap-TTL", "5m");
    let wrapped: Value = wrapped.send().await.unwrap().json().await.unwrap();
    let token = wrapped["wrap_info"]["token"].as_str().unwrap();
    let auth = "method = \"approle\"\nrole_id_env = \"ROLE_ID\"\nsecret_id_env = \"SECRET_ID\"\nwrapped = true";
    let environment = [("ROLE_ID", role_id.as_str()), ("SECRET_ID", token)];
    logs_in(&vault, auth, &environment).await;

    let second = Broker::start(&sections(&vault.address(), auth), &environment).await;
    let error = second.client().get("KEY").await.expect_err("a wrapping token works once");
    assert_eq!(error.reason(), Some(Reason::SourceUnauthenticated), "{error}");
    assert!(second.log().contains("was used before"), "the log warns of a thief");
}

#[tokio::test]
async fn a_json_web_token() {
    let vault = vault().await;
    let claims =
        json!({ "sub": "broker", "aud": "vault", "exp": in_an_hour(), "nbf": in_an_hour() - 3700 });
    let (token, key) = jwt(&claims);
    vault.write("sys/auth/jwt", json!({ "type": "jwt" })).await;
    vault.write("auth/jwt/config", json!({ "jwt_validation_pubkeys": [key] })).await;
    let role = json!({
        "role_type": "jwt", "bound_audiences": ["vault"], "user_claim": "sub",
        "token_policies": ["broker"],
    });
    vault.write("auth/jwt/role/broker", role).await;
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), "jwt", &token);
    let auth = format!("method = \"jwt\"\nrole = \"broker\"\ntoken_file = \"{path}\"");
    logs_in(&vault, &auth, &[]).await;
}

#[tokio::test]
async fn a_service_account_of_kubernetes_by_a_token_for_vault_alone() {
    let (vault, kubernetes) = tokio::join!(vault(), Kubernetes::start());
    let namespace = kubernetes.namespace("shop", json!({})).await;
    for account in ["api", "other", "reviewer"] {
        kubernetes.service_account(&namespace, account).await;
    }
    kubernetes.bind(&namespace, "reviewer", "system:auth-delegator").await;
    vault.write("sys/auth/kubernetes", json!({ "type": "kubernetes" })).await;
    let config = json!({
        "kubernetes_host": kubernetes.address(), "kubernetes_ca_cert": kubernetes.ca(),
        "token_reviewer_jwt": kubernetes.token(&namespace, "reviewer", None).await,
        "disable_local_ca_jwt": true,
    });
    vault.write("auth/kubernetes/config", config).await;
    let role = json!({
        "bound_service_account_names": ["api"], "bound_service_account_namespaces": [namespace],
        "audience": "vault", "token_policies": ["broker"],
    });
    vault.write("auth/kubernetes/role/shop-api", role).await;
    let directory = tempfile::tempdir().unwrap();
    let auth = async |account: &str, audience: Option<&str>| {
        let token = kubernetes.token(&namespace, account, audience).await;
        let path = file(directory.path(), &format!("{account}-{audience:?}"), &token);
        format!("method = \"kubernetes\"\nrole = \"shop-api\"\ntoken_file = \"{path}\"")
    };
    logs_in(&vault, &auth("api", Some("vault")).await, &[]).await;
    for (account, audience) in [("api", None), ("api", Some("other")), ("other", Some("vault"))] {
        let text = sections(&vault.address(), &auth(account, audience).await);
        let broker = Broker::start(&text, &[]).await;
        let error = broker.client().get("KEY").await.expect_err("the login is refused");
        let told = format!("{account} for {audience:?}: {error}");
        assert_eq!(error.reason(), Some(Reason::SourceUnauthenticated), "{told}");
    }
    // A token of an account that is gone proves nothing any more, although it has not run out.
    let late = auth("api", Some("vault")).await;
    let account = format!("/api/v1/namespaces/{namespace}/serviceaccounts/api");
    assert_eq!(kubernetes.request("DELETE", &account, None).await.0, 200);
    let broker = Broker::start(&sections(&vault.address(), &late), &[]).await;
    let error = broker.client().get("KEY").await.expect_err("the account is gone");
    assert_eq!(error.reason(), Some(Reason::SourceUnauthenticated), "{error}");
}

#[tokio::test]
async fn a_client_certificate_over_tls_to_a_server_of_another_name() {
    let directory = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "the authority");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(ca, key);
    let leaf = |name: &str, usage| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &issuer).unwrap();
        let path = file(directory.path(), &format!("{name}.pem"), &cert.pem());
        (path, file(directory.path(), &format!("{name}.key"), &key.serialize_pem()))
    };
    let (server, server_key) = leaf("vault.internal", ExtendedKeyUsagePurpose::ServerAuth);
    let (client, client_key) = leaf("broker.shop", ExtendedKeyUsagePurpose::ClientAuth);
    let next = leaf("next.shop", ExtendedKeyUsagePurpose::ClientAuth);
    let ca_file = file(directory.path(), "ca.pem", &ca_pem);
    let port = free_port();
    let listener = format!(
        "listener \"tcp\" {{ address = \"127.0.0.1:{port}\"\n tls_cert_file = \"{server}\"\n tls_key_file = \"{server_key}\" }}\n"
    );
    let vault = prepared(Vault::with(&listener).await).await;
    vault.write("sys/auth/cert", json!({ "type": "cert" })).await;
    let role = json!({
        "certificate": ca_pem, "allowed_common_names": ["broker.shop", "next.shop"], "token_policies": ["broker"],
    });
    vault.write("auth/cert/certs/broker", role).await;
    let text = |name: &str| {
        let text =
            sections(&format!("https://127.0.0.1:{port}"), "method = \"cert\"\nrole = \"broker\"");
        let tls = format!(
            "[vault]\nca = \"{ca_file}\"\nclient_cert = \"{client}\"\nclient_key = \"{client_key}\"\nserver_name = \"{name}\"\n"
        );
        text.replacen("[vault]\n", &tls, 1) + "poll_interval = \"1s\"\n"
    };
    let broker = Broker::start(&text("vault.internal"), &[]).await;
    let secret = broker.client().get("KEY").await.expect("a login by certificate");
    assert_eq!(secret.text("value"), Some("the value"));

    let other = Broker::start(&text("other.internal"), &[]).await;
    let error = other.client().get("KEY").await.expect_err("the server has another name");
    assert_eq!(error.reason(), Some(Reason::SourceUnavailable), "{error}");

    // The next login is by the certificate that is there then.
    fs::rename(&next.1, &client_key).unwrap();
    fs::rename(&next.0, &client).unwrap();
    until("the new certificate is taken over", async || {
        broker.log().contains("certificates for Vault taken over").then_some(())
    })
    .await;
    let names = logged_in_as(&vault, true).await;
    assert_eq!(names, ["broker.shop"]);
    until("it logs in again", async || {
        (logged_in_as(&vault, false).await == ["next.shop"]).then_some(())
    })
    .await;
}

/// The names in the certificates of the logins that hold, which are ended if asked.
async fn logged_in_as(vault: &Vault, end: bool) -> Vec<String> {
    let accessors = vault.request("LIST", "auth/token/accessors", None).await.1;
    let mut names = Vec::new();
    for accessor in accessors["data"]["keys"].as_array().unwrap() {
        let body = json!({ "accessor": accessor });
        let (status, found) =
            vault.request("POST", "auth/token/lookup-accessor", Some(body.clone())).await;
        if status == 200 && found["data"]["path"] == "auth/cert/login" {
            names.push(found["data"]["meta"]["common_name"].as_str().unwrap().to_owned());
            if end {
                vault.write("auth/token/revoke-accessor", body).await;
            }
        }
    }
    names
}

#[tokio::test]
async fn every_call_names_the_namespace() {
    let vault = vault().await;
    let (role_id, secret_id) = vault.approle("broker", BROKER_POLICY, json!({})).await;
    let proxy = Proxy::start(vault.port()).await;
    let auth = "method = \"approle\"\nrole_id_env = \"ROLE_ID\"\nsecret_id_env = \"SECRET_ID\"";
    let text = sections(&proxy.address(), auth).replacen(
        "[vault]\n",
        "[vault]\nnamespace = \"team-a\"\n",
        1,
    );
    let environment = [("ROLE_ID", role_id.as_str()), ("SECRET_ID", secret_id.as_str())];
    let broker = Broker::start(&text, &environment).await;
    // This edition has no namespaces, and answers as if the path were not there.
    let _ = broker.client().get("KEY").await;
    let heads =
        until("a call", async || Some(proxy.heads()).filter(|heads| !heads.is_empty())).await;
    for head in heads {
        assert!(head.to_lowercase().contains("x-vault-namespace: team-a"), "{head}");
    }
}

#[tokio::test]
async fn a_token_is_renewed_and_then_replaced_before_its_longest_life_ends() {
    let vault = vault().await;
    let settings = json!({ "token_ttl": "3s", "token_max_ttl": "8s" });
    let (role_id, secret_id) = vault.approle("short", BROKER_POLICY, settings).await;
    let proxy = Proxy::start(vault.port()).await;
    let auth = "method = \"approle\"\nrole_id_env = \"ROLE_ID\"\nsecret_id_env = \"SECRET_ID\"";
    let text =
        format!("{}poll_interval = \"1s\"\nmax_stale = \"0s\"\n", sections(&proxy.address(), auth));
    let environment = [("ROLE_ID", role_id.as_str()), ("SECRET_ID", secret_id.as_str())];
    let broker = Broker::start(&text, &environment).await;
    let client = broker.client();
    client.get("KEY").await.expect("a secret");
    let calls = |paths: &std::collections::BTreeMap<String, usize>, part: &str| -> usize {
        paths.iter().filter(|(path, _)| path.contains(part)).map(|(_, count)| count).sum()
    };
    let (mut renewals, mut logins) = (0, 0);
    until("it was renewed, and a second login came", async || {
        let error = client.get("KEY").await.err();
        assert!(error.is_none(), "the secret is served all the time: {error:?}");
        let paths = proxy.take_calls();
        renewals += calls(&paths, "token/renew-self");
        logins += calls(&paths, "auth/approle/login");
        (renewals >= 1 && logins >= 2).then_some(())
    })
    .await;
    assert!(!broker.log().contains("permission denied"), "no call was made with a dead token");
}
