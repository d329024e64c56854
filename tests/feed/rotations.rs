//! From a promotion to the application, and from the application back to the operator.

use std::time::{Duration, Instant};

use secret_broker_client::Outcome;
use serde_json::json;

use crate::{
    rig::{PATH, Rig, arrives},
    support::until,
};

const SECOND: Duration = Duration::from_secs(1);
const START: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_promotion_reaches_the_watch_stream_within_a_second_and_its_adoption_the_operator() {
    let rig = Rig::start().await;
    let sidecar = rig.sidecar("1h").await;
    let client = sidecar.client();
    let mut watch = client.watch(["JWT_SECRET"]);
    let first = arrives(&mut watch, "1", START).await;
    let report = client.report(first.secret().expect("a secret"), Outcome::Worked).await;
    report.expect("a report");
    rig.operator.watched(1).await;
    let request = rig.operator.heard().watches[0].clone();
    assert_eq!(request.paths, [PATH]);
    assert_eq!((&*request.environment, &*request.colour), ("production", "green"));
    let known = rig.operator.reported("the first version", |r| r.adopted && r.worked == 1).await;
    assert_eq!((&*known.path, &*known.version), (PATH, "1"));
    assert_eq!(known.instance, request.instance);
    for number in 2..6 {
        let version = number.to_string();
        rig.promote(number).await;
        let told = Instant::now();
        rig.operator.announce(PATH, None);
        let event = arrives(&mut watch, &version, SECOND).await;
        let took = told.elapsed();
        let secret = event.secret().expect("a secret");
        assert_eq!(secret.text("value"), Some(&*format!("value {number}")));
        let previous = secret.previous().expect("the version before is accepted");
        assert_eq!(previous.version(), (number - 1).to_string());
        rig.operator
            .reported("it is not adopted yet", |r| r.version == version && !r.adopted)
            .await;
        client.report(secret, Outcome::Worked).await.expect("a report");
        let report =
            rig.operator.reported("it is adopted", |r| r.version == version && r.adopted).await;
        assert_eq!((report.worked, report.refused), (1, 0));
        println!("version {number} arrived after {took:?}");
    }
    let read = client.get("JWT_SECRET").await.expect("a secret");
    assert!(read.previous().is_some(), "adopted or not, it is accepted until the label goes");
    client.report(&read, Outcome::Refused("planted")).await.expect("a report");
    let report = rig.operator.reported("it was refused", |r| r.refused == 1).await;
    let reads: u64 = report.reads.values().sum();
    assert!(
        reads >= 1 && report.reads.keys().all(|who| who.starts_with("unix:uid=")),
        "{report:?}"
    );
    rig.label(json!({ "current": "5" })).await;
    rig.operator.announce(PATH, None);
    until("the version before was withdrawn", async || {
        client.get("JWT_SECRET").await.ok()?.previous().is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_the_operator_a_sidecar_is_ready_and_finds_a_promotion_by_polling() {
    let mut rig = Rig::start().await;
    rig.operator.stop().await;
    let sidecar = rig.sidecar("2s").await;
    let mut watch = sidecar.client().watch(["JWT_SECRET"]);
    arrives(&mut watch, "1", START).await;
    for number in 2..5 {
        rig.promote(number).await;
        arrives(&mut watch, &number.to_string(), SECOND * 2 + SECOND).await;
    }
    assert!(!is_connected(&sidecar).await);
    assert_eq!(sidecar.log().matches("the operator can't be heard").count(), 1, "told once");
}

#[tokio::test]
async fn what_was_missed_while_the_stream_was_down_is_found_when_it_opens_again() {
    let mut rig = Rig::start().await;
    let sidecar = rig.sidecar("1h").await;
    let mut watch = sidecar.client().watch(["JWT_SECRET"]);
    arrives(&mut watch, "1", START).await;
    rig.operator.watched(1).await;
    rig.operator.reported("the first version", |r| r.version == "1").await;
    rig.operator.stop().await;
    until("the sidecar knows", async || (!is_connected(&sidecar).await).then_some(())).await;
    rig.promote(2).await;
    rig.operator.heard().reports.clear();
    rig.operator.restart().await;
    arrives(&mut watch, "2", START).await;
    rig.operator.reported("what is served is told again", |r| r.version == "2").await;
    assert!(is_connected(&sidecar).await);
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_the_operator_without_a_restart() {
    let rig = Rig::start().await;
    let sidecar = rig.sidecar("1h").await;
    rig.operator.watched(1).await;
    rig.certify(&sidecar);
    let other = async || {
        let heard = rig.operator.heard();
        (heard.certificates.last() != heard.certificates.first()).then_some(())
    };
    until("another certificate is shown", other).await;
    rig.promote(2).await;
    rig.operator.announce(PATH, None);
    let mut watch = sidecar.client().watch(["JWT_SECRET"]);
    arrives(&mut watch, "2", START).await;
}

#[tokio::test]
async fn accesses_are_marked_and_counted_for_as_long_as_the_operator_says() {
    let rig = Rig::start().await;
    let sidecar = rig.sidecar("1h").await;
    let client = sidecar.client();
    client.get("JWT_SECRET").await.expect("a secret");
    rig.operator.watched(1).await;
    let in_an_hour = jiff::Timestamp::now().as_second() + 3600;
    let until_then = prost_types::Timestamp { seconds: in_an_hour, nanos: 0 };
    rig.operator.announce(PATH, Some(until_then));
    until("an access is marked", async || {
        client.get("JWT_SECRET").await.expect("a secret");
        (sidecar.audit().last()?["monitored"] == true).then_some(())
    })
    .await;
    let page = metrics(&sidecar).await;
    let counted = page.lines().any(|line| {
        line.starts_with(
            "secret_broker_monitored_accesses_total{secret=\"JWT_SECRET\",identity=\"unix:uid=",
        )
    });
    assert!(counted, "{page}");
    assert!(sidecar.audit()[0].get("monitored").is_none(), "it was not before");
    rig.operator.announce(PATH, None);
    until("an access is marked no more", async || {
        client.get("JWT_SECRET").await.expect("a secret");
        sidecar.audit().last()?.get("monitored").is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn another_catalogue_is_told_to_the_operator() {
    let rig = Rig::start().await;
    let sidecar = rig.sidecar("1h").await;
    rig.operator.watched(1).await;
    let text = std::fs::read_to_string(sidecar.path("config.toml")).expect("the configuration");
    let more = "[secrets.OTHER]\ncategory = \"application\"\nstore = \"vault\"\nengine = \"kv2\"\npath = \"shop/other\"\nprefetch = false\n";
    std::fs::write(sidecar.path("config.toml"), format!("{text}{more}")).expect("it is written");
    rig.operator.watched(2).await;
    let paths = rig.operator.heard().watches[1].paths.clone();
    assert_eq!(paths, [PATH, "secret/data/shop/other"]);
}

/// Whether the sidecar says that the operator's stream is open.
async fn is_connected(sidecar: &crate::support::broker::Broker) -> bool {
    let page = metrics(sidecar).await;
    let line = page.lines().find(|line| line.starts_with("secret_broker_operator_connected "));
    line.expect("the metric") == "secret_broker_operator_connected 1"
}

/// The page of metrics, over the socket.
async fn metrics(sidecar: &crate::support::broker::Broker) -> String {
    let socket = sidecar.path("broker.sock");
    let stream = tokio::net::UnixStream::connect(socket).await.expect("a connection");
    let stream = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), stream)
            .await
            .expect("HTTP/2");
    tokio::spawn(connection);
    let request = hyper::Request::get("http://broker/metrics")
        .body(http_body_util::Empty::<prost::bytes::Bytes>::new())
        .expect("a request");
    let answer = sender.send_request(request).await.expect("an answer");
    let body = http_body_util::BodyExt::collect(answer.into_body()).await.expect("a body");
    String::from_utf8(body.to_bytes().to_vec()).expect("text")
}
