//! The chart on a real API server: every object is one that it knows, pods pass its admission, rights are
//! what is needed and no more, an upgrade keeps what the programs wrote, and nothing is left behind.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::{Value, json};

use super::{
    OPERATOR,
    chart::{helm, template},
    output, root, run,
    support::{Running, free_port, kubernetes::Kubernetes, tool, until, vault::Vault},
};

/// Kinds of other projects, whose schemas this API server does not have.
const FOREIGN: &str = "ServiceMonitor,PrometheusRule,Certificate";
/// Everything that the chart makes, by the path of its list.
const NAMESPACED: [&str; 11] = [
    "api/v1/serviceaccounts",
    "api/v1/secrets",
    "api/v1/configmaps",
    "api/v1/services",
    "api/v1/pods",
    "apis/apps/v1/deployments",
    "apis/policy/v1/poddisruptionbudgets",
    "apis/networking.k8s.io/v1/networkpolicies",
    "apis/rbac.authorization.k8s.io/v1/roles",
    "apis/rbac.authorization.k8s.io/v1/rolebindings",
    "apis/coordination.k8s.io/v1/leases",
];
const GLOBAL: [&str; 4] = [
    "apis/rbac.authorization.k8s.io/v1/clusterroles",
    "apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
    "apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
];

/// Writes a schema for each kind that the server serves, as kubeconform wants them.
fn write_schemas(openapi: &Value, folder: &Path) {
    let mut definitions = openapi["definitions"].clone();
    for definition in definitions.as_object_mut().unwrap().values_mut() {
        // A key that the server would drop is a mistake.
        if definition.get("properties").is_some() {
            definition["additionalProperties"] = json!(false);
        }
    }
    // What is a number or a text has no type here.
    for (name, types) in [
        ("io.k8s.apimachinery.pkg.util.intstr.IntOrString", json!(["integer", "string"])),
        ("io.k8s.apimachinery.pkg.api.resource.Quantity", json!(["number", "string"])),
    ] {
        definitions[name] = json!({ "type": types });
    }
    for (name, definition) in openapi["definitions"].as_object().unwrap() {
        for kind in definition["x-kubernetes-group-version-kind"].as_array().into_iter().flatten() {
            let text = |key: &str| kind[key].as_str().unwrap().to_lowercase();
            let group = text("group").split('.').next().unwrap().to_owned();
            let group = if group.is_empty() { String::new() } else { format!("-{group}") };
            let file = format!("{}{group}-{}.json", text("kind"), text("version"));
            let schema =
                json!({ "$ref": format!("#/definitions/{name}"), "definitions": definitions });
            fs::write(folder.join(file), schema.to_string()).unwrap();
        }
    }
}

/// The names of all objects that could be the chart's.
async fn objects(kubernetes: &Kubernetes, namespace: &str) -> BTreeSet<String> {
    let mut paths: Vec<_> = GLOBAL.map(|path| format!("/{path}")).into();
    paths.extend(NAMESPACED.map(|path| {
        let (api, kind) = path.rsplit_once('/').unwrap();
        format!("/{api}/namespaces/{namespace}/{kind}")
    }));
    let mut found = BTreeSet::new();
    for path in paths {
        let list = kubernetes.read(&path).await;
        let names = list["items"].as_array().unwrap().iter();
        found.extend(
            names.map(|item| format!("{path}/{}", item["metadata"]["name"].as_str().unwrap())),
        );
    }
    found
}

#[tokio::test]
async fn every_object_is_one_that_the_api_server_knows() {
    let kubernetes = Kubernetes::start().await;
    let openapi = kubernetes.read("/openapi/v2").await;
    let directory = tempfile::tempdir().unwrap();
    let schemas = directory.path().join("schemas");
    fs::create_dir(&schemas).unwrap();
    write_schemas(&openapi, &schemas);
    let location = format!("{}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json", schemas.display());
    let values = root().join("tests/deploy/values.yaml").display().to_string();
    let minimal = output(&mut template(&[]));
    let whole = output(&mut template(&["--values", &values]));
    let wrong = minimal.replace("  replicas: 2\n", "  replica: 2\n");
    for (name, text, fine) in
        [("minimal", minimal, true), ("whole", whole, true), ("wrong", wrong, false)]
    {
        let file = directory.path().join(format!("{name}.yaml"));
        fs::write(&file, text).unwrap();
        let mut check = Command::new(tool("kubeconform"));
        check.args(["-strict", "-summary", "-skip", FOREIGN, "-schema-location", &location]);
        let (passed, said) = run(check.arg(&file));
        assert_eq!(passed, fine, "{name}: {said}");
    }
    let manifests = root().join("deploy/manifests");
    let mut check = Command::new(tool("kubeconform"));
    check.args(["-strict", "-summary", "-schema-location", &location]);
    let files = ["namespace.yaml", "secret-broker.yaml"].map(|name| manifests.join(name));
    let (passed, said) = run(check.args(files));
    assert!(passed, "{said}");
}

