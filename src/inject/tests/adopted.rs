//! Pods that ask the Vault Agent Injector, where the platform has them adopted.

use serde_json::{Value, json};

use super::{
    Admission, CONFIG, Door, InjectConfig, admission, admission_of, after, asked, pod_with,
};

const PREFIX: &str = "vault.hashicorp.com/";
const ASKS: [(&str, &str); 6] = [
    ("agent-inject", "TRUE"),
    ("role", "shop"),
    ("agent-inject-secret-db", "database/creds/app"),
    (
        "agent-inject-template-db",
        "{{ with secret \"database/creds/app\" }}{{ .Data.username }}{{ end }}",
    ),
    ("agent-inject-secret-Key", "secret/data/api-key"),
    (
        "agent-inject-template-Key",
        "{{ with secret \"secret/data/api-key\" }}{{ .Data.data.value }}{{ end }}",
    ),
];

fn adopting() -> Admission {
    let text = CONFIG.replace("[sidecar]\n", "vault_annotations = true\n[sidecar]\n");
    let config = InjectConfig::parse(&text, "inject.toml", &|_| None).expect("a configuration").0;
    admission_of(config, &[]).0
}

fn pod(more: &[(&str, &str)]) -> Value {
    let mut pod = pod_with(&[]);
    for (name, text) in ASKS.iter().chain(more) {
        pod["metadata"]["annotations"][format!("{PREFIX}{name}")] = json!(text);
    }
    pod
}

async fn refused(pod: &Value) -> String {
    let response = asked(&adopting(), Door::Mutate, None, pod).await;
    assert_eq!(response["allowed"], false, "{response}");
    response["status"]["message"].as_str().expect("a message").to_owned()
}

#[tokio::test]
async fn a_pod_is_injected_as_its_annotations_translate_and_keeps_them() {
    let admission = adopting();
    let pod = pod(&[]);
    let response = asked(&admission, Door::Mutate, None, &pod).await;
    assert!(response.get("warnings").is_none(), "{response}");
    let injected = after(&pod, &response);
    let annotations = injected["metadata"]["annotations"].as_object().unwrap();
    for (name, text) in pod["metadata"]["annotations"].as_object().unwrap() {
        assert_eq!(annotations[name], *text, "{name} stays");
    }
    // By this mark the other injector leaves it alone.
    assert_eq!(annotations["vault.hashicorp.com/agent-inject-status"], "injected");
    for (name, text) in [
        ("inject", "true"),
        ("secrets", "Key=API_KEY,db=DB"),
        ("role", "shop"),
        ("files-directory", "/vault/secrets"),
        ("files-mode", "0644"),
        ("template.key", "{% with data = secret(\"Key\") %}{{ data[\"value\"] }}{% endwith %}"),
        ("status", "injected"),
    ] {
        assert_eq!(annotations[&format!("secretbroker.dev/{name}")], text);
    }
    let config = annotations["secretbroker.dev/config"].as_str().unwrap();
    assert!(config.contains("[secrets.Key]") && config.contains("path = \"api-key\""), "{config}");
    assert!(config.contains("role = \"shop\""), "{config}");

    assert_eq!(asked(&admission, Door::Validate, None, &injected).await["allowed"], true);
    let again = asked(&admission, Door::Mutate, None, &injected).await;
    assert!(again["allowed"] == true && again.get("patch").is_none(), "{again}");
    // It is a pod as any other from then on, also where the platform has changed its mind.
    let (other, _) = super::admission(&[]);
    let again = asked(&other, Door::Mutate, None, &injected).await;
    assert!(again["allowed"] == true && again.get("patch").is_none(), "{again}");
}

#[tokio::test]
async fn it_is_left_alone_unless_the_platform_says_so_and_where_it_asks_nobody_or_was_served() {
    let (other, _) = admission(&[]);
    let mut served = pod(&[("agent-inject-status", "injected")]);
    served["spec"]["initContainers"][0]["name"] = json!("vault-agent-init");
    let declined = pod(&[("agent-inject", "f")]);
    for (admission, pod) in [(other, pod(&[])), (adopting(), served), (adopting(), declined)] {
        for door in [Door::Mutate, Door::Validate] {
            assert_eq!(after(&pod, &asked(&admission, door, None, &pod).await), pod);
        }
    }
    let mut excluded = pod(&[]);
    excluded["metadata"]["namespace"] = json!("kube-system");
    let response = asked(&adopting(), Door::Mutate, None, &excluded).await;
    assert_eq!(after(&excluded, &response), excluded);
}

#[tokio::test]
async fn a_mark_without_a_container_does_not_let_it_start_without_secrets() {
    let marked = pod(&[("agent-inject-status", "injected")]);
    let admission = adopting();
    let response = asked(&admission, Door::Mutate, None, &marked).await;
    assert!(response["patch"].is_string(), "{response}");
    let response = asked(&admission, Door::Validate, None, &marked).await;
    let told = response["status"]["message"].as_str().expect("a message");
    assert!(told.contains("was not injected"), "{told}");
}

