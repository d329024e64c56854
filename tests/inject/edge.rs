//! The webhook over HTTPS: reviews, limits, its certificate, and changes of its configuration.

use std::{process::Command, time::Duration};

use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::{
    rig::{PROGRAM, Webhook, pod},
    support::until,
};

const KEPT: &str = "certificate.directory = \"DIR/certificates\"";

#[tokio::test]
async fn reviews_are_answered_and_counted() {
    let mut webhook = Webhook::start(KEPT, "").await;
    let response = webhook.review("/mutate", &pod("a", &[])).await;
    assert!(response["allowed"] == true && response["patch"].is_string(), "{response}");
    let refused = webhook.review("/validate", &pod("a", &[])).await;
    assert_eq!(refused["allowed"], false, "it was not injected");
    let refused =
        webhook.review("/mutate", &pod("a", &[("secrets", "PAYMENTS"), ("mod", "x")])).await;
    let message = refused["status"]["message"].as_str().expect("a message");
    assert!(message.contains("did you mean `secretbroker.dev/mode`?"), "{message}");
    let (_, page) = webhook.page("/metrics").await.expect("metrics");
    for line in [
        "secret_broker_injection_pods_total{outcome=\"injected\"} 1",
        "secret_broker_injection_pods_total{outcome=\"refused\"} 1",
        "secret_broker_injection_pods_total{outcome=\"uninjected\"} 1",
        "secret_broker_injection_certificate_expiry_timestamp_seconds",
        "secret_broker_injection_review_seconds_count 3",
    ] {
        assert!(page.contains(line), "{line}: {page}");
    }
    assert_eq!(webhook.page("/livez").await.expect("a page").0, 200);
    assert_eq!(webhook.terminate().await, Some(0), "{}", webhook.log());
}

#[tokio::test]
async fn what_is_no_review_is_refused_within_limits() {
    let limits = format!("{KEPT}\nlimits.request_bytes = 4096\nlimits.request_timeout = \"300ms\"");
    let webhook = Webhook::start(&limits, "").await;
    for (path, body, status) in [
        ("/mutate", "hunter2".to_owned(), 400),
        ("/validate", "{}".to_owned(), 400),
        ("/mutate", "x".repeat(5000), 413),
        ("/elsewhere", "{}".to_owned(), 404),
    ] {
        let (code, text) = webhook.post(path, body).await;
        assert_eq!(code, status, "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    let get = webhook.caller().get(webhook.url("/mutate")).send().await.expect("an answer");
    assert_eq!(get.status(), 405);
    let plain =
        webhook.caller().post(webhook.url("/mutate")).body("{}").send().await.expect("an answer");
    assert_eq!(plain.status(), 415);
    // One that says nothing is closed.
    let mut silent = TcpStream::connect(("127.0.0.1", webhook.port)).await.expect("a connection");
    let closed = tokio::time::timeout(Duration::from_secs(10), silent.read_u8()).await;
    assert!(closed.expect("in time").is_err());
    let (_, page) = webhook.page("/metrics").await.expect("metrics");
    assert!(page.contains("secret_broker_injection_malformed_total 2"), "{page}");
    assert!(!webhook.log().contains("hunter2"));
}

#[tokio::test]
async fn the_certificate_outlives_a_restart() {
    let mut webhook = Webhook::start(KEPT, "").await;
    let before = std::fs::read(webhook.path("certificates/tls.crt")).expect("a certificate");
    let caller = webhook.caller();
    webhook.restart();
    webhook.ready().await;
    assert_eq!(std::fs::read(webhook.path("certificates/tls.crt")).expect("a certificate"), before);
    let answer = caller.get(webhook.url("/mutate")).send().await;
    assert_eq!(answer.expect("who trusted it still does").status(), 405);
}

#[tokio::test]
async fn a_changed_configuration_is_taken_over_and_a_wrong_one_is_not() {
    let webhook = Webhook::start(KEPT, "").await;
    let asks = pod("a", &[("secrets", "PAYMENTS")]);
    assert_eq!(webhook.review("/mutate", &asks).await["allowed"], false);
    webhook.configure(KEPT, "[[grant]]\nnamespaces = [\"shop\"]\nservice_accounts = [\"*\"]\nsecrets = [\"PAYMENTS\"]\n");
    until("the grant holds", async || {
        (webhook.review("/mutate", &asks).await["allowed"] == true).then_some(())
    })
    .await;
    webhook.configure(KEPT, "[[grnt]]\n");
    until("the mistake is told", async || webhook.log().contains("grnt").then_some(())).await;
    assert_eq!(webhook.review("/mutate", &asks).await["allowed"], true, "what worked stays");
}

#[test]
fn mistakes_of_the_configuration_are_told_at_once_with_what_pods_would_meet() {
    let webhook = Webhook::prepare(
        "certificate.secret = \"x\"\nlimits.connections = 0",
        "[secrets.X]\nstore = \"vault\"\n",
    );
    let run = || {
        let mut command = Command::new(PROGRAM);
        let ended = command.arg("inject").arg("--config").arg(webhook.path("inject.toml")).output();
        let ended = ended.expect("a command");
        (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
    };
    let (code, told) = run();
    assert_eq!(code, Some(2), "{told}");
    for part in [
        "webhook.limits.connections",
        "secrets.X.category",
        "secrets.X.engine",
        "kubernetes: missing; needed by webhook.certificate.secret",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let text = std::fs::read_to_string(webhook.path("inject.toml")).expect("it");
    let text = text
        .split("[secrets.X]")
        .next()
        .expect("it")
        .replace("https://vault.example:8200", "vault");
    let text = text.replace("certificate.secret = \"x\"\nlimits.connections = 0", KEPT);
    std::fs::write(webhook.path("inject.toml"), text).expect("it");
    let (code, told) = run();
    assert_eq!(code, Some(2), "{told}");
    assert!(
        told.contains("sidecar: no pod could have it: secretbroker.dev/vault-address"),
        "{told}"
    );
}
