//! Pods annotated for the Vault Agent Injector, on a real API server and a real Vault.

use serde_json::{Value, json};

use crate::{
    cluster::Registered,
    rig::pod,
    support::{free_port, until},
    whole::{SECONDS, Whole, has_it_do, users},
};

const ADOPTS: &str = "vault_annotations = true";
const TEMPLATE: &str = "{{- with secret \"database/creds/app\" -}}\nexport PGUSER={{ .Data.username }}\nexport PGPASSWORD={{ .Data.password }}\n{{- end }}\n";

/// A pod that asks the other injector for the database, with these further annotations of its.
fn theirs(name: &str, more: &[(&str, &str)]) -> Value {
    let mut pod = pod(name, &[]);
    let asks = [
        ("agent-inject", "true"),
        ("agent-inject-secret-Db.env", "database/creds/app"),
        ("agent-inject-template-Db.env", TEMPLATE),
        ("agent-image", "vault:1.20"),
    ];
    let all = asks.iter().chain(more);
    let all = all.map(|(name, text)| (format!("vault.hashicorp.com/{name}"), json!(text)));
    pod["metadata"]["annotations"] = Value::Object(all.collect());
    pod
}

#[tokio::test]
async fn it_is_admitted_as_translated_or_refused_with_all_that_differs() {
    let rig = Registered::start(ADOPTS).await;
    let shop = rig.shop().await;
    rig.trusted(&shop).await;
    let (status, made) = rig.create(&shop, theirs("shop", &[])).await;
    assert_eq!(status, 201, "{made}");
    let annotations = &made["metadata"]["annotations"];
    for (name, text) in [
        ("vault.hashicorp.com/agent-inject", "true"),
        ("vault.hashicorp.com/agent-inject-status", "injected"),
        ("secretbroker.dev/status", "injected"),
        ("secretbroker.dev/secrets", "Db.env=DB"),
        ("secretbroker.dev/files-directory", "/vault/secrets"),
    ] {
        assert_eq!(annotations[name], text, "{name}: {made}");
    }
    let stored = rig.kubernetes.read(&format!("/api/v1/namespaces/{shop}/pods/shop")).await;
    let again = rig.review(&stored).await;
    assert!(again["allowed"] == true && again.get("patch").is_none(), "{again}");

    let (status, refused) = rig
        .create(
            &shop,
            theirs(
                "other",
                &[("agent-inject-command-Db.env", "reload"), ("agent-inject-token", "true")],
            ),
        )
        .await;
    assert_eq!(status, 400, "{refused}");
    let told = refused["message"].as_str().unwrap_or_default();
    assert!(told.contains("2 mistakes"), "{told}");
    for name in ["agent-inject-command-Db.env", "agent-inject-token"] {
        assert!(told.contains(&format!("vault.hashicorp.com/{name}: it would not mean")), "{told}");
    }
    let payments = [
        ("agent-inject-secret-pay", "secret/data/payments"),
        (
            "agent-inject-template-pay",
            "{{ with secret \"secret/data/payments\" }}{{ .Data.data.x }}{{ end }}",
        ),
    ];
    let (status, refused) = rig.create(&shop, theirs("greedy", &payments)).await;
    assert_eq!(status, 403, "{refused}");
    let told = refused["message"].as_str().unwrap_or_default();
    assert!(told.contains("\"secret/data/payments\" is unknown, or not granted"), "{told}");
    assert!(told.contains("granted are DB"), "{told}");
}

#[tokio::test]
async fn without_the_platforms_word_it_is_the_other_injectors() {
    let rig = Registered::start("").await;
    let shop = rig.shop().await;
    rig.trusted(&shop).await;
    let (status, made) = rig.create(&shop, theirs("shop", &[("agent-inject-token", "true")])).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!(made["spec"]["initContainers"], Value::Null, "{made}");
}

#[tokio::test]
async fn its_application_reads_the_file_where_it_always_was_and_goes_on_with_its_successors() {
    let whole = Whole::with(SECONDS, ADOPTS, 1).await;
    let mut asked = theirs("shop", &[]);
    // The ports of this machine are not the pod's alone.
    for name in ["port", "probe-port"] {
        let port = free_port().to_string();
        asked["metadata"]["annotations"][format!("secretbroker.dev/{name}")] = json!(port);
    }
    asked["metadata"]["annotations"]["secretbroker.dev/overlap"] = json!("3s");
    let script = "while . /vault/secrets/db.env && query; do sleep 0.2; done";
    has_it_do(&mut asked, &format!("{}\n{script}", whole.query_function()));
    let mut pod = whole.made(asked).await;
    pod.start().await;
    until("two successors were used", async || (users(&pod).len() >= 3).then_some(())).await;
    assert_eq!(pod.file("out", "errors"), "", "no query failed");
    assert!(users(&pod).iter().all(|user| user.starts_with("v-")), "{:?}", users(&pod));
    pod.stop("app").await;
    assert_eq!(pod.stop("secret-broker").await, Some(0), "{}", pod.log("secret-broker"));
}
