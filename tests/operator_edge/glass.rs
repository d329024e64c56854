//! Access in emergencies on a real Vault, with no more rights than the operator needs for it.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use secret_broker::{
    app::clock::SystemClock,
    config::{self, AuthMethod, Credential, VaultAuth},
    domain::{budget::BudgetTerms, fault::Reason, rotation::access::Access, secret::SecretValue},
    rotation::ports::BreakGlass,
    store::{VersionKey, vault::VaultStore},
};
use serde_json::{Value, json};

use crate::support::{until, vault::Vault};

const PLACE: &str = "secret/data/shop/db";
/// What the operator needs in Vault for access in emergencies.
const RIGHTS: &str = r#"
path "sys/policies/acl/break-glass-*" { capabilities = ["create", "update"] }
path "auth/token/create/break-glass" { capabilities = ["create", "update"] }
path "auth/token/revoke-accessor" { capabilities = ["update"] }
path "auth/token/lookup-self" { capabilities = ["read"] }
"#;

fn store(vault: &Vault, token: &str) -> Arc<VaultStore> {
    let token = Credential::Value(SecretValue::new(token));
    let settings = config::Vault {
        address: vault.address(),
        namespace: None,
        ca: None,
        client_cert: None,
        server_name: None,
        timeout: Duration::from_secs(30),
        auth: VaultAuth { mount: "token".into(), method: AuthMethod::Token { token } },
        budget: BudgetTerms {
            calls_per_minute: 60_000,
            burst: 10_000,
            probe_min: Duration::from_millis(100),
            probe_max: Duration::from_secs(1),
        },
        in_flight: 16,
        revoke_on_exit: false,
    };
    let versions = Arc::new(VersionKey::generate().unwrap());
    VaultStore::new(&Arc::new(settings), Arc::new(SystemClock), Arc::new(()), versions, 1).unwrap()
}

fn access(lasts_secs: u64) -> Access {
    Access {
        id: "a1".into(),
        holder: "spiffe://test/people/ann".into(),
        reason: "outage".into(),
        lasts_secs,
        two_persons: false,
        asked_at: Timestamp::now(),
        approved: None,
        opened_at: None,
        ends_at: None,
        accessor: None,
        ended: None,
    }
}

async fn vault() -> (Vault, String) {
    let vault = Vault::start().await;
    let mount = json!({ "type": "kv", "options": { "version": "2" } });
    vault.write("sys/mounts/secret", mount).await;
    for path in [PLACE, "secret/data/shop/other"] {
        until("the engine is ready", async || {
            let body = Some(json!({ "data": { "value": "v" } }));
            (vault.request("POST", path, body).await.0 < 300).then_some(())
        })
        .await;
    }
    vault.write("sys/policies/acl/operator", json!({ "policy": RIGHTS })).await;
    let role = json!({
        "orphan": true,
        "renewable": false,
        "allowed_policies_glob": ["break-glass-*"],
        "token_no_default_policy": true,
    });
    vault.write("auth/token/roles/break-glass", role).await;
    let body = json!({ "policies": ["operator"], "ttl": "1h" });
    let token = vault.write("auth/token/create", body).await;
    let token = token["auth"]["client_token"].as_str().unwrap().to_owned();
    (vault, token)
}

/// The status of a call with a token of its own.
async fn call(vault: &Vault, token: &SecretValue, method: &str, path: &str) -> u16 {
    let http = reqwest::Client::new();
    let url = format!("{}/v1/{path}", vault.address());
    let token = std::str::from_utf8(token.expose()).unwrap();
    let request = http.request(method.parse().unwrap(), url).header("X-Vault-Token", token);
    let request = request.json(&json!({ "data": { "value": "w" } }));
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_token_reads_one_place_for_its_time_and_nothing_else() {
    let (vault, own) = vault().await;
    let glass = store(&vault, &own).break_glass(Some("break-glass"));
    let before = Timestamp::now();
    let opened = glass.open(PLACE, &access(120)).await.unwrap();
    assert_eq!(call(&vault, &opened.token, "GET", PLACE).await, 200);
    for (method, path) in [
        ("GET", "secret/data/shop/other"),
        ("POST", PLACE),
        ("DELETE", PLACE),
        ("GET", "secret/metadata/shop/db"),
        ("POST", "auth/token/renew-self"),
        ("POST", "auth/token/create"),
    ] {
        assert_eq!(call(&vault, &opened.token, method, path).await, 403, "{method} {path}");
    }
    let lasts = opened.ends_at.duration_since(before).as_secs();
    assert!((119..=125).contains(&lasts), "{lasts}");
    let body = Some(json!({ "accessor": opened.accessor }));
    let (_, seen) = vault.request("POST", "auth/token/lookup-accessor", body).await;
    assert_eq!(seen["data"]["explicit_max_ttl"], 120);
    assert_eq!(seen["data"]["orphan"], true, "it outlives the operator's login");
    assert_eq!(seen["data"]["renewable"], false);
    assert_eq!(seen["data"]["meta"]["holder"], "spiffe://test/people/ann");
    // The operator's login ends; the access does not.
    let revoke = json!({ "token": own });
    vault.write("auth/token/revoke", revoke).await;
    assert_eq!(call(&vault, &opened.token, "GET", PLACE).await, 200);
}

#[tokio::test]
async fn access_ends_at_once_when_it_is_ended_and_by_itself_when_not() {
    let (vault, own) = vault().await;
    let glass = store(&vault, &own).break_glass(Some("break-glass"));
    let opened = glass.open(PLACE, &access(900)).await.unwrap();
    glass.end(&opened.accessor).await.unwrap();
    assert_eq!(call(&vault, &opened.token, "GET", PLACE).await, 403);
    glass.end(&opened.accessor).await.unwrap();
    glass.end("no-such-accessor").await.unwrap();
    let short = glass.open(PLACE, &access(1)).await.unwrap();
    until("it ends by itself", async || {
        (call(&vault, &short.token, "GET", PLACE).await == 403).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_place_that_would_open_more_than_one_secret_is_refused() {
    let (vault, own) = vault().await;
    let glass = store(&vault, &own).break_glass(Some("break-glass"));
    for place in ["secret/data/*", "secret/data/+/db"] {
        let fault = glass.open(place, &access(60)).await.err().unwrap();
        assert_eq!(fault.reason, Reason::Invalid, "{fault}");
    }
    let (_, policies) = vault.request("LIST", "sys/policies/acl", None).await;
    let names: Vec<&Value> = policies["data"]["keys"].as_array().unwrap().iter().collect();
    assert!(!names.iter().any(|name| name.as_str().unwrap().starts_with("break-glass-")));
}
