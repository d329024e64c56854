//! How the broker ends: in order, with its callers told.

use std::time::Duration;

use secret_broker_client::{Event, Reason};

use crate::rig::Rig;

#[tokio::test]
async fn a_broker_that_stops_ends_watches_and_leaves_with_success() {
    let mut rig = Rig::start().await;
    let caller = rig.caller();
    let client = caller.client();
    let mut watch = client.watch(["KEY"]);
    let first = watch.next().await.unwrap().unwrap();
    assert!(matches!(first, Event::Current(_)));
    let begun = std::time::Instant::now();
    assert_eq!(rig.broker.terminate().await, Some(0));
    assert!(begun.elapsed() < Duration::from_secs(10), "it does not wait for streams to end");
    assert!(caller.get().await.is_err(), "nobody listens any more");
    assert!(!rig.broker.path("broker.sock").exists(), "the socket is gone");
}

#[tokio::test]
async fn calls_in_flight_when_it_stops_are_answered() {
    let mut rig = Rig::start().await;
    let caller = rig.caller();
    let client = caller.client();
    client.get("KEY").await.unwrap();
    let calls = (0..200).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { client.get("KEY").await })
    });
    let calls = calls.collect::<Vec<_>>();
    tokio::task::yield_now().await;
    assert_eq!(rig.broker.terminate().await, Some(0));
    for call in calls {
        match call.await.unwrap() {
            Ok(secret) => assert_eq!(secret.text("value"), Some("first")),
            // Later ones are told that they may ask elsewhere or again, never cut without a word.
            Err(error) => {
                let told = error.is_transient() || error.reason() == Some(Reason::ShuttingDown);
                assert!(told, "{error}");
            }
        }
    }
}
