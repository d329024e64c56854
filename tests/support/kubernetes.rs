//! A real API server on a real etcd, shared by all tests of a process and ended with it.
//!
//! Each test has namespaces of its own. There are no controllers and no kubelet: service accounts
//! are made here, and nothing runs what a pod asks for.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{free_port, tool};

/// Who issues the tokens of service accounts.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// May do everything.
const ADMIN: &str = "the-administrators-token";
/// Longer than a start takes on a machine that does much else.
const PATIENCE: Duration = Duration::from_mins(3);

/// The servers of this process.
struct Server {
    port: u16,
    ca: String,
    admin: &'static str,
    directory: PathBuf,
    _processes: [Child; 2],
    /// Ends them when its input ends, which this process holds open for as long as it lives.
    _guard: Child,
}

static SERVER: OnceLock<Server> = OnceLock::new();
static NAMES: AtomicU32 = AtomicU32::new(0);

/// A client of the API server with an administrator's rights.
pub struct Kubernetes {
    http: reqwest::Client,
    server: &'static Server,
}

impl Kubernetes {
    /// Starts the servers if no test of this process did, and waits until they serve.
    pub async fn start() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let server = SERVER.get_or_init(Server::start);
        let ca = reqwest::Certificate::from_pem(server.ca.as_bytes()).expect("the authority");
        let http = reqwest::Client::builder().tls_certs_only([ca]).build().expect("a client");
        let kubernetes = Self { http, server };
        let deadline = Instant::now() + PATIENCE;
        while kubernetes.request("GET", "/readyz", None).await.0 != 200 {
            assert!(Instant::now() < deadline, "no API server: {}", server.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        kubernetes
    }

    pub fn address(&self) -> String {
        format!("https://127.0.0.1:{}", self.server.port)
    }

    /// The authority of the server's certificate, as PEM.
    pub fn ca(&self) -> &str {
        &self.server.ca
    }

    /// A file of the same.
    pub fn ca_file(&self) -> PathBuf {
        self.server.directory.join("ca.pem")
    }

    /// A token that may do everything.
    pub fn admin_token(&self) -> &str {
        self.server.admin
    }

    /// Calls as the administrator; a text that is not JSON is given as a string.
    pub async fn request(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        self.request_as(ADMIN, method, path, body).await
    }

    /// Calls with this token. A `PATCH` is a merge patch. The status is 0 if nobody answers.
    pub async fn request_as(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let url = format!("{}{path}", self.address());
        let media =
            if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let mut request = self.http.request(method.parse().expect("a method"), url);
        request = request.bearer_auth(token).timeout(Duration::from_secs(30));
        if let Some(body) = body {
            request = request.header("Content-Type", media).body(body.to_string());
        }
        let Ok(answer) = request.send().await else { return (0, Value::Null) };
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap_or_default();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Makes an object; fails the test if the server refuses.
    pub async fn create(&self, path: &str, object: Value) -> Value {
        let (status, answer) = self.request("POST", path, Some(object)).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    /// Reads an object, which has to be there.
    pub async fn read(&self, path: &str) -> Value {
        let (status, answer) = self.request("GET", path, None).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// A namespace of the test's own, whose name begins like this, with these labels, and with its
    /// service account `default`.
    pub async fn namespace(&self, prefix: &str, labels: Value) -> String {
        let name = format!("{prefix}-{}", NAMES.fetch_add(1, Ordering::Relaxed));
        let metadata = json!({ "name": name, "labels": labels });
        self.create("/api/v1/namespaces", json!({ "metadata": metadata })).await;
        self.service_account(&name, "default").await;
        name
    }

    pub async fn service_account(&self, namespace: &str, name: &str) {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        self.create(&path, json!({ "metadata": { "name": name } })).await;
    }

    /// A token of a service account, as a projected volume would hold it: for this audience, or
    /// for the API server itself.
    pub async fn token(&self, namespace: &str, account: &str, audience: Option<&str>) -> String {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let audiences: Vec<_> = audience.into_iter().collect();
        let spec = json!({ "audiences": audiences, "expirationSeconds": 3600 });
        let answer = self.create(&path, json!({ "spec": spec })).await;
        answer["status"]["token"].as_str().expect("a token").to_owned()
    }

    /// Lets a service account do what these rules say, in its namespace.
    pub async fn grant(&self, namespace: &str, account: &str, rules: Value) {
        let api = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}");
        let role = json!({ "metadata": { "name": account }, "rules": rules });
        self.create(&format!("{api}/roles"), role).await;
        let binding = json!({
            "metadata": { "name": account },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account },
            "subjects": [{ "kind": "ServiceAccount", "namespace": namespace, "name": account }],
        });
        self.create(&format!("{api}/rolebindings"), binding).await;
    }

    /// Binds a service account to a role of the whole cluster, such as `system:auth-delegator`.
    pub async fn bind(&self, namespace: &str, account: &str, role: &str) {
        let binding = json!({
            "metadata": { "name": format!("{namespace}-{account}-{}", role.replace(':', "-")) },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
            "subjects": [{ "kind": "ServiceAccount", "namespace": namespace, "name": account }],
        });
        self.create("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding).await;
    }

    /// A kubeconfig of the administrator in this directory, for tools.
    pub fn kubeconfig(&self, directory: &Path) -> PathBuf {
        let path = directory.join("kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{ "name": "test", "cluster": {
                "server": self.address(), "certificate-authority": self.ca_file(),
            }}],
            "users": [{ "name": "test", "user": { "token": ADMIN } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
        });
        fs::write(&path, config.to_string()).expect("a kubeconfig");
        path
    }
}

impl Server {
    fn start() -> Self {
        // Before anything runs that would be left behind without it.
        let api_server = tool("kube-apiserver");
        // The guard removes it.
        let directory = TempDir::with_prefix("kubernetes-").expect("a directory").keep();
        let at = |name: &str| directory.join(name).display().to_string();
        let ca = certificates(&directory);
        fs::write(at("tokens.csv"), format!("{ADMIN},admin,admin,system:masters\n"))
            .expect("a token");
        let (port, clients, peers) = (free_port(), free_port(), free_port());
        let etcd = format!("http://127.0.0.1:{clients}");
        let peers = format!("http://127.0.0.1:{peers}");
        let etcd_process = run(
            Path::new("etcd"),
            &at("etcd.log"),
            &[
                ("data-dir", &at("etcd")),
                ("listen-client-urls", &etcd),
                ("advertise-client-urls", &etcd),
                ("listen-peer-urls", &peers),
                ("initial-advertise-peer-urls", &peers),
                ("initial-cluster", &format!("default={peers}")),
            ],
        );
        let api_process = run(
            &api_server,
            &at("api.log"),
            &[
                ("etcd-servers", &etcd),
                ("bind-address", "127.0.0.1"),
                ("advertise-address", "127.0.0.1"),
                ("secure-port", &port.to_string()),
                ("tls-cert-file", &at("server.pem")),
                ("tls-private-key-file", &at("server.key")),
                ("cert-dir", &at("certificates")),
                ("token-auth-file", &at("tokens.csv")),
                ("authorization-mode", "RBAC"),
                ("service-account-issuer", ISSUER),
                ("service-account-key-file", &at("accounts.pub")),
                ("service-account-signing-key-file", &at("accounts.key")),
                ("service-cluster-ip-range", "10.0.0.0/24"),
                ("endpoint-reconciler-type", "none"),
                ("enable-priority-and-fairness", "false"),
                ("profiling", "false"),
            ],
        );
        // In a group of its own, so that an interrupt of the terminal doesn't end it too early.
        let mut guard = Command::new("sh");
        guard
            .args(["-c", "read -r _; kill -9 \"$1\" \"$2\"; rm -rf \"$3\"", "guard"])
            .args([api_process.id().to_string(), etcd_process.id().to_string()])
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        let guard = guard.spawn().expect("the guard");
        let processes = [etcd_process, api_process];
        Self { port, ca, admin: ADMIN, directory, _processes: processes, _guard: guard }
    }

