//! The webhook behind a real API server: registered, trusted, asked.

use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    rig::{Webhook, pod},
    support::{kubernetes::Kubernetes, until},
};

const API: &str = "/apis/admissionregistration.k8s.io/v1";
const RESTRICTED: &str = "pod-security.kubernetes.io/enforce";

/// All places of this machine, for who needs it alone.
pub(crate) const ALL: u32 = 64;
static PLACES: Semaphore = Semaphore::const_new(ALL as usize);

/// Waits for so many places.
pub(crate) async fn places(number: u32) -> SemaphorePermit<'static> {
    PLACES.acquire_many(number).await.expect("it is never closed")
}

/// A webhook that keeps its certificate in a Secret and tells the API server of it, with its own service account's rights.
pub(crate) struct Registered {
    pub kubernetes: Kubernetes,
    webhook: Webhook,
    namespace: String,
    name: String,
    _places: SemaphorePermit<'static>,
}

/// Lets a service account do what these rules say, in the whole cluster.
async fn everywhere(kubernetes: &Kubernetes, namespace: &str, account: &str, rules: Value) {
    let api = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({ "metadata": { "name": namespace }, "rules": rules });
    kubernetes.create(&format!("{api}/clusterroles"), role).await;
    kubernetes.bind(namespace, account, namespace).await;
}

impl Registered {
    pub(crate) async fn start(settings: &str) -> Self {
        Self::with(settings, None, places(1).await).await
    }

