//! From the annotation to the application's query, on real parts: webhook, API server, `TokenReview`, Vault, `PostgreSQL`.

use serde_json::{Value, json};

use crate::{
    cluster::{Registered, places},
    kubelet::Pod,
    pki::{Authority, Leaf},
    rig::pod,
    support::{free_port, kubernetes::Kubernetes, postgres::Postgres, until, vault::Vault},
    workload_api::{Answer, Svid, WorkloadApi},
};

/// A leased user lives for seconds, so that replacements pass by.
pub(crate) const SECONDS: (&str, &str) = ("6s", "12s");
/// A leased user outlives the test.
pub(crate) const HOURS: (&str, &str) = ("1h", "2h");

/// What the pods may do at Vault.
const POLICY: &str = r#"
path "database/creds/app" { capabilities = ["read"] }
path "pki/issue/pods" { capabilities = ["update"] }
path "sys/leases/*" { capabilities = ["update"] }
"#;

pub(crate) struct Whole {
    pub rig: Registered,
    pub vault: Vault,
    pub postgres: Postgres,
    pub shop: String,
}

impl Whole {
    /// Users are leased for the first time, and renewed up to the second.
    pub(crate) async fn start(ttl: (&str, &str)) -> Self {
        Self::with(ttl, "", 1).await
    }

    /// One whose webhook is set so, and that takes so many of the machine's places.
    pub(crate) async fn with(ttl: (&str, &str), settings: &str, number: u32) -> Self {
        let places = places(number).await;
        let (vault, postgres) = tokio::join!(Vault::start(), Postgres::start());
        vault.database(&postgres, ttl.0, ttl.1).await;
        let rig = Registered::with(settings, Some(&vault.address()), places).await;
        let shop = rig.shop().await;
        rig.trusted(&shop).await;
        let whole = Self { rig, vault, postgres, shop };
        whole.let_pods_log_in().await;
        whole.vault.audit().await;
        whole
    }

    /// Vault asks the API server whose token it is.
    async fn let_pods_log_in(&self) {
        let kubernetes: &Kubernetes = &self.rig.kubernetes;
        kubernetes.service_account(&self.shop, "reviewer").await;
        kubernetes.bind(&self.shop, "reviewer", "system:auth-delegator").await;
        self.vault.write("sys/auth/kubernetes", json!({ "type": "kubernetes" })).await;
        let reviewer = kubernetes.token(&self.shop, "reviewer", None).await;
        let config = json!({
            "kubernetes_host": kubernetes.address(), "kubernetes_ca_cert": kubernetes.ca(),
            "token_reviewer_jwt": reviewer, "disable_local_ca_jwt": true,
        });
        self.vault.write("auth/kubernetes/config", config).await;
        self.vault.write("sys/policies/acl/app", json!({ "policy": POLICY })).await;
        let role = json!({
            "bound_service_account_names": ["default"],
            "bound_service_account_namespaces": [self.shop],
            "audience": "vault", "token_policies": ["app"],
        });
        self.vault.write(&format!("auth/kubernetes/role/{}-default", self.shop), role).await;
    }

    /// A pod with these further annotations, whose application does this and writes what it finds into the volume `out`.
    pub(crate) async fn pod(&self, name: &str, more: &[(&str, &str)], script: &str) -> Pod {
        self.made(Self::asked(name, more, script)).await
    }

    /// What people hand to the API server.
    pub(crate) fn asked(name: &str, more: &[(&str, &str)], script: &str) -> Value {
        let (port, probes) = (free_port().to_string(), free_port().to_string());
        let ports = [("port", port.as_str()), ("probe-port", &probes), ("startup-timeout", "60s")];
        let mut asked = pod(name, &[&ports, more].concat());
        has_it_do(&mut asked, script);
        asked
    }

    /// The pod that the API server made of it.
    pub(crate) async fn made(&self, asked: Value) -> Pod {
        let name = asked["metadata"]["name"].as_str().expect("a name").to_owned();
        let (status, made) = self.rig.create(&self.shop, asked).await;
        assert_eq!(status, 201, "{made}");
        Pod::read(&self.rig.kubernetes, &self.shop, &name).await
    }

    /// The command of an application that asks the database who it is.
    pub(crate) fn query(&self) -> String {
        format!(
            "/usr/lib/postgresql/15/bin/psql -h 127.0.0.1 -p {} -d postgres -tAc 'SELECT session_user' >>/out/users 2>>/out/errors",
            self.postgres.port
        )
    }

    /// A pod whose application has its user and password in its environment, and may `query`.
    async fn querying(&self, name: &str, more: &[(&str, &str)], script: &str) -> Pod {
        let script = format!("echo started >>/out/starts; {}\n{script}", self.query_function());
        let env = [("env", "PGUSER=DB.username,PGPASSWORD=DB.password"), ("overlap", "3s")];
        self.pod(name, &[&env, more].concat(), &script).await
    }

    pub(crate) fn query_function(&self) -> String {
        format!("query() {{ {}; }}", self.query())
    }

    /// Waits until Vault has dropped every user that it leased.
    pub(crate) async fn nobody_is_left(&self) {
        until("its users are gone", async || {
            self.postgres.leased_users().await.is_empty().then_some(())
        })
        .await;
    }

    /// How often this path of Vault was asked for.
    pub(crate) fn calls(&self, path: &str) -> usize {
        self.vault.asked().get(path).copied().unwrap_or_default()
    }
}

