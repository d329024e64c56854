//! Sidecars are told at once, and their word is counted once.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use secret_broker::{
    domain::rotation::RotationId,
    rotation::ports::Readers,
    server::operator::{
        FeedLimits,
        proto::{
            ReportAdoptionRequest, RotateRequest, WatchRotationsRequest, WatchRotationsResponse,
        },
    },
};
use tokio::task::JoinSet;
use tonic::{Code, Streaming, transport::Channel};

use crate::rig::{ANN, Rig, SIDECAR, feed, refused, until};

const DB: &str = "secret/data/db";
const STREAMS: usize = 200;

type Feed =
    secret_broker::server::operator::proto::rotation_feed_client::RotationFeedClient<Channel>;

fn watch(instance: &str) -> WatchRotationsRequest {
    WatchRotationsRequest {
        paths: vec![DB.into(), "secret/data/key".into(), "secret/data/unknown".into()],
        environment: "production".into(),
        colour: String::new(),
        instance: instance.into(),
    }
}

fn report(instance: &str, version: &str, adopted: bool) -> ReportAdoptionRequest {
    ReportAdoptionRequest {
        path: DB.into(),
        version: version.into(),
        instance: instance.into(),
        adopted,
        ..Default::default()
    }
}

/// An open stream that was confirmed.
async fn open(feed: &mut Feed, instance: &str) -> Streaming<WatchRotationsResponse> {
    let mut stream = feed.watch_rotations(watch(instance)).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap(), Some(WatchRotationsResponse::default()));
    stream
}