#[tokio::test]
async fn what_the_application_would_notice_refuses_it_annotation_by_annotation() {
    let told = refused(&pod(&[
        ("agent-inject-token", "true"),
        ("agent-inject-command-db", "kill 1"),
        ("agent-inject-secret-plain", "secret/data/api-key"),
        ("agent-run-as-same-user", "maybe"),
        ("agent-image", "vault:1"),
    ]))
    .await;
    for part in [
        "4 mistakes",
        "agent-inject-token: it would not mean the same here; no token of Vault",
        "agent-inject-command-db: it would not mean the same here; no command runs",
        "agent-inject-secret-plain: it would not mean the same here; without a template",
        "agent-run-as-same-user: it would not mean the same here; neither true nor false",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let told = refused(&pod(&[("agent-inject", "maybe")])).await;
    assert!(told.contains("vault.hashicorp.com/agent-inject: it would"), "{told}");
    // What our own checks find is told of the annotation that people wrote.
    let told = refused(&pod(&[("agent-limits-cpu", "much")])).await;
    assert!(told.contains("vault.hashicorp.com/agent-limits-cpu: \"much\""), "{told}");
}

#[tokio::test]
async fn what_no_application_notices_is_a_warning() {
    let pod = pod(&[
        ("agent-image", "vault:1"),
        ("agent-run-as-same-user", "true"),
        ("tls-skip-verify", "true"),
        ("ca-cert", "/vault/tls/ca.crt"),
        ("agent-telemetry-prometheus_retention_time", "1h"),
    ]);
    let response = asked(&adopting(), Door::Mutate, None, &pod).await;
    let warnings = response["warnings"].to_string();
    assert_eq!(response["warnings"].as_array().map(Vec::len), Some(5), "{response}");
    assert!(warnings.contains("vault.hashicorp.com/agent-image: that image is"), "{warnings}");
    assert_eq!(
        after(&pod, &response)["metadata"]["annotations"]["secretbroker.dev/status"],
        "injected"
    );
}

#[tokio::test]
async fn it_gets_what_is_granted_wherever_it_lies_and_nothing_else() {
    let mut told = Vec::new();
    for path in ["secret/data/payments", "secret/data/nowhere"] {
        let template =
            format!("{{{{ with secret \"{path}\" }}}}{{{{ .Data.data.x }}}}{{{{ end }}}}");
        let more =
            [("agent-inject-secret-x", path), ("agent-inject-template-x", template.as_str())];
        told.push(refused(&pod(&more)).await.replace(path, "X"));
    }
    assert_eq!(told[0], told[1], "what is unknown looks like what is not granted");
    let part = "vault.hashicorp.com/agent-inject-template-x: \"X\" is unknown, or not granted to service account shop/api; granted are API_KEY, DB";
    assert!(told[0].contains(part), "{}", told[0]);
}

#[tokio::test]
async fn what_a_pod_says_in_our_annotations_stands() {
    let mut pod = pod(&[]);
    pod["metadata"]["annotations"]["secretbroker.dev/role"] = json!("mine");
    let injected = after(&pod, &asked(&adopting(), Door::Mutate, None, &pod).await);
    let config = injected["metadata"]["annotations"]["secretbroker.dev/config"].as_str().unwrap();
    assert!(config.contains("role = \"mine\""), "{config}");
    pod["metadata"]["annotations"]["secretbroker.dev/inject"] = json!("false");
    assert_eq!(after(&pod, &asked(&adopting(), Door::Mutate, None, &pod).await), pod);
}

#[tokio::test]
async fn what_it_reads_by_our_annotations_it_reads_besides() {
    let mut pod = pod(&[]);
    pod["metadata"]["annotations"]["secretbroker.dev/secrets"] = json!("mine=API_KEY");
    let response = asked(&adopting(), Door::Mutate, None, &pod).await;
    let injected = after(&pod, &response);
    let secrets = &injected["metadata"]["annotations"]["secretbroker.dev/secrets"];
    assert_eq!(*secrets, "mine=API_KEY Key=API_KEY,db=DB");
    pod["metadata"]["annotations"]["secretbroker.dev/secrets"] = json!("db=API_KEY");
    let told = refused(&pod).await;
    assert!(told.contains("secrets") && told.contains("db"), "{told}");
}

#[tokio::test]
async fn what_asks_for_too_much_is_refused_before_it_costs_much() {
    let call = |n: usize| {
        format!("{{{{ with secret \"secret/data/{n}\" }}}}{{{{ .Data.data.value }}}}{{{{ end }}}}")
    };
    let many: String = (0..3_000).map(call).collect();
    let told = refused(&pod(&[("agent-inject-template-db", &many)])).await;
    assert!(told.contains("a pod reads at most 100 secrets"), "{told}");
    let endless: String = (0..40_000).map(call).collect();
    let told = refused(&pod(&[("agent-inject-template-db", &endless)])).await;
    assert!(told.contains("metadata.annotations") && told.contains("262144"), "{told}");
    let long = format!("{{{{ {} }}}}", "x".repeat(10_000));
    let told = refused(&pod(&[("agent-inject-template-db", &long)])).await;
    assert!(told.contains("has no counterpart") && told.len() < 2_000, "{}", told.len());
}