/// Has the application of a pod do this; what it writes into the volume `out` can be read.
pub(crate) fn has_it_do(asked: &mut Value, script: &str) {
    let container = &mut asked["spec"]["containers"][0];
    container["command"] = json!(["/bin/sh", "-c", script]);
    container["volumeMounts"] = json!([{ "name": "out", "mountPath": "/out" }]);
    asked["spec"]["volumes"] = json!([{ "name": "out", "emptyDir": {} }]);
}

/// The users that the application was, each once.
pub(crate) fn users(pod: &Pod) -> Vec<String> {
    let mut users: Vec<_> = pod.file("out", "users").lines().map(str::to_owned).collect();
    users.dedup();
    users
}

/// Waits until the application was a leased user `times` more.
pub(crate) async fn goes_on(pod: &Pod, times: usize) {
    let lines = || pod.file("out", "users").lines().count();
    let before = lines();
    until("the application goes on", async || (lines() >= before + times).then_some(())).await;
}

#[tokio::test]
async fn an_annotated_pod_queries_with_a_leased_user_and_goes_on_with_its_successors() {
    let whole = Whole::start(SECONDS).await;
    let mut pod = whole.querying("server", &[], "while query; do sleep 0.2; done").await;
    pod.start().await;
    until("two successors were used", async || (users(&pod).len() >= 3).then_some(())).await;
    assert_eq!(pod.file("out", "errors"), "", "no query failed");
    assert!(users(&pod).iter().all(|user| user.starts_with("v-")), "{:?}", users(&pod));
    pod.end().await;
    whole.nobody_is_left().await;
}

#[tokio::test]
async fn a_killed_sidecar_comes_back_with_the_lease_and_the_login_that_it_had() {
    let whole = Whole::start(HOURS).await;
    let mut pod = whole.querying("killed", &[], "while sleep 0.2; do query; done").await;
    pod.start().await;
    goes_on(&pod, 1).await;
    for _ in 0..3 {
        pod.kill("secret-broker").await;
        goes_on(&pod, 2).await;
    }
    assert_eq!((users(&pod).len(), pod.file("out", "errors").as_str()), (1, ""));
    assert_eq!(pod.file("out", "starts"), "started\n", "the application was left alone");
    assert_eq!(whole.postgres.leased_users().await, users(&pod));
    let (logins, fetches) =
        (whole.calls("auth/kubernetes/login"), whole.calls("database/creds/app"));
    assert_eq!((logins, fetches), (1, 1), "{:?}", whole.vault.asked());

    // Ended in order, it takes everything back; what comes after it in the same pod begins anew.
    let state = pod.path("secret-broker-state", "state.age");
    assert!(state.exists());
    assert_eq!(pod.stop("secret-broker").await, Some(0), "{}", pod.log("secret-broker"));
    whole.nobody_is_left().await;
    assert!(!state.exists(), "nothing of it would be live");
    pod.restart("secret-broker").await;
    goes_on(&pod, 2).await;
    assert_eq!((users(&pod).len(), whole.postgres.leased_users().await.len()), (2, 1));
    pod.end().await;
    whole.nobody_is_left().await;
}

#[tokio::test]
async fn a_job_ends_when_its_work_does() {
    let whole = Whole::start(SECONDS).await;
    let mut pod = whole.querying("job", &[], "query").await;
    pod.start().await;
    assert_eq!(pod.ended("app").await, Some(0), "{}", pod.log("app"));
    assert_eq!(users(&pod).len(), 1, "{}", pod.file("out", "errors"));
    // The kubelet ends native sidecars when the containers of a pod are done.
    assert_eq!(pod.stop("secret-broker").await, Some(0), "{}", pod.log("secret-broker"));
}

#[tokio::test]
async fn a_pod_of_the_workload_api_waits_for_its_registration_and_is_known_by_it() {
    let whole = Whole::start(SECONDS).await;
    let script = "while query; do sleep 0.2; done";
    let mut pod = whole.querying("registered", &[("tls", "spiffe")], script).await;
    // The part of the CSI driver: the agent's socket, in a volume of the pod.
    let api = WorkloadApi::start(&pod.path("secret-broker-spiffe", "spire-agent.sock"));
    let authority = Authority::new("cluster.local");
    let say = |account: &str| {
        let id = format!("spiffe://cluster.local/ns/{}/sa/{account}", whole.shop);
        let Leaf { cert: chain, key } = authority.svid(&id, &["localhost"]);
        api.say(Answer::of([Svid { id, hint: "", chain, key, bundle: authority.pem.clone() }]));
    };
    say("somebody-else");
    let log = pod.log_file("secret-broker");
    let registered = async {
        until("it says what is missing", async || {
            let log = std::fs::read_to_string(&log).ok()?;
            log.contains("no SVID has the ID or hint").then_some(())
        })
        .await;
        say("default");
    };
    tokio::join!(pod.start(), registered);
    until("it queries", async || (!users(&pod).is_empty()).then_some(())).await;
    let caller = format!("\"caller\":\"spiffe://cluster.local/ns/{}/sa/default\"", whole.shop);
    assert!(pod.log("secret-broker").contains(&caller), "{}", pod.log("secret-broker"));
    // A new SVID and new credentials pass by without a failed query.
    say("default");
    let before = users(&pod).len();
    until("a further one was used", async || (users(&pod).len() > before).then_some(())).await;
    assert_eq!(pod.file("out", "errors"), "", "no query failed");
    pod.end().await;
    whole.nobody_is_left().await;
}
