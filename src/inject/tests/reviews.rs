//! Reviews: who is injected, who passes, who is refused and how it is told.

use serde_json::{Value, json};

use super::{Door, admission, after, asked, pod_with};

const ASKS: [(&str, &str); 2] = [("inject", "true"), ("secrets", "DB,API_KEY")];

fn message(response: &Value) -> &str {
    assert_eq!(response["allowed"], false, "{response}");
    response["status"]["message"].as_str().expect("a message")
}

fn with_annotation(pod: &Value, name: &str, text: &str) -> Value {
    let mut pod = pod.clone();
    pod["metadata"]["annotations"][format!("secretbroker.dev/{name}")] = json!(text);
    pod
}

#[tokio::test]
async fn a_pod_that_asks_is_injected_then_valid_and_again_unchanged() {
    let (admission, metrics) = admission(&[]);
    let pod = pod_with(&ASKS);
    let response = asked(&admission, Door::Mutate, None, &pod).await;
    let injected = after(&pod, &response);
    assert_eq!(asked(&admission, Door::Validate, None, &injected).await["allowed"], true);
    let again = asked(&admission, Door::Mutate, None, &injected).await;
    assert!(again["allowed"] == true && again.get("patch").is_none(), "{again}");
    let page = metrics.page();
    assert!(page.contains("secret_broker_injection_pods_total{outcome=\"injected\"} 1"), "{page}");
    assert!(!page.contains("shop"), "no label names a namespace: {page}");
}

#[tokio::test]
async fn a_pod_that_does_not_ask_passes_untouched() {
    let (admission, metrics) = admission(&[]);
    for pod in [pod_with(&[]), pod_with(&[("inject", "false"), ("secrets", "DB")])] {
        let response = asked(&admission, Door::Mutate, None, &pod).await;
        assert_eq!(after(&pod, &response), pod);
        assert_eq!(asked(&admission, Door::Validate, None, &pod).await["allowed"], true);
    }
    assert!(metrics.page().contains("secret_broker_injection_pods_total{outcome=\"skipped\"} 2"));
}

#[tokio::test]
async fn what_is_not_granted_is_refused_and_looks_like_what_is_unknown() {
    let (admission, metrics) = admission(&[]);
    let mut told = Vec::new();
    for name in ["PAYMENTS", "NOWHERE"] {
        let pod = pod_with(&[("inject", "true"), ("secrets", name)]);
        let response = asked(&admission, Door::Mutate, None, &pod).await;
        assert_eq!(response["status"]["code"], 403);
        told.push(message(&response).replace(name, "X"));
    }
    assert_eq!(told[0], told[1]);
    for part in
        ["\"X\" is unknown, or not granted to service account shop/api", "granted are API_KEY, DB"]
    {
        assert!(told[0].contains(part), "{}", told[0]);
    }
    let mut pod = pod_with(&ASKS);
    pod["metadata"]["namespace"] = json!("elsewhere");
    let response = asked(&admission, Door::Mutate, None, &pod).await;
    assert!(message(&response).contains("nothing is granted to it"), "{response}");
    assert!(metrics.page().contains("secret_broker_injection_pods_total{outcome=\"refused\"} 3"));
}

#[tokio::test]
async fn a_configuration_of_ones_own_needs_a_grant() {
    let (admission, _) = admission(&[]);
    let mut pod = pod_with(&[("inject", "true"), ("config-map", "mine")]);
    let response = asked(&admission, Door::Mutate, None, &pod).await;
    assert!(message(&response).contains("may not bring a configuration of its own"));
    pod["metadata"]["namespace"] = json!("lab-7");
    assert_eq!(asked(&admission, Door::Mutate, None, &pod).await["allowed"], true);
}

#[tokio::test]
async fn a_pod_that_was_not_injected_does_not_start() {
    let (admission, metrics) = admission(&[]);
    let response = asked(&admission, Door::Validate, None, &pod_with(&ASKS)).await;
    assert!(message(&response).contains("asks for its secrets and was not injected"));
    // The mark alone is no sidecar.
    let marked = with_annotation(&pod_with(&ASKS), "status", "injected");
    assert_eq!(asked(&admission, Door::Validate, None, &marked).await["allowed"], false);
    assert!(
        metrics.page().contains("secret_broker_injection_pods_total{outcome=\"uninjected\"} 2")
    );
}

#[tokio::test]
async fn pods_of_excluded_namespaces_always_pass() {
    let (admission, _) = admission(&[("inject", "true")]);
    for namespace in ["kube-system", "secret-broker"] {
        for pairs in [&ASKS[..], &[("inject", "true"), ("nonsense", "x")]] {
            let mut pod = pod_with(pairs);
            pod["metadata"]["namespace"] = json!(namespace);
            let response = asked(&admission, Door::Mutate, None, &pod).await;
            assert_eq!(after(&pod, &response), pod);
            assert!(
                response["warnings"][0].as_str().unwrap().contains("leaves namespace"),
                "{response}"
            );
            assert_eq!(asked(&admission, Door::Validate, None, &pod).await["allowed"], true);
        }
    }
}

