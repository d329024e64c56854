//! Annotations of the Vault Agent Injector, translated.

use super::{Settings, config};
use crate::inject::migrate::manifest::Migrated;

const EXACT: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: shop, namespace: shop }
spec:
  template:
    metadata:
      labels: { app: shop }
      annotations:
        prometheus.io/scrape: "true"
        vault.hashicorp.com/agent-inject: "true"
        vault.hashicorp.com/role: shop
        vault.hashicorp.com/auth-path: auth/kubernetes-eu
        vault.hashicorp.com/log-level: warn
        vault.hashicorp.com/agent-limits-mem: 64Mi
        vault.hashicorp.com/agent-inject-secret-Database: database/creds/app
        vault.hashicorp.com/agent-inject-template-Database: |
          {{- with secret "database/creds/app" -}}
          postgres://{{ .Data.username }}:{{ .Data.password }}@db
          {{- end }}
        vault.hashicorp.com/agent-inject-secret-api: secret/data/api
        vault.hashicorp.com/agent-inject-template-api: '{{ with secret "secret/data/api" }}{{ .Data.data.key }}{{ end }}'
        vault.hashicorp.com/agent-inject-file-api: api.txt
    spec: { serviceAccountName: api, containers: [{ name: app, image: app }] }
---
kind: Service
metadata: { name: shop }
"#;

fn migrated(text: &str) -> Migrated {
    let mut migrated = Migrated::default();
    migrated.read(text).unwrap();
    migrated
}

#[test]
fn what_maps_exactly_is_translated_and_accepted_by_the_webhook() {
    let migrated = migrated(EXACT);
    assert_eq!(migrated.differences, []);
    assert_eq!(migrated.documents.len(), 2);
    let template = &migrated.documents[0]["spec"]["template"]["metadata"];
    let annotations = template["annotations"].as_object().unwrap();
    assert_eq!(annotations["prometheus.io/scrape"], "true", "what is not the injector's stays");
    assert!(annotations.keys().all(|name| !name.starts_with("vault.hashicorp.com/")));
    for (name, text) in [
        ("inject", "true"),
        ("role", "shop"),
        ("auth-path", "kubernetes-eu"),
        ("files-directory", "/vault/secrets"),
        ("files-mode", "0644"),
        ("secrets", "Database,api"),
        ("template.api.txt", "{% with data = secret(\"api\") %}{{ data[\"key\"] }}{% endwith %}"),
    ] {
        assert_eq!(annotations[&format!("secretbroker.dev/{name}")], text);
    }
    assert!(
        annotations.contains_key("secretbroker.dev/template.database"),
        "names of files are lower case"
    );
    let (_, ours) = &migrated.annotations[0];
    assert!(Settings::read(ours, &config().sidecar, false).is_ok());
    assert_eq!(migrated.secrets["Database"].role.as_deref(), Some("app"));
    assert_eq!(migrated.secrets["api"].path.as_deref(), Some("api"));
    assert_eq!(granted(&migrated, "shop", "api"), ["Database", "api"]);
}

fn granted<'a>(migrated: &'a Migrated, namespace: &str, account: &str) -> Vec<&'a str> {
    let identity = (namespace.to_owned(), account.to_owned());
    let names = migrated.grants.get(&identity).into_iter().flatten();
    names.map(String::as_str).collect()
}

#[test]
fn each_service_account_is_granted_what_its_own_pods_name_and_no_more() {
    let other = EXACT
        .replace("namespace: shop }", "namespace: lab }")
        .replace("serviceAccountName: api, ", "")
        .replace("secret/data/api", "secret/data/other")
        .replace("secret-Database", "secret-db")
        .replace("template-Database", "template-db");
    let job = EXACT.replace("name: shop, namespace", "name: job, namespace");
    let migrated = migrated(&format!("{EXACT}---\n{other}---\n{job}"));
    assert_eq!(migrated.differences, []);
    assert_eq!(granted(&migrated, "shop", "api"), ["Database", "api"]);
    assert_eq!(granted(&migrated, "lab", "default"), ["api-2", "db"]);
    assert_eq!(migrated.grants.len(), 2);
    // The pods have other secrets of one name: the catalogue tells them apart.
    assert_eq!(migrated.secrets["api-2"].path.as_deref(), Some("other"));
    let (_, annotations) = &migrated.annotations[1];
    assert_eq!(annotations["secretbroker.dev/secrets"], "api=api-2,db");
}

#[test]
fn what_differs_is_listed_annotation_by_annotation() {
    let migrated = migrated(
        r#"
kind: Pod
metadata:
  name: p
  annotations:
    vault.hashicorp.com/agent-inject: "true"
    vault.hashicorp.com/agent-inject-secret-a: secret/data/a
    vault.hashicorp.com/agent-inject-secret-b: kv/b
    vault.hashicorp.com/agent-inject-template-b: '{{ with secret "kv/b" }}{{ .Data.x | toJSON }}{{ end }}'
    vault.hashicorp.com/agent-inject-perms-b: "0600"
    vault.hashicorp.com/agent-inject-command-b: kill -HUP 1
    vault.hashicorp.com/tls-skip-verify: "true"
    vault.hashicorp.com/agent-run-as-user: "0"
    vault.hashicorp.com/something-new: x
"#,
    );
    let told: Vec<_> =
        migrated.differences.iter().map(|(_, d)| format!("{}: {}", d.annotation, d.what)).collect();
    for part in [
        "agent-inject-secret-a: without a template",
        "agent-inject-template-b: \"{{ .Data.x | toJSON }}\" has no counterpart",
        "agent-inject-perms-*: all files",
        "agent-inject-command-b: no command runs",
        "tls-skip-verify: Vault's certificate is always checked",
        "agent-run-as-user: injected containers never run as root",
        "something-new: has no counterpart",
    ] {
        assert!(told.iter().any(|one| one.contains(part)), "{part}: {told:#?}");
    }
    assert_eq!(told.len(), 7, "{told:#?}");
}

#[test]
fn annotations_of_a_workload_itself_have_no_effect_and_are_told() {
    let text = EXACT.replace(
        "namespace: shop }",
        "namespace: shop, annotations: { vault.hashicorp.com/role: x } }",
    );
    let migrated = migrated(&text);
    assert_eq!(migrated.differences.len(), 1);
    assert!(migrated.differences[0].1.what.contains("not on its pod template"));
    let mut none = Migrated::default();
    assert!(none.read("a: [").unwrap_err().starts_with("not YAML"));
}