#[tokio::test]
async fn it_is_installed_upgraded_and_uninstalled_and_leaves_nothing_behind() {
    let kubernetes = Kubernetes::start().await;
    let restricted = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
    let namespace = kubernetes.namespace("chart", restricted).await;
    let directory = tempfile::tempdir().unwrap();
    let config = kubernetes.kubeconfig(directory.path()).display().to_string();
    let chart = root().join("deploy/helm/secret-broker").display().to_string();
    let values = root().join("deploy/manifests/values.yaml").display().to_string();
    let deploy = |verb: &str, more: &[&str]| {
        let mut arguments =
            vec![verb, "sb", &chart, "--namespace", &namespace, "--values", &values];
        arguments.extend(["--kubeconfig", &config]);
        arguments.extend(more);
        let (fine, said) = run(&mut helm(&arguments));
        assert!(fine, "{said}");
        said
    };
    let before = objects(&kubernetes, &namespace).await;
    let said = deploy("install", &["--set", "vault.reviewer.create=true"]);
    assert!(said.contains("The operator rotates 1 secrets"), "{said}");
    let installed = objects(&kubernetes, &namespace).await;
    assert!(installed.len() > before.len() + 15, "{installed:?}");

    pods_are_admitted(&kubernetes, &namespace).await;
    rights_are_what_is_needed(&kubernetes, &namespace).await;
    the_webhook_keeps_its_certificate(&kubernetes, &namespace, directory.path()).await;
    one_operator_leads_and_tells(&kubernetes, &namespace, directory.path()).await;

    // What the programs write is theirs: an upgrade keeps it.
    let at = |kind: &str, name: &str| match kind.split_once('/') {
        Some((api, kind)) => format!("/apis/{api}/v1/namespaces/{namespace}/{kind}/{name}"),
        None => format!("/api/v1/namespaces/{namespace}/{kind}/{name}"),
    };
    let lease = at("coordination.k8s.io/leases", "sb-secret-broker-operator");
    let certificates = at("secrets", "sb-secret-broker-webhook-certificates");
    let hook = format!("/{}/sb-secret-broker-webhook.{namespace}", GLOBAL[2]);
    let patch = async |path: &str, body: Value| {
        let (status, answer) = kubernetes.request("PATCH", path, Some(body)).await;
        assert_eq!(status, 200, "{path}: {answer}");
    };
    patch(&lease, json!({ "spec": { "holderIdentity": "one of two" } })).await;
    let kept = kubernetes.read(&certificates).await["data"].clone();
    let bundle = kubernetes.read(&hook).await["webhooks"][0]["clientConfig"]["caBundle"].clone();
    assert!(bundle.is_string() && kept["tls.key"].is_string());
    let more = "operator.replicas=3,webhook.timeoutSeconds=5,webhook.config.webhook.vault_annotations=true";
    deploy("upgrade", &["--set", more]);
    pods_that_ask_wait_for_the_webhook(&kubernetes).await;
    let deployment = kubernetes.read(&at("apps/deployments", "sb-secret-broker-operator")).await;
    assert_eq!(deployment["spec"]["replicas"], 3);
    assert_eq!(kubernetes.read(&lease).await["spec"]["holderIdentity"], "one of two");
    assert_eq!(kubernetes.read(&certificates).await["data"], kept);
    for webhook in kubernetes.read(&hook).await["webhooks"].as_array().unwrap() {
        assert_eq!(webhook["timeoutSeconds"], 5);
        assert_eq!(webhook["clientConfig"]["caBundle"], bundle, "{webhook}");
    }
    let upgraded = objects(&kubernetes, &namespace).await;
    assert!(!upgraded.iter().any(|name| name.contains("vault-reviewer")), "what is off is gone");

    let arguments = ["uninstall", "sb", "--namespace", &namespace, "--kubeconfig", &config];
    let (fine, said) = run(&mut helm(&arguments));
    assert!(fine, "{said}");
    assert_eq!(objects(&kubernetes, &namespace).await, before, "nothing is left");
}

