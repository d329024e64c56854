//! The webhook as a process, and who calls it.

use std::{
    cell::RefCell,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Running, free_port, until};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_secret-operator");

/// The catalogue and the grants of all tests.
const CATALOGUE: &str = r#"
[sidecar]
image = "registry.example/secret-broker:1"
[sidecar.vault]
address = "https://vault.example:8200"
[sidecar.vault.auth]
method = "kubernetes"
role = "{namespace}-{service_account}"
[secrets.DB]
category = "database"
store = "vault"
engine = "database"
role = "app"
[secrets.PAYMENTS]
category = "payments"
store = "vault"
engine = "kv2"
path = "payments"
[[grant]]
namespaces = ["shop*"]
service_accounts = ["*"]
secrets = ["DB"]
"#;

pub(crate) struct Webhook {
    process: RefCell<Option<Running>>,
    pub directory: TempDir,
    pub port: u16,
    pub probes: u16,
}

impl Webhook {
    /// A webhook with a certificate in its directory for `127.0.0.1`, and with these settings.
    pub(crate) async fn start(webhook: &str, sections: &str) -> Self {
        let mut it = Self::prepare(webhook, sections);
        it.run();
        it.ready().await;
        it
    }

    pub(crate) fn prepare(webhook: &str, sections: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let it =
            Self { process: RefCell::new(None), directory, port: free_port(), probes: free_port() };
        it.configure(webhook, sections);
        it
    }

    pub(crate) fn configure(&self, webhook: &str, sections: &str) {
        let Self { port, probes, .. } = self;
        let namespace =
            if webhook.contains("\nnamespace =") { "" } else { "namespace = \"secret-broker\"" };
        let text = format!(
            "[webhook]\nlisten = \"127.0.0.1:{port}\"\n{namespace}\nnames = [\"127.0.0.1\"]\n{webhook}\n\
             [telemetry]\nhttp = \"127.0.0.1:{probes}\"\n{CATALOGUE}{sections}"
        );
        fs::write(
            self.path("inject.toml"),
            text.replace("DIR/", &self.path("").display().to_string()),
        )
        .expect("the configuration");
    }

    /// Has the configuration say something else before it runs.
    pub(crate) fn replace(&self, from: &str, to: &str) {
        let path = self.path("inject.toml");
        let text = fs::read_to_string(&path).expect("the configuration");
        fs::write(path, text.replace(from, to)).expect("the configuration");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn run(&mut self) {
        let log =
            fs::OpenOptions::new().append(true).create(true).open(self.path("log")).expect("a log");
        let mut command = Command::new(PROGRAM);
        command.arg("inject").arg("--config").arg(self.path("inject.toml"));
        self.process =
            RefCell::new(Some(Running::start(command.stdout(Stdio::null()).stderr(log))));
    }

    pub(crate) async fn ready(&self) {
        until("the webhook is ready", async || {
            let ended = self.process.borrow_mut().as_mut().expect("it runs").0.try_wait();
            let ended = ended.expect("a status");
            assert!(ended.is_none(), "it ended with {ended:?}: {}", self.log());
            (self.page("/readyz").await?.0 == 200).then_some(())
        })
        .await;
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// A page of the plain port.
    pub(crate) async fn page(&self, path: &str) -> Option<(u16, String)> {
        let answer = client(None)
            .get(format!("http://127.0.0.1:{}{path}", self.probes))
            .send()
            .await
            .ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    /// Who trusts the authority in the webhook's directory.
    pub(crate) fn caller(&self) -> reqwest::Client {
        client(Some(fs::read(self.path("certificates/ca.crt")).expect("the authority")))
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, String) {
        let request = self.caller().post(self.url(path)).header("Content-Type", "application/json");
        let answer = request.body(body).send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a body"))
    }

    /// What a review of a new pod is answered.
    pub(crate) async fn review(&self, path: &str, pod: &Value) -> Value {
        let namespace = pod["metadata"]["namespace"].as_str().unwrap_or("shop");
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "1", "operation": "CREATE", "namespace": namespace, "object": pod, "oldObject": null,
                "resource": { "group": "", "version": "v1", "resource": "pods" },
                "kind": { "group": "", "version": "v1", "kind": "Pod" },
                "userInfo": { "username": "admin" }, "dryRun": false, "options": null,
            },
        });
        let (status, body) = self.post(path, review.to_string()).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<Value>(&body).expect("JSON")["response"].take()
    }

    pub(crate) fn restart(&mut self) {
        self.process = RefCell::new(None);
        self.run();
    }

    /// Ends it in order, and returns its exit code.
    pub(crate) async fn terminate(&mut self) -> Option<i32> {
        let mut process = self.process.take().expect("it runs");
        process.signal(rustix::process::Signal::TERM);
        until("the webhook ends", async || process.0.try_wait().expect("a status")).await.code()
    }
}

fn client(ca: Option<Vec<u8>>) -> reqwest::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let ca = ca.map(|pem| reqwest::Certificate::from_pem(&pem).expect("an authority"));
    reqwest::Client::builder().tls_certs_only(ca).build().expect("a client")
}

/// A pod that asks, with these further annotations.
pub(crate) fn pod(name: &str, more: &[(&str, &str)]) -> Value {
    let mut annotations = serde_json::Map::new();
    for (key, text) in [("inject", "true"), ("secrets", "DB")].iter().chain(more) {
        annotations.insert(format!("secretbroker.dev/{key}"), json!(text));
    }
    let restricted = json!({
        "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
        "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" },
    });
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "annotations": annotations },
        "spec": { "containers": [
            { "name": "app", "image": "app", "command": ["/app"], "securityContext": restricted },
        ] },
    })
}
