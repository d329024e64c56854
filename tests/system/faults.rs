//! Faults: Vault stopped, sealed, slow, garbled, forgetful; and the program killed.

use std::{fmt::Write, time::Duration};

use secret_broker_client::{Event, Freshness, Reason};
use serde_json::json;

use crate::{
    main_job::{Rig, next_event, sections},
    support::{
        broker::Broker,
        free_port,
        proxy::{Fault, Proxy},
        until,
    },
};

#[tokio::test]
async fn values_are_served_on_and_marked_while_vault_is_stopped_and_recover_after_it() {
    let mut rig = Rig::start("6s", "1h").await;
    let broker = rig.broker().await;
    let client = broker.client();
    let mut watch = client.watch(["DB"]);
    next_event(&mut watch, |event| matches!(event, Event::Current(_))).await;
    rig.vault.stop();
    let stale = next_event(&mut watch, |event| matches!(event, Event::Stale(_))).await;
    assert!(matches!(
        stale.secret().map(secret_broker_client::Secret::freshness),
        Some(Freshness::Stale { reason: Reason::SourceUnavailable, .. })
    ));
    assert!(client.get("DB").await.is_ok(), "the value is served on");
    rig.vault.restart().await;
    let back =
        next_event(&mut watch, |event| matches!(event, Event::Recovered(_) | Event::Rotated(_)))
            .await;
    assert!(rig.accepts(back.secret().expect("a secret")).await);
}

#[tokio::test]
async fn nothing_is_served_past_its_end_and_the_reason_is_told() {
    let mut rig = Rig::start("3s", "1h").await;
    let broker = rig.broker().await;
    let client = broker.client();
    client.get("DB").await.expect("a secret");
    rig.vault.stop();
    let error = until("the value ends", async || client.get("DB").await.err()).await;
    assert_eq!(error.reason(), Some(Reason::SourceUnavailable), "{error}");
    rig.vault.restart().await;
    until("a new one is served", async || client.get("DB").await.ok()).await;
}

#[tokio::test]
async fn a_sealed_vault_is_told_as_such_and_recovers() {
    let rig = Rig::start("1h", "2h").await;
    rig.vault.seal().await;
    let broker = rig.broker().await;
    let error = broker.client().get("DB").await.expect_err("Vault is sealed");
    assert_eq!(error.reason(), Some(Reason::SourceSealed), "{error}");
    rig.vault.unseal().await;
    until("it recovers", async || broker.client().get("DB").await.ok()).await;
}

#[tokio::test]
async fn answers_that_are_late_cut_or_garbled_are_told_and_mended() {
    let rig = Rig::start("1h", "2h").await;
    for (fault, reasons) in [
        (Fault::Delay(Duration::from_secs(5)), vec![Reason::SourceTimeout]),
        (Fault::Cut(60), vec![Reason::SourceUnavailable, Reason::SourceInvalid]),
        (Fault::Garbage, vec![Reason::SourceInvalid]),
        (Fault::Refuse, vec![Reason::SourceUnavailable]),
        (Fault::Status("database", 500), vec![Reason::SourceUnavailable]),
        (Fault::Status("database", 412), vec![Reason::SourceUnavailable]),
        (Fault::Status("database", 429), vec![Reason::SourceThrottled]),
        (Fault::Status("database", 473), vec![Reason::SourceSealed]),
        (Fault::Status("database", 503), vec![Reason::SourceSealed]),
        (Fault::Status("database", 403), vec![Reason::SourceForbidden]),
    ] {
        let proxy = Proxy::start(rig.vault.port()).await;
        proxy.set(fault.clone());
        let broker = Broker::start(&sections(&proxy.address()), &rig.environment()).await;
        let error = broker.client().get("DB").await.expect_err("a fault");
        let reason = error.reason().expect("a reason");
        assert!(reasons.contains(&reason), "{fault:?}: {error}");
        assert!(!broker.log().contains("planted by the proxy"), "what Vault says is not logged");
        proxy.set(Fault::Pass);
        until("it recovers", async || broker.client().get("DB").await.ok()).await;
    }
}

#[tokio::test]
async fn startup_and_readiness_tell_the_truth_and_why() {
    let rig = Rig::start("4s", "1h").await;
    let proxy = Proxy::start(rig.vault.port()).await;
    proxy.set(Fault::Status("database", 503));
    let port = free_port();
    let mut broker = Broker::prepare(&sections(&proxy.address()), &rig.environment());
    let text = std::fs::read_to_string(broker.path("config.toml")).unwrap();
    let with_http = format!("[telemetry]\nhttp = \"127.0.0.1:{port}\"");
    broker.write(&text.replace("[telemetry]", &with_http));
    broker.run();
    broker.wait().await;
    let probe = async |path: &str| {
        let answer = reqwest::get(format!("http://127.0.0.1:{port}/{path}")).await;
        let answer = answer.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a body"))
    };
    for path in ["startupz", "readyz"] {
        let (status, why) = probe(path).await;
        assert!(status == 503 && why.contains("not fetched yet"), "{path}: {status} {why}");
    }
    assert_eq!(probe("livez").await.0, 200, "it lives, and a restart would mend nothing");
    proxy.set(Fault::Pass);
    until("it has started and is ready", async || {
        let both = (probe("startupz").await.0, probe("readyz").await.0);
        (both == (200, 200)).then_some(())
    })
    .await;
    proxy.set(Fault::Refuse);
    let why = until("it is not ready once a secret has ended", async || {
        let (status, why) = probe("readyz").await;
        (status == 503).then_some(why)
    })
    .await;
    assert!(why.contains("a secret has ended") && !why.contains("DB"), "{why}");
    let (status, why) = broker.page("/readyz").await;
    assert!(status == 503 && why.contains("\"DB\""), "observers are told which: {status} {why}");
    until("the log says so too", async || broker.log().contains("not ready").then_some(())).await;
    assert_eq!(probe("startupz").await.0, 200, "what has started stays started");
    proxy.set(Fault::Pass);
    until("it is ready again", async || (probe("readyz").await.0 == 200).then_some(())).await;
}

