//! Which version of a key-value secret is served to whom, on a real Vault.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use secret_broker::{
    broker::ports::Origin,
    config::{Deployment, VaultEngine, VaultPath},
    domain::{
        fault::Reason,
        life::{Issued, Predecessor},
        secret::SecretValue,
    },
    store::vault::VaultStore,
};
use serde_json::{Value, json};

use crate::{
    contract,
    support::{
        broker::Broker,
        proxy::Proxy,
        until,
        vault::{BROKER_POLICY, Vault},
    },
};

const PATH: &str = "secret/data/shop/jwt";

struct Rig {
    vault: Vault,
    proxy: Proxy,
    store: Arc<VaultStore>,
}

impl Rig {
    /// Five versions of one secret, whose values are `value 1` to `value 5`.
    async fn start() -> Self {
        let vault = Vault::start().await;
        let mount = json!({ "type": "kv", "options": { "version": "2" } });
        vault.write("sys/mounts/secret", mount).await;
        until("the engine is ready", async || {
            (vault.request("POST", PATH, Some(value(1))).await.0 < 300).then_some(())
        })
        .await;
        for number in 2..6 {
            vault.write(PATH, value(number)).await;
        }
        let proxy = Proxy::start(vault.port()).await;
        let store = contract::store(proxy.address(), &vault.root);
        Self { vault, proxy, store }
    }

    async fn label(&self, labels: Value) {
        self.vault.write("secret/metadata/shop/jwt", json!({ "custom_metadata": labels })).await;
    }

    fn origin(&self, environment: Option<&str>, colour: Option<&str>) -> Arc<dyn Origin> {
        let owned = |name: Option<&str>| name.map(str::to_owned);
        let deployment = Deployment { environment: owned(environment), colour: owned(colour) };
        let engine =
            VaultEngine::KvV2 { mount: "secret".into(), path: "shop/jwt".into(), deployment };
        self.store.origin(VaultPath { engine, fields: BTreeMap::new() })
    }

    /// What a sidecar of this environment and colour is given.
    async fn served(&self, environment: &str, colour: Option<&str>) -> (String, Option<String>) {
        let issued = self.origin(Some(environment), colour).fetch().await.expect("a value");
        let number = text(&issued);
        (number, previous(&issued))
    }

    /// The calls for the secret since this was asked last.
    fn calls(&self) -> usize {
        let calls = self.proxy.take_calls();
        calls.iter().filter(|(path, _)| path.starts_with(PATH)).map(|(_, count)| count).sum()
    }
}

fn value(number: u64) -> Value {
    json!({ "data": { "secret": format!("value {number}") } })
}

/// The version, once it is sure that the value is that version's.
fn text(issued: &Issued) -> String {
    let version = issued.version.0.to_string();
    let value = issued.fields.field("secret").map(SecretValue::expose);
    assert_eq!(value, Some(format!("value {version}").as_bytes()));
    version
}

fn previous(issued: &Issued) -> Option<String> {
    let Predecessor::Accepted(before) = &issued.predecessor else { return None };
    let version = before.version.0.to_string();
    let value = before.fields.field("secret").map(SecretValue::expose);
    assert_eq!(value, Some(format!("value {version}").as_bytes()));
    Some(version)
}

fn later(secs: i64) -> String {
    (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(secs)).to_string()
}

#[tokio::test]
async fn each_environment_and_colour_is_served_what_its_closest_label_names() {
    let rig = Rig::start().await;
    let latest = rig.origin(Some("staging"), None).fetch().await.expect("a value");
    assert_eq!(text(&latest), "5", "nothing is labelled");
    assert!(matches!(latest.predecessor, Predecessor::Untold));
    rig.label(json!({
        "owner": "shop", "current": "2", "pending": "5", "at.staging": "4",
        "at.production.green": "3", "at.staging.blue": "1",
    }))
    .await;
    let two = Some("2".to_owned());
    for (environment, colour, served, before) in [
        ("staging", None, "4", &two),
        ("staging", Some("green"), "4", &two),
        ("staging", Some("blue"), "1", &two),
        ("production", Some("green"), "3", &two),
        ("production", Some("blue"), "2", &None),
        ("production", None, "2", &None),
        ("development", None, "2", &None),
    ] {
        let found = rig.served(environment, colour).await;
        assert_eq!(found, (served.to_owned(), before.clone()), "{environment} {colour:?}");
    }
    let nowhere = rig.origin(None, None).fetch().await.expect("a value");
    assert_eq!(text(&nowhere), "2");
}

#[tokio::test]
async fn a_version_that_no_label_is_for_is_served_to_nobody() {
    let rig = Rig::start().await;
    rig.label(json!({ "pending": "5" })).await;
    let fault = rig.origin(Some("production"), None).fetch().await.expect_err("it is pending");
    assert_eq!(fault.reason, Reason::NotFound);
    assert!(fault.detail.contains("labels"), "{fault}");
    rig.label(json!({ "current": "9" })).await;
    let fault = rig.origin(None, None).fetch().await.expect_err("there is none");
    assert_eq!(fault.reason, Reason::NotFound);
    assert!(fault.detail.contains("version 9"), "{fault}");
}

