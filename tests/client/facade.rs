//! The client's verbs: typed errors, deadlines, and a watch that resumes.

use std::time::Duration;

use secret_broker_client::{Error, Event, Outcome, Reason, proto};

use crate::serving::Fixture;

#[tokio::test]
async fn a_secret_comes_with_its_fields_version_and_time_left() {
    let fixture = Fixture::new().await;
    fixture.broker.put("DB", 3, &[("username", "app"), ("password", "s3cret")]);
    let secret = fixture.client().get("DB").await.unwrap();
    assert_eq!(secret.text("password"), Some("s3cret"));
    assert_eq!((secret.version(), secret.generation()), ("v3", 3));
    assert!(secret.time_left().unwrap() > Duration::from_mins(1));
    assert!(!format!("{secret:?}").contains("s3cret"));
}

#[tokio::test]
async fn a_batch_gives_each_name_its_own_result() {
    let fixture = Fixture::new().await;
    fixture.broker.put("A", 1, &[("value", "a")]);
    let results = fixture.client().get_many(&["B", "A"]).await.unwrap();
    assert_eq!(results[0].0, "B");
    assert_eq!(results[0].1.as_ref().unwrap_err().reason(), Some(Reason::Denied));
    assert_eq!(results[1].1.as_ref().unwrap().text("value"), Some("a"));
}

#[tokio::test]
async fn a_list_follows_all_pages() {
    let fixture = Fixture::new().await;
    for name in ["A", "B", "C"] {
        fixture.broker.put(name, 1, &[]);
    }
    let found = fixture.client().list(None).await.unwrap();
    assert_eq!(found.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["A", "B", "C"]);
}

#[tokio::test]
async fn errors_carry_the_reason_of_the_broker() {
    let fixture = Fixture::new().await;
    let client = fixture.client();
    let denied = client.get("NONE").await.unwrap_err();
    assert_eq!(denied.reason(), Some(Reason::Denied));
    assert!(!denied.is_transient());
    let sealed = client.get("SEALED").await.unwrap_err();
    assert_eq!(sealed.reason(), Some(Reason::SourceSealed));
    assert_eq!(sealed.retry_after(), Some(Duration::from_millis(1500)));
    assert!(sealed.is_transient());
}

#[tokio::test]
async fn a_call_ends_by_its_deadline() {
    let fixture = Fixture::new().await;
    let hasty = fixture.client().with_deadline(Duration::from_millis(50));
    let late = hasty.get("SLOW").await.unwrap_err();
    assert!(matches!(late, Error::Deadline { .. }), "{late:?}");
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_named_in_the_error() {
    let mut fixture = Fixture::new().await;
    let client = fixture.client();
    fixture.serving = None;
    std::fs::remove_file(fixture.path("broker.sock")).unwrap();
    let gone = client.get("A").await.unwrap_err();
    assert!(matches!(gone, Error::Unreachable { .. }), "{gone:?}");
    assert!(gone.to_string().contains("broker.sock"), "{gone}");
}

#[tokio::test]
async fn a_report_reaches_the_broker() {
    let fixture = Fixture::new().await;
    fixture.broker.put("A", 4, &[]);
    let client = fixture.client();
    let secret = client.get("A").await.unwrap();
    assert_eq!(client.report(&secret, Outcome::Refused("no such user")).await.unwrap(), 4);
    fixture.broker.reported("A", 4, proto::Outcome::Refused).await;
}

#[tokio::test]
async fn a_watch_survives_a_restart_and_tells_no_version_twice() {
    let mut fixture = Fixture::new().await;
    fixture.broker.put("A", 1, &[("value", "1")]);
    fixture.broker.put("B", 1, &[("value", "1")]);
    let mut watch = fixture.client().watch(["A", "B"]);
    for name in ["A", "B"] {
        let event = watch.next().await.unwrap().unwrap();
        assert!(matches!(&event, Event::Current(secret) if secret.name() == name), "{event:?}");
    }
    fixture.serving = None;
    fixture.broker.unwatched().await;
    // Rotated while nobody serves it.
    fixture.broker.put("B", 2, &[("value", "2")]);
    fixture.restart().await;
    let event = watch.next().await.unwrap().unwrap();
    assert!(
        matches!(&event, Event::Rotated(secret) if (secret.name(), secret.generation()) == ("B", 2)),
        "{event:?}"
    );
    let resumed = fixture.broker.watches.borrow().last().cloned().unwrap();
    assert_eq!((resumed["A"], resumed["B"]), (1, 1));
    // Nothing of A came between: the next event is the next change.
    fixture.broker.put("A", 2, &[("value", "2")]);
    let event = watch.next().await.unwrap().unwrap();
    assert!(
        matches!(&event, Event::Rotated(secret) if (secret.name(), secret.generation()) == ("A", 2)),
        "{event:?}"
    );
}

#[tokio::test]
async fn a_watch_starts_after_what_is_held() {
    let fixture = Fixture::new().await;
    fixture.broker.put("A", 1, &[]);
    let client = fixture.client();
    let held = client.get("A").await.unwrap();
    let mut watch = client.watch(["A"]).holding([&held]);
    let broker = fixture.broker.clone();
    let (event, ()) = tokio::join!(watch.next(), async {
        broker.watched(1).await;
        broker.put("A", 2, &[]);
    });
    assert!(matches!(event.unwrap().unwrap(), Event::Rotated(secret) if secret.generation() == 2));
}

#[tokio::test]
async fn a_watch_that_can_never_work_ends_with_the_reason() {
    let fixture = Fixture::new().await;
    let mut watch = fixture.client().watch(["FORBIDDEN"]);
    let error = watch.next().await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::Denied));
    assert!(watch.next().await.is_none());
}