    /// The end of what the servers said.
    fn log(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.directory.join(name)).unwrap_or_default();
        let tail = |text: String| {
            let lines: Vec<_> = text.lines().rev().take(20).map(str::to_owned).collect();
            lines.into_iter().rev().collect::<Vec<_>>().join("\n")
        };
        format!("{}\n{}", tail(read("etcd.log")), tail(read("api.log")))
    }
}

/// Starts a server with these flags; its output goes to a file.
fn run(program: &Path, log: &str, flags: &[(&str, &str)]) -> Child {
    let log = fs::File::create(log).expect("a log");
    let mut command = Command::new(program);
    command
        .args(flags.iter().map(|(name, value)| format!("--{name}={value}")))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .process_group(0);
    command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}

/// Writes an authority, the server's certificate, and the key that signs tokens; returns the
/// authority.
fn certificates(directory: &Path) -> String {
    let write = |name: &str, text: &str| fs::write(directory.join(name), text).expect("a file");
    let key = KeyPair::generate().expect("a key");
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "the cluster's authority");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = ca.self_signed(&key).expect("an authority").pem();
    let issuer = Issuer::new(ca, key);
    let names = ["127.0.0.1", "localhost", "kubernetes.default.svc"].map(str::to_owned);
    let server = CertificateParams::new(names).expect("names");
    let key = KeyPair::generate().expect("a key");
    let certificate = server.signed_by(&key, &issuer).expect("a certificate");
    write("ca.pem", &pem);
    write("server.pem", &certificate.pem());
    write("server.key", &key.serialize_pem());
    let accounts = KeyPair::generate().expect("a key");
    write("accounts.key", &accounts.serialize_pem());
    write("accounts.pub", &accounts.public_key_pem());
    pem
}