#[tokio::test]
async fn the_version_before_is_given_until_its_time_is_over_or_its_label_is_gone() {
    let rig = Rig::start().await;
    rig.label(json!({ "current": "4", "previous": "3", "previous_until": later(600) })).await;
    let issued = rig.origin(None, None).fetch().await.expect("a value");
    let Predecessor::Accepted(before) = &issued.predecessor else { panic!("none is accepted") };
    let lasts = before.lasts.expect("an end");
    assert!((590..=600).contains(&lasts.as_secs()), "{lasts:?}");
    for labels in [
        json!({ "current": "4", "previous": "3", "previous_until": later(-1) }),
        json!({ "current": "4", "previous": "3" }),
        json!({ "current": "4" }),
        json!({ "current": "4", "previous": "9", "previous_until": later(600) }),
    ] {
        rig.label(labels.clone()).await;
        let issued = rig.origin(None, None).fetch().await.expect("a value");
        assert_eq!(text(&issued), "4");
        assert!(matches!(issued.predecessor, Predecessor::Withdrawn), "{labels}");
    }
}

#[tokio::test]
async fn a_read_costs_a_call_more_for_another_version_and_one_for_the_version_before_if_nobody_holds_it()
 {
    let rig = Rig::start().await;
    rig.label(json!({ "current": "5", "pending": "6" })).await;
    let origin = rig.origin(None, None);
    let fetch = async || {
        let issued = origin.fetch().await.expect("a value");
        (text(&issued), previous(&issued), issued)
    };
    fetch().await;
    assert_eq!(rig.calls(), 1, "the latest is served");
    rig.label(json!({ "current": "3", "previous": "2", "previous_until": later(600) })).await;
    let (served, before, held) = fetch().await;
    assert_eq!((&*served, before.as_deref()), ("3", Some("2")));
    assert_eq!(rig.calls(), 3);
    let (.., again) = fetch().await;
    assert_eq!(rig.calls(), 2, "the version before is held");
    assert!(Arc::ptr_eq(&held.fields, &again.fields), "one value is held once");
    drop(again);
    rig.label(json!({ "current": "4", "previous": "3", "previous_until": later(600) })).await;
    let (served, before, _) = fetch().await;
    assert_eq!((&*served, before.as_deref()), ("4", Some("3")));
    assert_eq!(rig.calls(), 2, "what was served is held");
    drop(held);
    fetch().await;
    assert_eq!(rig.calls(), 3, "nobody holds it any more");
    rig.label(json!({ "current": "4", "previous": "5", "previous_until": later(600) })).await;
    fetch().await;
    assert_eq!(rig.calls(), 2, "the latest was read anyway");
}

#[tokio::test]
async fn a_latest_version_that_was_deleted_does_not_hide_the_one_that_is_served() {
    let rig = Rig::start().await;
    rig.label(json!({ "current": "4" })).await;
    for path in ["secret/delete/shop/jwt", "secret/destroy/shop/jwt"] {
        rig.vault.write(path, json!({ "versions": [5] })).await;
        assert_eq!(rig.served("production", None).await, ("4".to_owned(), None), "{path}");
    }
    rig.label(json!({})).await;
    let fault = rig.origin(None, None).fetch().await.expect_err("the latest is gone");
    assert_eq!(fault.reason, Reason::NotFound);
    assert!(fault.detail.contains("version 5"), "{fault}");
}

#[tokio::test]
async fn a_sidecar_that_starts_within_an_overlap_serves_both_versions_until_the_label_goes() {
    let rig = Rig::start().await;
    rig.label(json!({ "current": "4", "previous": "3", "previous_until": later(600) })).await;
    let (role_id, secret_id) = rig.vault.approle("broker", BROKER_POLICY, json!({})).await;
    let sections = format!(
        "[vault]\naddress = \"{}\"\n[vault.auth]\nmethod = \"approle\"\n\
         role_id_env = \"ROLE_ID\"\nsecret_id_env = \"SECRET_ID\"\n\
         [defaults]\npoll_interval = \"1s\"\noverlap = \"5s\"\n\
         [secrets.JWT_SECRET]\ncategory = \"application\"\nstore = \"vault\"\nengine = \"kv2\"\n\
         path = \"shop/jwt\"\nfields = {{ value = \"secret\" }}\n",
        rig.vault.address()
    );
    let environment = [("ROLE_ID", &*role_id), ("SECRET_ID", &*secret_id)];
    let broker = Broker::start(&sections, &environment).await;
    let client = broker.client();
    let secret = client.get("JWT_SECRET").await.expect("a secret");
    assert_eq!(secret.text("value"), Some("value 4"));
    let previous = secret.previous().expect("the version before");
    assert_eq!((previous.version(), previous.field("value")), ("3", Some(&b"value 3"[..])));
    assert!(previous.generation() < secret.generation());
    let until_then = previous.valid_until().expect("an end");
    let left = until_then.duration_since(std::time::SystemTime::now()).expect("in the future");
    assert!(left > Duration::from_secs(500), "{left:?}: the label counts, not our own terms");
    rig.label(json!({ "current": "4" })).await;
    until("the version before is withdrawn", async || {
        client.get("JWT_SECRET").await.ok()?.previous().is_none().then_some(())
    })
    .await;
    assert_eq!(client.get("JWT_SECRET").await.expect("a secret").generation(), secret.generation());
}