    /// One whose pods read from this Vault.
    pub(crate) async fn with(
        more: &str,
        vault: Option<&str>,
        places: SemaphorePermit<'static>,
    ) -> Self {
        let kubernetes = Kubernetes::start().await;
        let namespace = kubernetes.namespace("webhook", json!({})).await;
        let name = namespace.clone();
        let account = "webhook";
        kubernetes.service_account(&namespace, account).await;
        let secrets = json!([{ "apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "create", "update"] }]);
        kubernetes.grant(&namespace, account, secrets).await;
        everywhere(&kubernetes, &namespace, account, json!([
            { "apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"] },
            { "apiGroups": ["admissionregistration.k8s.io"], "verbs": ["get", "update"], "resourceNames": [name],
              "resources": ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"] },
        ])).await;
        let token = kubernetes.token(&namespace, account, None).await;
        let settings = format!(
            "certificate.secret = \"webhook-tls\"\nnamespace = \"{namespace}\"\n{more}\nmutating_configuration = \"{name}\"\nvalidating_configuration = \"{name}\"\nexcluded_namespaces = [\"shop-left-alone\"]"
        );
        let sections = format!(
            "[kubernetes]\nserver = \"{}\"\ntoken_file = \"DIR/token\"\nca_file = \"{}\"\n",
            kubernetes.address(),
            kubernetes.ca_file().display()
        );
        let mut webhook = Webhook::prepare(&settings, &sections);
        if let Some(vault) = vault {
            webhook.replace("https://vault.example:8200", vault);
        }
        std::fs::write(webhook.path("token"), token).expect("the token");
        for (kind, path, more) in [
            ("mutating", "mutate", json!({ "reinvocationPolicy": "IfNeeded" })),
            ("validating", "validate", json!({})),
        ] {
            let mut one = json!({
                "name": format!("{kind}.secretbroker.dev"),
                "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail", "timeoutSeconds": 10,
                "clientConfig": { "url": webhook.url(&format!("/{path}")) },
                "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["pods"] }],
                "namespaceSelector": { "matchLabels": { "test": name } },
            });
            one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let object = json!({ "metadata": { "name": name }, "webhooks": [one] });
            kubernetes.create(&format!("{API}/{kind}webhookconfigurations"), object).await;
        }
        webhook.run();
        webhook.ready().await;
        Self { kubernetes, webhook, namespace, name, _places: places }
    }

    /// A namespace whose pods the webhook sees, and which takes only pods of the profile `restricted`.
    pub(crate) async fn shop(&self) -> String {
        self.kubernetes
            .namespace("shop", json!({ "test": self.name, RESTRICTED: "restricted" }))
            .await
    }

    pub(crate) async fn create(&self, namespace: &str, pod: Value) -> (u16, Value) {
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        self.kubernetes.request("POST", &path, Some(pod)).await
    }

    /// Waits until API server and webhook trust each other.
    pub(crate) async fn trusted(&self, namespace: &str) {
        until("the API server trusts the webhook", async || {
            let (status, _) = self.create(namespace, pod("first", &[])).await;
            (status == 201).then_some(())
        })
        .await;
    }

    async fn bundle(&self) -> String {
        let object = self
            .kubernetes
            .read(&format!("{API}/mutatingwebhookconfigurations/{}", self.name))
            .await;
        object["webhooks"][0]["clientConfig"]["caBundle"].as_str().unwrap_or_default().to_owned()
    }
}

#[tokio::test]
async fn a_restricted_namespace_accepts_the_injected_pod_and_asking_again_changes_nothing() {
    let rig = Registered::start("").await;
    let shop = rig.shop().await;
    rig.trusted(&shop).await;
    for (name, more) in [
        ("native", &[("files", "password=DB.password"), ("env", "PGPASSWORD=DB.password")][..]),
        ("plain", &[("mode", "plain")]),
        ("init", &[("mode", "init"), ("template.app.conf", "{{ secret(\"DB\").username }}")]),
        (
            "pki",
            &[("tls", "vault-pki"), ("tls-path", "pki/issue/pods"), ("ca-config-map", "vault-ca")],
        ),
        ("certs", &[("tls", "files"), ("tls-secret", "certs"), ("cpu-limit", "0.5")]),
        ("spiffe", &[("tls", "spiffe"), ("env", "PGPASSWORD=DB.password")]),
    ] {
        let (status, made) = rig.create(&shop, pod(name, more)).await;
        assert_eq!(status, 201, "{name}: {made}");
        assert_eq!(made["metadata"]["annotations"]["secretbroker.dev/status"], "injected");
        // As the API server stored it, defaults and all, it needs no further patch.
        let stored = rig.kubernetes.read(&format!("/api/v1/namespaces/{shop}/pods/{name}")).await;
        let again = rig.review(&stored).await;
        assert!(again["allowed"] == true && again.get("patch").is_none(), "{name}: {again}");
    }
    let (status, made) = rig.create(&shop, pod("native-2", &[])).await;
    assert_eq!(status, 201, "{made}");
    let sidecar = &made["spec"]["initContainers"][0];
    assert_eq!(
        (&sidecar["name"], &sidecar["restartPolicy"]),
        (&json!("secret-broker"), &json!("Always"))
    );
}

#[tokio::test]
async fn a_pod_that_asks_too_much_is_refused_and_told_why() {
    let rig = Registered::start("").await;
    let shop = rig.shop().await;
    rig.trusted(&shop).await;
    let (status, refused) =
        rig.create(&shop, pod("greedy", &[("secrets", "DB,PAYMENTS"), ("mode", "native")])).await;
    assert_eq!(status, 403, "{refused}");
    let message = refused["message"].as_str().expect("a message");
    for part in [
        "secretbroker.dev/secrets: \"PAYMENTS\" is unknown, or not granted to service account",
        &format!("{shop}/default"),
        "granted are DB",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let (status, refused) = rig.create(&shop, pod("wrong", &[("prot", "1")])).await;
    assert_eq!(status, 400, "{refused}");
    assert!(
        refused["message"]
            .as_str()
            .unwrap_or_default()
            .contains("did you mean `secretbroker.dev/port`?")
    );
    // A pod that exists: what is live follows, what is settled stays.
    let path = format!("/api/v1/namespaces/{shop}/pods/first");
    let change = |name: &str, text: &str| json!({ "metadata": { "annotations": { format!("secretbroker.dev/{name}"): text } } });
    let (status, changed) =
        rig.kubernetes.request("PATCH", &path, Some(change("log-level", "debug"))).await;
    assert_eq!(status, 200, "{changed}");
    let config =
        changed["metadata"]["annotations"]["secretbroker.dev/config"].as_str().unwrap_or_default();
    assert!(config.contains("secret_broker=debug"), "{config}");
    for (name, text) in
        [("secrets", "PAYMENTS"), ("config", "[secrets.PAYMENTS]"), ("image", "x"), ("status", "x")]
    {
        let (status, told) = rig.kubernetes.request("PATCH", &path, Some(change(name, text))).await;
        let kept = told["metadata"]["annotations"]["secretbroker.dev/config"].as_str();
        assert!(matches!(status, 400 | 403) || kept == Some(config), "{name}: {status} {told}");
    }
}

#[tokio::test]
async fn a_namespace_asks_for_its_pods_and_one_that_is_left_alone_is() {
    let rig = Registered::start("").await;
    let shop = rig.shop().await;
    rig.trusted(&shop).await;
    let annotations =
        json!({ "secretbroker.dev/inject": "true", "secretbroker.dev/secrets": "DB" });
    let body = json!({ "metadata": { "annotations": annotations } });
    let (status, _) =
        rig.kubernetes.request("PATCH", &format!("/api/v1/namespaces/{shop}"), Some(body)).await;
    assert_eq!(status, 200);
    until("its annotations hold", async || {
        let mut plain = pod("asked-by-namespace", &[]);
        plain["metadata"]["annotations"] = json!({});
        let (status, made) = rig.create(&shop, plain).await;
        // Between the two webhooks they may come to hold: then it is refused.
        assert!(matches!(status, 201 | 403), "{status}: {made}");
        let injected = made["spec"]["initContainers"][0]["name"] == "secret-broker";
        let path =
            format!("/api/v1/namespaces/{shop}/pods/asked-by-namespace?gracePeriodSeconds=0");
        rig.kubernetes.request("DELETE", &path, None).await;
        injected.then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_certificate_is_replaced_without_a_restart_and_pods_go_on_being_made() {
    let rig = Registered::start("certificate.ttl = \"1m\"").await;
    let shop = rig.shop().await;
    rig.trusted(&shop).await;
    let first = rig.bundle().await;
    let path = format!("/api/v1/namespaces/{}/secrets/webhook-tls", rig.namespace);
    let kept = rig.kubernetes.read(&path).await["data"]["tls.crt"].clone();
    let mut made = 0;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(100);
    // Due at forty seconds of its minute, served six seconds later.
    while rig.webhook.log().matches("certificate is in force").count() < 2 {
        assert!(std::time::Instant::now() < deadline, "{}", rig.webhook.log());
        let (status, told) = rig.create(&shop, pod(&format!("pod-{made}"), &[])).await;
        assert_eq!(status, 201, "{told}");
        made += 1;
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    for extra in 0..5 {
        let (status, told) = rig.create(&shop, pod(&format!("extra-{extra}"), &[])).await;
        assert_eq!(status, 201, "{told}");
    }
    assert_ne!(rig.bundle().await, first);
    assert_ne!(rig.kubernetes.read(&path).await["data"]["tls.crt"], kept);
}

impl Registered {
    /// What the webhook itself answers to a pod.
    pub(crate) async fn review(&self, pod: &Value) -> Value {
        use base64::{Engine, engine::general_purpose::STANDARD};
        std::fs::create_dir_all(self.webhook.path("certificates")).expect("a directory");
        let bundle = STANDARD.decode(self.bundle().await).expect("base64");
        std::fs::write(self.webhook.path("certificates/ca.crt"), bundle).expect("it");
        self.webhook.review("/mutate", pod).await
    }
}