/// The API server's own admission says whether the pods are restricted enough.
async fn pods_are_admitted(kubernetes: &Kubernetes, namespace: &str) {
    let deployments = format!("/apis/apps/v1/namespaces/{namespace}/deployments");
    let deployments = kubernetes.read(&deployments).await;
    let deployments = deployments["items"].as_array().unwrap();
    assert_eq!(deployments.len(), 2);
    for deployment in deployments {
        let template = &deployment["spec"]["template"];
        let name = deployment["metadata"]["name"].as_str().unwrap();
        let mut pod = json!({ "metadata": template["metadata"], "spec": template["spec"] });
        pod["metadata"]["name"] = json!(name);
        let path = format!("/api/v1/namespaces/{namespace}/pods?dryRun=All");
        kubernetes.create(&path, pod.clone()).await;
        pod["spec"]["containers"][0]["securityContext"] = json!({});
        let (status, answer) = kubernetes.request("POST", &path, Some(pod)).await;
        assert_eq!(status, 403, "the namespace is restricted: {answer}");
    }
}

/// While no webhook answers, only pods that ask, in either way, are held up.
async fn pods_that_ask_wait_for_the_webhook(kubernetes: &Kubernetes) {
    let namespace = kubernetes.namespace("shop", json!({})).await;
    let path = format!("/api/v1/namespaces/{namespace}/pods?dryRun=All");
    for (annotation, asks) in [
        ("secretbroker.dev/inject", true),
        ("vault.hashicorp.com/agent-inject", true),
        ("prometheus.io/scrape", false),
    ] {
        let pod = json!({
            "metadata": { "name": "app", "annotations": { annotation: "true" } },
            "spec": { "containers": [{ "name": "app", "image": "app" }] },
        });
        let (status, answer) = kubernetes.request("POST", &path, Some(pod)).await;
        assert_eq!(status, if asks { 500 } else { 201 }, "{annotation}: {answer}");
    }
}

async fn rights_are_what_is_needed(kubernetes: &Kubernetes, namespace: &str) {
    let core = format!("/api/v1/namespaces/{namespace}");
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
    let hook = format!("/{}/sb-secret-broker-webhook.{namespace}", GLOBAL[2]);
    let operator = [
        ("GET", format!("{leases}/sb-secret-broker-operator"), true),
        ("GET", format!("{leases}/another"), false),
        ("GET", leases.clone(), false),
        ("GET", format!("{core}/configmaps/sb-secret-broker-operator-status"), true),
        ("GET", format!("{core}/configmaps/sb-secret-broker-operator"), false),
        ("GET", format!("{core}/secrets"), false),
        ("GET", format!("{core}/secrets/sb-secret-broker-webhook-certificates"), false),
        ("GET", format!("{core}/pods"), false),
        (
            "GET",
            format!("/apis/apps/v1/namespaces/{namespace}/deployments/sb-secret-broker-operator"),
            true,
        ),
        ("DELETE", format!("{leases}/sb-secret-broker-operator"), false),
        ("GET", hook.clone(), false),
    ];
    let webhook = [
        ("GET", format!("{core}/secrets/sb-secret-broker-webhook-certificates"), true),
        ("GET", format!("{core}/secrets"), false),
        ("GET", format!("{core}/secrets/another"), false),
        ("GET", hook.clone(), true),
        ("GET", format!("/{}", GLOBAL[2]), false),
        ("GET", "/api/v1/namespaces/default".to_owned(), true),
        ("GET", format!("{leases}/sb-secret-broker-operator"), false),
        ("DELETE", hook, false),
    ];
    for (account, calls) in
        [("sb-secret-broker-operator", &operator[..]), ("sb-secret-broker-webhook", &webhook)]
    {
        let token = kubernetes.token(namespace, account, None).await;
        for (method, path, may) in calls {
            let (status, answer) = kubernetes.request_as(&token, method, path, None).await;
            assert_eq!(status != 403, *may, "{account}: {method} {path}: {status} {answer}");
        }
    }
}