#[tokio::test]
async fn a_namespace_asks_for_its_pods_and_a_pod_may_say_no() {
    let (admission, _) = admission(&[
        ("inject", "true"),
        ("secrets", "DB"),
        ("template.app.conf", "x"),
        ("config", "planted"),
    ]);
    let pod = pod_with(&[]);
    let injected = after(&pod, &asked(&admission, Door::Mutate, None, &pod).await);
    let annotations = &injected["metadata"]["annotations"];
    assert_eq!(
        annotations["secretbroker.dev/template.app.conf"], "x",
        "it is mounted from the pod's own"
    );
    assert_ne!(annotations["secretbroker.dev/config"], "planted");
    assert_eq!(asked(&admission, Door::Validate, None, &injected).await["allowed"], true);
    let no = pod_with(&[("inject", "false")]);
    assert_eq!(after(&no, &asked(&admission, Door::Mutate, None, &no).await), no);
}

#[tokio::test]
async fn a_running_pod_changes_what_is_live_and_nothing_else() {
    let (admission, _) = admission(&[]);
    let pod = pod_with(&ASKS);
    let old = after(&pod, &asked(&admission, Door::Mutate, None, &pod).await);
    // Whatever else changes is none of the webhook's concern.
    let mut labelled = old.clone();
    labelled["metadata"]["labels"] = json!({ "x": "y" });
    for door in [Door::Mutate, Door::Validate] {
        assert_eq!(
            after(&labelled, &asked(&admission, door, Some(&old), &labelled).await),
            labelled
        );
    }
    let fewer = with_annotation(&old, "secrets", "DB");
    let response = asked(&admission, Door::Mutate, Some(&old), &fewer).await;
    let new = after(&fewer, &response);
    let text = new["metadata"]["annotations"]["secretbroker.dev/config"].as_str().unwrap();
    assert!(text.contains("[secrets.DB]") && !text.contains("API_KEY"), "{text}");
    assert_eq!(new["spec"], old["spec"]);
    assert_eq!(asked(&admission, Door::Validate, Some(&old), &new).await["allowed"], true);
    for (name, text, told) in [
        ("image", "other", "image: changed on a pod that exists"),
        ("status", "no", "status: changed on a pod that exists"),
        ("template.late", "x", "template.late: changed on a pod that exists"),
        ("secrets", "PAYMENTS", "\"PAYMENTS\" is unknown, or not granted"),
    ] {
        let changed = with_annotation(&old, name, text);
        let response = asked(&admission, Door::Validate, Some(&old), &changed).await;
        assert!(message(&response).contains(told), "{response}");
    }
    let planted = with_annotation(&old, "config", "[secrets.PAYMENTS]");
    let response = asked(&admission, Door::Validate, Some(&old), &planted).await;
    assert!(message(&response).contains("config: not what the webhook writes"), "{response}");
}

#[tokio::test]
async fn what_is_no_review_is_refused_and_not_repeated() {
    let (admission, _) = admission(&[]);
    for body in [
        "hunter2",
        "{}",
        "[]",
        "{\"apiVersion\":\"admission.k8s.io/v1beta1\",\"kind\":\"AdmissionReview\"}",
        "{\"apiVersion\":\"admission.k8s.io/v1\",\"kind\":\"AdmissionReview\"}",
        "{\"apiVersion\":\"admission.k8s.io/v1\",\"kind\":\"AdmissionReview\",\"request\":{\"uid\":\"hunter2\"}}",
    ] {
        let error = admission.answer(Door::Mutate, body.as_bytes()).await.unwrap_err().to_string();
        assert!(
            !error.contains("hunter2") && error.starts_with("not an AdmissionReview"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_namespace_that_is_no_dns_label_is_refused() {
    let (admission, _) = admission(&[]);
    for namespace in ["", "../secrets", "a/b", "shop?x", "-shop", "Shop"] {
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "1", "resource": { "group": "", "version": "v1", "resource": "pods" },
                "namespace": namespace, "operation": "CREATE", "object": {},
            },
        });
        let error = admission.answer(Door::Mutate, review.to_string().as_bytes()).await;
        let error = error.unwrap_err().to_string();
        assert!(error.ends_with("the namespace is no DNS label"), "{error}");
    }
}

#[tokio::test]
async fn a_job_is_warned_of_a_sidecar_that_never_ends() {
    let (admission, _) = admission(&[]);
    let mut pod = pod_with(&[("inject", "true"), ("secrets", "DB"), ("mode", "plain")]);
    pod["spec"]["restartPolicy"] = json!("Never");
    let response = asked(&admission, Door::Mutate, None, &pod).await;
    assert!(
        response["warnings"][0]
            .as_str()
            .unwrap()
            .contains("keeps a pod that should end from ending")
    );
}
