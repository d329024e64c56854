//! From the annotation to the application's query, on real parts: webhook, API server, `TokenReview`, Vault, `PostgreSQL`.

use serde_json::{Value, json};

use crate::{
    cluster::Registered,
    kubelet::Pod,
    pki::{Authority, Leaf},
    rig::pod,
    support::{free_port, kubernetes::Kubernetes, postgres::Postgres, until, vault::Vault},
    workload_api::{Answer, Svid, WorkloadApi},
};

/// A leased user lives for seconds, so that replacements pass by.
const TTL: (&str, &str) = ("6s", "12s");

pub(crate) struct Whole {
    pub rig: Registered,
    pub vault: Vault,
    postgres: Postgres,
    pub shop: String,
}

impl Whole {
    pub(crate) async fn start() -> Self {
        Self::with("").await
    }

    /// One whose webhook is set so.
    pub(crate) async fn with(settings: &str) -> Self {
        let (vault, postgres) = tokio::join!(Vault::start(), Postgres::start());
        vault.database(&postgres, TTL.0, TTL.1).await;
        let rig = Registered::start_at(&vault.address(), settings).await;
        let shop = rig.shop().await;
        rig.trusted(&shop).await;
        let whole = Self { rig, vault, postgres, shop };
        whole.let_pods_log_in().await;
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
        let policy = "path \"database/creds/app\" { capabilities = [\"read\"] }\n\
                      path \"sys/leases/*\" { capabilities = [\"update\"] }";
        self.vault.write("sys/policies/acl/app", json!({ "policy": policy })).await;
        let role = json!({
            "bound_service_account_names": ["default"],
            "bound_service_account_namespaces": [self.shop],
            "audience": "vault", "token_policies": ["app"],
        });
        self.vault.write(&format!("auth/kubernetes/role/{}-default", self.shop), role).await;
    }

    /// A pod whose application does this with the database, and writes what it finds into the volume `out`.
    async fn pod(&self, name: &str, script: &str, more: &[(&str, &str)]) -> Pod {
        let (port, probes) = (free_port().to_string(), free_port().to_string());
        let annotations = [
            ("env", "PGUSER=DB.username,PGPASSWORD=DB.password"),
            ("overlap", "3s"),
            ("port", &port),
            ("probe-port", &probes),
        ];
        let mut asked = pod(name, &[&annotations, more].concat());
        self.has_it_do(&mut asked, script);
        self.made(asked).await
    }

    /// Has the pod's application do this; it may `query`, and write into the volume `out`.
    pub(crate) fn has_it_do(&self, asked: &mut Value, script: &str) {
        let psql = format!(
            "query() {{ /usr/lib/postgresql/15/bin/psql -h 127.0.0.1 -p {} -d postgres -tAc 'SELECT session_user' >>/out/users 2>>/out/errors; }}\n{script}",
            self.postgres.port
        );
        let container = &mut asked["spec"]["containers"][0];
        container["command"] = json!(["/bin/sh", "-c", psql]);
        container["volumeMounts"] = json!([{ "name": "out", "mountPath": "/out" }]);
        asked["spec"]["volumes"] = json!([{ "name": "out", "emptyDir": {} }]);
    }

    /// The pod as the API server has it.
    pub(crate) async fn made(&self, asked: Value) -> Pod {
        let name = asked["metadata"]["name"].as_str().expect("a name").to_owned();
        let (status, made) = self.rig.create(&self.shop, asked).await;
        assert_eq!(status, 201, "{made}");
        Pod::read(&self.rig.kubernetes, &self.shop, &name).await
    }
}

pub(crate) fn users(pod: &Pod) -> Vec<String> {
    let mut users: Vec<_> = pod.file("out", "users").lines().map(str::to_owned).collect();
    users.dedup();
    users
}

#[tokio::test]
async fn an_annotated_pod_queries_with_a_leased_user_and_goes_on_with_its_successors() {
    let whole = Whole::start().await;
    let mut pod = whole.pod("server", "while query; do sleep 0.2; done", &[]).await;
    pod.start().await;
    until("two successors were used", async || (users(&pod).len() >= 3).then_some(())).await;
    assert_eq!(pod.file("out", "errors"), "", "no query failed");
    assert!(users(&pod).iter().all(|user| user.starts_with("v-")), "{:?}", users(&pod));

    // Its sidecar is killed and comes back; the application goes on with a user of its own.
    pod.kill("secret-broker").await;
    let before = users(&pod).len();
    until("a further one was used", async || (users(&pod).len() > before).then_some(())).await;
    assert_eq!(pod.file("out", "errors"), "", "no query failed");
    assert!(pod.stop("app").await.is_some());
    assert_eq!(pod.stop("secret-broker").await, Some(0), "{}", pod.log("secret-broker"));
    until("its users are gone", async || {
        let users: Vec<String> = whole.postgres.leased_users().await;
        users.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_job_ends_when_its_work_does() {
    let whole = Whole::start().await;
    let mut pod = whole.pod("job", "query", &[]).await;
    pod.start().await;
    assert_eq!(pod.ended("app").await, Some(0), "{}", pod.log("app"));
    assert_eq!(users(&pod).len(), 1, "{}", pod.file("out", "errors"));
    // The kubelet ends native sidecars when the containers of a pod are done.
    assert_eq!(pod.stop("secret-broker").await, Some(0), "{}", pod.log("secret-broker"));
}

#[tokio::test]
async fn a_pod_of_the_workload_api_waits_for_its_registration_and_is_known_by_it() {
    let whole = Whole::start().await;
    let script = "while query; do sleep 0.2; done";
    let mut pod = whole.pod("registered", script, &[("tls", "spiffe")]).await;
    // The part of the CSI driver: the agent's socket, in a volume of the pod.
    let api = WorkloadApi::start(&pod.volume("secret-broker-spiffe").join("spire-agent.sock"));
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
    assert!(pod.stop("app").await.is_some());
    assert_eq!(pod.stop("secret-broker").await, Some(0), "{}", pod.log("secret-broker"));
}
