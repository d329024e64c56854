//! The chart on a real API server: every object is one that it knows, pods pass its admission, rights are
//! what is needed and no more, an upgrade keeps what the programs wrote, and nothing is left behind.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::{Value, json};

use super::{
    chart::{helm, template},
    output, root, run,
    support::{kubernetes::Kubernetes, tool},
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
    patch(&certificates, json!({ "data": { "ca.crt": "QQ==" } })).await;
    let mut hooks = kubernetes.read(&hook).await["webhooks"].clone();
    for webhook in hooks.as_array_mut().unwrap() {
        webhook["clientConfig"]["caBundle"] = json!("QQ==");
    }
    patch(&hook, json!({ "webhooks": hooks })).await;
    deploy("upgrade", &["--set", "operator.replicas=3", "--set", "webhook.timeoutSeconds=5"]);
    let deployment = kubernetes.read(&at("apps/deployments", "sb-secret-broker-operator")).await;
    assert_eq!(deployment["spec"]["replicas"], 3);
    assert_eq!(kubernetes.read(&lease).await["spec"]["holderIdentity"], "one of two");
    assert_eq!(kubernetes.read(&certificates).await["data"]["ca.crt"], "QQ==");
    for webhook in kubernetes.read(&hook).await["webhooks"].as_array().unwrap() {
        assert_eq!(webhook["timeoutSeconds"], 5);
        assert_eq!(webhook["clientConfig"]["caBundle"], "QQ==", "{webhook}");
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
