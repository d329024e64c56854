//! The chart: what it renders, what it refuses, and what was made of it.

use std::{fs, path::Path, process::Command};

use super::{OPERATOR, files, output, root, run, support::tool};

const KUBE_VERSION: &str = "1.34.0";

fn chart() -> String {
    root().join("deploy/helm/secret-broker").display().to_string()
}

pub(super) fn helm(arguments: &[&str]) -> Command {
    let mut command = Command::new(tool("helm"));
    let home = std::env::temp_dir().join("secret-broker-helm");
    command.args(arguments).env("HELM_CACHE_HOME", &home).env("HELM_CONFIG_HOME", &home);
    command.env("HELM_DATA_HOME", &home).env_remove("KUBECONFIG");
    command
}

pub(super) fn template(more: &[&str]) -> Command {
    let values = root().join("deploy/manifests/values.yaml").display().to_string();
    let chart = chart();
    let mut arguments = vec!["template", "secret-broker", &chart, "--namespace", "secret-broker"];
    arguments.extend(["--kube-version", KUBE_VERSION, "--values", &values]);
    arguments.extend(more);
    helm(&arguments)
}

/// A file of a `ConfigMap` that was rendered, without its indentation.
pub(super) fn file_of(manifests: &str, name: &str) -> String {
    let rest = manifests.split(&format!("  {name}: |\n")).nth(1).expect(name);
    let lines = rest.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
    lines.flat_map(|line| [line.strip_prefix("    ").unwrap_or(line), "\n"]).collect()
}

#[test]
fn helm_finds_nothing_to_complain_of() {
    for values in [None, Some("deploy/manifests/values.yaml"), Some("tests/deploy/values.yaml")] {
        let mut lint = helm(&["lint", "--strict", &chart()]);
        if let Some(values) = values {
            lint.arg("--values").arg(root().join(values));
        }
        let (fine, said) = run(&mut lint);
        assert!(fine, "{values:?}: {said}");
    }
}

#[test]
fn what_is_needed_is_asked_for_by_name() {
    for (set, missing) in [
        ("vault.address=", "vault.address is needed"),
        ("operator.config.secrets=null", "operator.config.secrets is empty"),
        (
            "monitoring.serviceMonitor.enabled=true,operator.tls.secretName=x",
            "operatorClientSecret is needed",
        ),
    ] {
        let (fine, said) = run(&mut template(&["--set", set]));
        assert!(!fine && said.contains(missing), "{set}: {said}");
    }
}

#[test]
fn mistakes_in_values_are_refused_with_their_place() {
    for (set, place) in [
        ("operator.replica=3", "replica"),
        ("image.digest=sha256:short", "digest"),
        ("webhook.failurePolicy=Maybe", "failurePolicy"),
        ("vault.address=vault.svc", "address"),
        // What the operator itself would refuse.
        ("operator.config.secrets.JWT_SECRET.teir=monthly", "teir"),
        ("operator.config.defaults.overlap=5", "overlap"),
        ("operator.config.journals.path=x", "journals"),
        ("webhook.config.sidecar.mdoe=plain", "mdoe"),
        ("webhook.config.secrets.JWT_SECRET.engine=kv3", "engine"),
    ] {
        let (fine, said) = run(&mut template(&["--set", set]));
        assert!(!fine && said.contains(place), "{set}: {said}");
    }
}

#[test]
fn the_operators_configuration_is_one_that_it_accepts() {
    let directory = tempfile::tempdir().unwrap();
    for values in ["deploy/manifests/values.yaml", "tests/deploy/values.yaml"] {
        let values = root().join(values).display().to_string();
        let manifests = output(&mut template(&["--values", &values]));
        for (file, arguments) in
            [("operator.toml", &["check"][..]), ("inject.toml", &["check", "--webhook"])]
        {
            let path = directory.path().join(file);
            fs::write(&path, file_of(&manifests, file)).unwrap();
            let mut check = Command::new(OPERATOR);
            let (fine, said) = run(check.args(arguments).arg("--config").arg(&path));
            assert!(fine, "{said}\n{}", fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn containers_need_no_privilege_and_nothing_is_left_to_chance() {
    let values = root().join("tests/deploy/values.yaml").display().to_string();
    let manifests = output(&mut template(&["--values", &values]));
    let documents: Vec<_> = manifests.split("\n---\n").collect();
    let pods: Vec<_> = documents.iter().filter(|text| text.contains("containers:")).collect();
    assert_eq!(pods.len(), 3, "two deployments and a test");
    for pod in pods {
        for part in [
            "runAsNonRoot: true",
            "allowPrivilegeEscalation: false",
            "readOnlyRootFilesystem: true",
            "drop: [ALL]",
            "type: RuntimeDefault",
        ] {
            assert!(pod.contains(part), "{part} in\n{pod}");
        }
    }
    for wide in ["verbs: [\"*\"]", "resources: [\"*\"]", "apiGroups: [\"*\"]", "cluster-admin"] {
        assert!(!manifests.contains(wide), "{wide}");
    }
    let hooks: Vec<_> = documents.iter().filter(|d| d.contains("WebhookConfiguration\n")).collect();
    assert_eq!(hooks.len(), 2);
    for hook in hooks {
        assert_eq!(hook.matches("failurePolicy: Fail").count(), 2);
        assert_eq!(hook.matches("- kube-system").count(), 2, "{hook}");
        assert_eq!(hook.matches("          - secret-broker\n").count(), 2, "{hook}");
    }
}

#[test]
fn what_is_derived_is_current() {
    let directory = tempfile::tempdir().unwrap();
    let mut generate = Command::new(root().join("deploy/generate"));
    generate.args(["--operator", OPERATOR, "--helm"]).arg(tool("helm")).arg("--into");
    let (fine, said) = run(generate.arg(directory.path()));
    assert!(fine, "{said}");
    let derived = ["helm/secret-broker/values.schema.json", "manifests/secret-broker.yaml"];
    let policies = files("deploy/vault")
        .into_iter()
        .filter_map(|path| path.strip_prefix(root().join("deploy")).ok().map(Path::to_owned));
    let all = derived.iter().map(|path| Path::new(path).to_owned()).chain(policies);
    for path in all {
        let made = fs::read_to_string(directory.path().join(&path)).unwrap();
        let kept = fs::read_to_string(root().join("deploy").join(&path)).unwrap();
        assert!(made == kept, "{} is not current: run deploy/generate", path.display());
    }
}