fn id(name: &str) -> RotationId {
    RotationId(name.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_connections_hear_of_a_rotation_within_a_second() {
    let rig = Rig::start().await;
    let mut streams = JoinSet::new();
    for n in 0..STREAMS {
        let mut feed = rig.sidecar(SIDECAR).await;
        let mut stream = open(&mut feed, &format!("pod-{n}")).await;
        streams.spawn(async move {
            let change = stream.message().await.unwrap().unwrap();
            drop(feed);
            (change, Instant::now())
        });
    }
    assert_eq!(rig.sidecars.connected(), STREAMS);
    let start = Instant::now();
    rig.sidecars.announce(DB, &id("r1"), None);
    let told = start.elapsed();
    let mut lags = Vec::new();
    for (change, at) in streams.join_all().await {
        assert_eq!((change.path.as_str(), change.rotation_id.as_str()), (DB, "r1"));
        lags.push(at - start);
    }
    lags.sort_unstable();
    let p99 = lags[STREAMS * 99 / 100];
    assert!(p99 < Duration::from_secs(1), "p99 {p99:?}");
    assert!(told < Duration::from_millis(100), "announcing took {told:?}");
    until("their streams are gone", || rig.sidecars.connected() == 0).await;
}

#[tokio::test]
async fn the_labels_of_a_rotation_are_told_as_they_move() {
    let mut rig = Rig::start().await;
    rig.drive().await;
    let mut feed = rig.sidecar(SIDECAR).await;
    let mut stream = open(&mut feed, "pod-1").await;
    let mut ann = rig.person(ANN).await;
    let rotate = RotateRequest { name: "DB".into(), ..Default::default() };
    let rotation = ann.rotate(rotate).await.unwrap().into_inner().rotation.unwrap();
    let change = stream.message().await.unwrap().unwrap();
    assert_eq!((change.path.as_str(), &change.rotation_id), (DB, &rotation.id));
}

#[tokio::test]
async fn sidecars_are_for_the_one_that_leads() {
    let rig = Rig::start().await;
    let mut feed = rig.sidecar(SIDECAR).await;
    let mut stream = open(&mut feed, "pod-1").await;
    rig.leading.send_replace(false);
    assert_eq!(stream.message().await.unwrap(), None, "the stream ends with the lead");
    let (code, why) = (Code::Unavailable, "NOT_LEADING");
    refused(feed.watch_rotations(watch("pod-1")).await, code, why);
    refused(feed.report_adoption(report("pod-1", "1", true)).await, code, why);
    rig.leading.send_replace(true);
    let mut stream = open(&mut feed, "pod-1").await;
    feed.report_adoption(report("pod-1", "1", true)).await.unwrap();
    assert_eq!(rig.sidecars.adoption(DB, 1).adopted, 1);
    // The lead was lost and taken again before anybody could see it.
    rig.sidecars.gather();
    assert_eq!(stream.message().await.unwrap(), None, "it has to come and say so again");
    assert_eq!(rig.sidecars.adoption(DB, 1).adopted, 0, "nobody said so to this leader");
}

#[tokio::test]
async fn a_slow_reader_gets_the_latest_word_on_each_place_once() {
    let rig = Rig::start().await;
    let mut feed = rig.sidecar(SIDECAR).await;
    let mut stream = feed.watch_rotations(watch("slow")).await.unwrap().into_inner();
    // What nobody may follow, or nobody has, is not told.
    for place in ["secret/data/key", "secret/data/unknown"] {
        rig.sidecars.announce(place, &id("other"), None);
    }
    let runtime = tokio::runtime::Handle::current();
    assert!(runtime.metrics().num_workers() == 1, "nothing else runs meanwhile");
    for n in 0..1000 {
        rig.sidecars.announce(DB, &id(&format!("r{n}")), None);
    }
    let mut told = Vec::new();
    while told.last().is_none_or(|last: &String| last != "r999") {
        let change = stream.message().await.unwrap().unwrap();
        if !change.path.is_empty() {
            assert_eq!(change.path, DB);
            told.push(change.rotation_id);
        }
    }
    assert!(told.len() <= 2, "{told:?}");
}

#[tokio::test]
async fn close_watching_is_told_to_those_who_come_later() {
    let rig = Rig::start().await;
    let until = Timestamp::now().checked_add(Duration::from_hours(24)).unwrap();
    rig.sidecars.announce(DB, &id("emergency"), Some(until));
    let mut feed = rig.sidecar(SIDECAR).await;
    let mut stream = open(&mut feed, "new").await;
    let change = stream.message().await.unwrap().unwrap();
    assert_eq!((change.path.as_str(), change.rotation_id.as_str()), (DB, "emergency"));
    assert_eq!(change.monitored_until.unwrap().seconds, until.as_second());
}

#[tokio::test]
async fn adoption_is_counted_once_a_sidecar_over_reconnects() {
    let rig = Rig::start().await;
    let counted = |version| {
        let adoption = rig.sidecars.adoption(DB, version);
        (adoption.sidecars, adoption.adopted)
    };
    let (mut one, mut two) = (rig.sidecar(SIDECAR).await, rig.sidecar(SIDECAR).await);
    let first = open(&mut one, "pod-1").await;
    let _second = open(&mut two, "pod-2").await;
    assert_eq!(counted(2), (2, 0));
    let mut changed = std::pin::pin!(rig.sidecars.changed());
    assert!(futures_util::poll!(&mut changed).is_pending());
    one.report_adoption(report("pod-1", "2", true)).await.unwrap();
    changed.await;
    assert_eq!(counted(2), (2, 1));
    drop((first, one));
    until("it is gone", || rig.sidecars.connected() == 1).await;
    assert_eq!(counted(2), (2, 1), "it adopted the version, so nothing waits for it");
    assert_eq!(counted(3), (2, 0), "it may come back with readers of version 2");
    let mut again = rig.sidecar(SIDECAR).await;
    let _first = open(&mut again, "pod-1").await;
    assert_eq!(counted(2), (2, 1));
    two.report_adoption(report("pod-2", "2", true)).await.unwrap();
    assert_eq!(counted(2), (2, 2));
}

#[tokio::test]
async fn one_that_left_for_good_is_forgotten_after_a_time() {
    let limits = FeedLimits { known_for: Duration::from_millis(300), ..feed() };
    let rig = Rig::with(limits).await;
    let mut feed = rig.sidecar(SIDECAR).await;
    let stream = open(&mut feed, "pod-1").await;
    drop((stream, feed));
    until("its stream ended", || rig.sidecars.connected() == 0).await;
    assert_eq!(rig.sidecars.adoption(DB, 2).sidecars, 1);
    until("it is forgotten", || rig.sidecars.adoption(DB, 2).sidecars == 0).await;
}

#[tokio::test]
async fn an_operator_that_just_started_waits_for_sidecars_to_come_back() {
    let gathering = Duration::from_millis(500);
    let rig = Rig::with(FeedLimits { gathering, ..feed() }).await;
    let mut sidecar = rig.sidecar(SIDECAR).await;
    sidecar.report_adoption(report("pod-1", "2", true)).await.unwrap();
    let all = || {
        let adoption = rig.sidecars.adoption(DB, 2);
        adoption.sidecars == adoption.adopted
    };
    assert!(!all(), "others may have adopted nothing");
    until("they had time to come back", all).await;
}

#[tokio::test]
async fn reports_of_applications_and_reads_are_kept() {
    let rig = Rig::start().await;
    let mut feed = rig.sidecar(SIDECAR).await;
    for _ in 0..2 {
        let request = ReportAdoptionRequest {
            refused: 3,
            worked: 5,
            reads: [("spiffe://test/app".to_owned(), 7)].into(),
            ..report("pod-1", "2", false)
        };
        feed.report_adoption(request).await.unwrap();
    }
    let adoption = rig.sidecars.adoption(DB, 2);
    assert_eq!((adoption.refused, adoption.worked), (3, 5), "the last word counts");
    let reads = rig.sidecars.reads();
    assert_eq!(reads.len(), 1);
    assert_eq!((&*reads[0].identity, reads[0].count), ("spiffe://test/app", 14));
    let record = rig.audit().pop().unwrap();
    assert_eq!((&record["outcome"], &record["reason"]), (&"reported".into(), &"SERVED".into()));
}

#[tokio::test]
async fn counters_of_reads_are_bounded() {
    let limits = FeedLimits { identities: 3, ..feed() };
    let rig = Rig::with(limits).await;
    let mut feed = rig.sidecar(SIDECAR).await;
    let reads = (0..10).map(|n| (format!("spiffe://test/app-{n}"), 1)).collect();
    let request = ReportAdoptionRequest { reads, ..report("pod-1", "2", false) };
    feed.report_adoption(request).await.unwrap();
    let reads = rig.sidecars.reads();
    assert_eq!(reads.len(), 4);
    assert_eq!((&*reads[0].identity, reads[0].count), ("(others)", 7));
}

#[tokio::test]
async fn streams_and_sidecars_are_bounded() {
    let limits = FeedLimits { streams: 2, sidecars: 2, ..feed() };
    let rig = Rig::with(limits).await;
    let mut feed = rig.sidecar(SIDECAR).await;
    let _one = open(&mut feed, "pod-1").await;
    let two = open(&mut feed, "pod-2").await;
    let (code, why) = (Code::ResourceExhausted, "LIMIT_EXCEEDED");
    refused(feed.watch_rotations(watch("pod-3")).await, code, why);
    drop(two);
    until("a stream ended", || rig.sidecars.connected() == 1).await;
    refused(feed.watch_rotations(watch("pod-3")).await, code, why);
    assert_eq!(rig.sidecars.adoption(DB, 2).sidecars, 3, "nobody believes that all are known");
    for instance in [String::new(), "x".repeat(513)] {
        let request = watch(&instance);
        refused(feed.watch_rotations(request).await, Code::InvalidArgument, "INVALID_REQUEST");
    }
}