#[tokio::test]
async fn a_standby_that_redirects_is_followed_to_the_active_server() {
    let rig = Rig::start("3s", "1h").await;
    let standby = Proxy::start(rig.vault.port()).await;
    standby.set(Fault::Redirect(rig.vault.port()));
    let broker = Broker::start(&sections(&standby.address()), &rig.environment()).await;
    let mut watch = broker.client().watch(["DB"]);
    let renewed = next_event(&mut watch, |event| matches!(event, Event::Renewed(_))).await;
    assert!(rig.accepts(renewed.secret().expect("a secret")).await);
    let calls = standby.take_calls();
    for path in ["auth/approle/login", "database/creds/app", "sys/leases/renew"] {
        assert!(calls.contains_key(path), "{path} was redirected: {calls:?}");
    }
}

#[tokio::test]
async fn no_more_calls_are_in_flight_than_allowed() {
    let rig = Rig::start("1h", "2h").await;
    let proxy = Proxy::start(rig.vault.port()).await;
    proxy.set(Fault::Delay(Duration::from_millis(100)));
    let mut text = sections(&proxy.address());
    text = text.replace("[vault.budget]\n", "[vault.budget]\nin_flight = 3\n");
    for i in 0..20 {
        let _ = writeln!(
            text,
            "[secrets.DB{i}]\ncategory = \"database\"\nstore = \"vault\"\nengine = \"database\"\nrole = \"app\""
        );
    }
    let broker = Broker::start(&text, &rig.environment()).await;
    let client = broker.client();
    let names = (0..20).map(|i| format!("DB{i}")).collect::<Vec<_>>();
    until("all are there", async || {
        client.get_many(&names).await.ok().filter(|all| all.iter().all(|(_, s)| s.is_ok()))
    })
    .await;
    assert_eq!(proxy.most_at_once(), 3);
}

#[tokio::test]
async fn one_forbidden_path_costs_no_login_and_harms_no_other_secret() {
    let rig = Rig::start("1h", "2h").await;
    let proxy = Proxy::start(rig.vault.port()).await;
    let more = "[secrets.FORBIDDEN]\ncategory = \"x\"\nstore = \"vault\"\nengine = \"kv2\"\nmount = \"private\"\npath = \"a\"\nprefetch = false\n";
    let broker =
        Broker::start(&format!("{}{more}", sections(&proxy.address())), &rig.environment()).await;
    let client = broker.client();
    client.get("DB").await.expect("a secret");
    proxy.take_calls();
    for _ in 0..50 {
        let error = client.get("FORBIDDEN").await.expect_err("forbidden");
        assert_eq!(error.reason(), Some(Reason::SourceForbidden));
    }
    assert!(client.get("DB").await.is_ok());
    let calls = proxy.take_calls();
    assert_eq!(calls.get("auth/approle/login"), None, "{calls:?}");
    assert!(calls.values().sum::<usize>() <= 10, "{calls:?}");
}

#[tokio::test]
async fn a_token_lost_behind_its_back_costs_one_login_and_every_secret_is_replaced() {
    let rig = Rig::start("1h", "2h").await;
    let proxy = Proxy::start(rig.vault.port()).await;
    let mut text = sections(&proxy.address());
    for i in 0..20 {
        let _ = writeln!(
            text,
            "[secrets.DB{i}]\ncategory = \"database\"\nstore = \"vault\"\nengine = \"database\"\nrole = \"app\""
        );
    }
    let broker = Broker::start(&text, &rig.environment()).await;
    let client = broker.client();
    let names = (0..20).map(|i| format!("DB{i}")).collect::<Vec<_>>();
    until("all are there", async || {
        client.get_many(&names).await.ok().filter(|all| all.iter().all(|(_, s)| s.is_ok()))
    })
    .await;
    let accessors = rig.vault.request("LIST", "auth/token/accessors", None).await.1;
    proxy.take_calls();
    for accessor in accessors["data"]["keys"].as_array().expect("accessors") {
        let found =
            rig.vault.write("auth/token/lookup-accessor", json!({ "accessor": accessor })).await;
        if found["data"]["path"] == "auth/approle/login" {
            rig.vault.write("auth/token/revoke-accessor", json!({ "accessor": accessor })).await;
        }
    }
    // An application that is refused tells so, and the broker finds out what happened.
    let refused = client.get("DB0").await.expect("a secret");
    client
        .report(&refused, secret_broker_client::Outcome::Refused("login failed"))
        .await
        .expect("a report");
    until("every secret works again", async || {
        let all = client.get_many(&names).await.ok()?;
        for (_, secret) in all {
            if !rig.accepts(&secret.ok()?).await {
                return None;
            }
        }
        Some(())
    })
    .await;
    let calls = proxy.take_calls();
    assert_eq!(calls.get("auth/approle/login"), Some(&1), "{calls:?}");
}
