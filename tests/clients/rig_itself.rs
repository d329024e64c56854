//! That the rig does what it promises to the tests of the clients.

use secret_broker_client::{Client, Error, Event, Reason};
use serde_json::json;

use crate::{control::Controlled, harness::Tests};

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

pub fn add(tests: &mut Tests) {
    tests.add("the_rig_does_what_it_promises", does_what_it_promises);
}

async fn does_what_it_promises() {
    let controlled = Controlled::start().await;
    let client = |certificates: &str| {
        let builder = Client::builder().address(controlled.variable("SECRET_BROKER_ADDRESS"));
        builder.cert_dir(controlled.variable(certificates)).build().expect("a client")
    };
    let application = client("SECRET_BROKER_CERT_DIR");
    rotates(&application, &controlled).await;
    let by_socket =
        Client::builder().address(controlled.variable("RIG_SOCKET")).build().expect("a client");
    assert_eq!(
        by_socket.get("API_KEY").await.expect("a secret").text("value"),
        Some("api-key-of-the-rig")
    );
    for (name, reason) in
        [("FORBIDDEN", Reason::Denied), ("MISSING_AT_SOURCE", Reason::SourceNotFound)]
    {
        let refused = application.get(name).await.expect_err("there is none");
        assert_eq!(refused.reason(), Some(reason), "{refused}");
    }
    let hasty = application.with_deadline(std::time::Duration::from_millis(300));
    hasty.get("SLOW").await.expect_err("it never answers");

    controlled.order("revoke-access", json!({ "name": "DB" })).await;
    let refused = application.get("DB").await.expect_err("it is taken away");
    assert_eq!(refused.reason(), Some(Reason::Denied));
    controlled.order("grant-access", json!({ "name": "DB" })).await;
    application.get("DB").await.expect("it is given back");

    let stranger = client("RIG_WRONG_CERT_DIR").get("DB").await.expect_err("a stranger");
    assert!(matches!(stranger, Error::Tls { .. }), "{stranger:?}");
    for forget in [false, true] {
        controlled.order("certs", json!({ "forget_old": forget })).await;
        client("SECRET_BROKER_CERT_DIR").get("DB").await.expect("the new certificate is good");
    }
    controlled.order("kill", json!({})).await;
    let gone = application.get("DB").await.expect_err("it was killed");
    assert!(matches!(gone, Error::Unreachable { .. }), "{gone:?}");
    controlled.order("start", json!({})).await;
    application.get("DB").await.expect("it serves again");
    let records = controlled.order("audit", json!({})).await;
    assert!(records["records"].as_array().is_some_and(|records| records.len() > 5));
}

async fn rotates(client: &Client, controlled: &Controlled) {
    for name in ["DB", "CACHE", "JWT"] {
        let mut watch = client.watch([name]);
        let first = watch.next().await.expect("an event").expect("a secret");
        let before = first.secret().expect("a secret").generation();
        let mut slowest = std::time::Duration::ZERO;
        for _ in 0..3 {
            let start = std::time::Instant::now();
            let generation = controlled.rotate(name).await;
            slowest = slowest.max(start.elapsed());
            assert!(generation > before);
            let event = tokio::time::timeout(PATIENCE, watch.next()).await.expect("in time");
            let event = event.expect("an event").expect("a secret");
            assert!(matches!(&event, Event::Rotated(_)), "{event:?}");
            let secret = event.secret().expect("a secret");
            assert_eq!(secret.generation(), generation);
            let previous = secret.previous().expect("the one before overlaps");
            if name == "JWT" {
                assert!(secret.field("next").is_some());
                assert_ne!(secret.field("value"), previous.field("value"));
                assert_eq!(secret.field("value"), previous.field("next"), "what was next signs");
            }
        }
        println!("{name} is rotated within {} ms", slowest.as_millis());
    }
}