/// A configuration as the chart made it, for a process of this machine that has the pod's rights.
async fn configuration(
    kubernetes: &Kubernetes,
    (namespace, name, file): (&str, &str, &str),
    directory: &Path,
    changes: &[(&str, String)],
) -> String {
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/{name}");
    let mut text = kubernetes.read(&path).await["data"][file].as_str().unwrap().to_owned();
    let token = directory.join(format!("{name}.token"));
    fs::write(&token, kubernetes.token(namespace, name, None).await).unwrap();
    let server = format!(
        "[kubernetes]\nserver = \"{}\"\ntoken_file = \"{}\"\nca_file = \"{}\"",
        kubernetes.address(),
        token.display(),
        kubernetes.ca_file().display()
    );
    let named = format!("{server}\nnamespace = \"{namespace}\"");
    let section = if file == "inject.toml" { server } else { named };
    for (from, to) in [("[kubernetes]", section)].iter().chain(changes) {
        assert!(text.contains(from), "{from} in {text}");
        text = text.replace(from, to);
    }
    let path = directory.join(file).display().to_string();
    fs::write(&path, text).unwrap();
    path
}

/// A program of the chart's, under the configuration that it was given.
fn start(verb: &str, config: &str) -> Running {
    let log = fs::File::create(format!("{config}.log")).unwrap();
    let mut command = Command::new(OPERATOR);
    command.args([verb, "--config", config]).stdout(log.try_clone().unwrap());
    Running::start(command.stderr(log))
}

async fn the_webhook_keeps_its_certificate(
    kubernetes: &Kubernetes,
    namespace: &str,
    directory: &Path,
) {
    let name = "sb-secret-broker-webhook";
    let loopback = || format!("127.0.0.1:{}", free_port());
    let changes = [("0.0.0.0:8443", loopback()), ("0.0.0.0:9467", loopback())];
    let what = (namespace, name, "inject.toml");
    let config = configuration(kubernetes, what, directory, &changes).await;
    let _webhook = start("inject", &config);
    for kind in &GLOBAL[2..] {
        let path = format!("/{kind}/{name}.{namespace}");
        until(
            &format!("the webhook handed its authority to {path}, by {config}.log"),
            async || {
                let webhooks = kubernetes.read(&path).await["webhooks"].clone();
                let all = webhooks.as_array()?.iter();
                let all = all
                    .map(|webhook| webhook["clientConfig"]["caBundle"].as_str())
                    .collect::<Vec<_>>();
                (all.len() == 2 && all.iter().all(|bundle| bundle.is_some_and(|b| !b.is_empty())))
                    .then_some(())
            },
        )
        .await;
    }
}

async fn one_operator_leads_and_tells(kubernetes: &Kubernetes, namespace: &str, directory: &Path) {
    let vault = Vault::start().await;
    vault.write("sys/mounts/secret", json!({ "type": "kv", "options": { "version": "2" } })).await;
    let token = directory.join("vault-token");
    fs::write(&token, &vault.root).unwrap();
    let login =
        format!("auth = {{ \"method\" = \"token\", \"token_file\" = \"{}\" }}", token.display());
    let name = "sb-secret-broker-operator";
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/{name}");
    let text = kubernetes.read(&path).await["data"]["operator.toml"].as_str().unwrap().to_owned();
    let given = text.lines().find(|line| line.starts_with("auth = ")).unwrap();
    let changes = [
        ("0.0.0.0:9466", format!("127.0.0.1:{}", free_port())),
        ("https://vault.vault.svc:8200", vault.address()),
        (given, login),
    ];
    let what = (namespace, name, "operator.toml");
    let config = configuration(kubernetes, what, directory, &changes).await;
    let _operator = start("run", &config);
    let lease = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}");
    until(&format!("it leads, by {config}.log"), async || {
        kubernetes.read(&lease).await["spec"]["holderIdentity"].as_str().map(drop)
    })
    .await;
    let status = format!("/api/v1/namespaces/{namespace}/configmaps/{name}-status");
    until(&format!("it says where secrets stand, by {config}.log"), async || {
        kubernetes.read(&status).await["data"]["JWT_SECRET"].as_str().map(drop)
    })
    .await;
}
