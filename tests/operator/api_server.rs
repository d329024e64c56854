//! The API server of the tests does what the tests of the product rely on.

use serde_json::json;

use super::support::kubernetes::Kubernetes;

#[tokio::test]
async fn it_admits_by_the_profile_of_the_namespace() {
    let kubernetes = Kubernetes::start().await;
    let labels = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
    let namespace = kubernetes.namespace("restricted", labels).await;
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let pod = |name: &str, context: serde_json::Value| {
        json!({
            "metadata": { "name": name },
            "spec": { "containers": [{ "name": "app", "image": "app", "securityContext": context }] },
        })
    };
    let (status, told) =
        kubernetes.request("POST", &path, Some(pod("open", json!({ "privileged": true })))).await;
    assert_eq!(status, 403, "{told}");
    let restricted = json!({
        "runAsNonRoot": true, "allowPrivilegeEscalation": false,
        "capabilities": { "drop": ["ALL"] }, "seccompProfile": { "type": "RuntimeDefault" },
    });
    kubernetes.create(&path, pod("closed", restricted)).await;
}

#[tokio::test]
async fn it_knows_whose_token_is_whose_and_what_they_may() {
    let kubernetes = Kubernetes::start().await;
    let namespace = kubernetes.namespace("rights", json!({})).await;
    kubernetes.service_account(&namespace, "reader").await;
    let rules = json!([{ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"] }]);
    kubernetes.grant(&namespace, "reader", rules).await;
    let ours = kubernetes.token(&namespace, "reader", None).await;
    let path = format!("/api/v1/namespaces/{namespace}");
    let status = async |token: &str, kind: &str| {
        kubernetes.request_as(token, "GET", &format!("{path}/{kind}"), None).await.0
    };
    assert_eq!(status(&ours, "configmaps").await, 200);
    assert_eq!(status(&ours, "secrets").await, 403);
    let for_vault = kubernetes.token(&namespace, "reader", Some("vault")).await;
    assert_eq!(status(&for_vault, "configmaps").await, 401, "it is for Vault alone");
}
