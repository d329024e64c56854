//! What every store promises: one suite, run over each of them by a [`Fixture`].

use std::{collections::HashSet, future::Future, sync::Arc, task::Poll, time::Duration};

use futures_util::{future::join_all, poll};
use secret_broker::{
    broker::ports::Origin,
    domain::{
        fault::{Fault, Reason},
        life::{Issued, Lease, Lifetime},
        secret::Fields,
    },
};

/// Stands in every value of every fixture; no fault may hold it.
pub(crate) const PLANTED: &str = "PLANTED-hunter2-PLANTED";
/// Longer than any store takes here.
const PATIENCE: Duration = Duration::from_secs(30);

/// One store under test.
#[async_trait::async_trait]
pub(crate) trait Fixture {
    /// Whether its values have leases.
    fn leased(&self) -> bool;
    /// A secret that exists, with a field whose value holds [`PLANTED`].
    fn origin(&self) -> Arc<dyn Origin>;
    /// Secrets that don't exist, each with what the fault has to name.
    fn missing(&self) -> Vec<(Arc<dyn Origin>, String)>;
    /// Secrets whose content the store can't make sense of; their content holds [`PLANTED`].
    fn broken(&self) -> Vec<Arc<dyn Origin>>;
    /// Turns the secret's value over at the store.
    async fn change(&self);
    /// Whether the store tells of changes by itself.
    fn hints(&self) -> bool;
}

/// Runs the whole suite.
pub(crate) async fn holds(fixture: &impl Fixture) {
    a_value_has_fields_and_a_version(fixture).await;
    a_second_fetch_gives_the_same_version_or_another_lease(fixture).await;
    many_fetch_at_once(fixture).await;
    a_dropped_fetch_leaves_the_store_usable(fixture).await;
    leases_are_renewed_and_revoked(fixture).await;
    what_is_missing_is_not_found(fixture).await;
    what_is_broken_is_told_without_its_content(fixture).await;
    a_change_is_seen(fixture).await;
}

async fn fetch(origin: &Arc<dyn Origin>) -> Issued {
    patiently(origin.fetch()).await.unwrap()
}

async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap()
}

fn lease(issued: &Issued) -> Lease {
    match &issued.lifetime {
        Lifetime::Leased { lease, ttl } => {
            assert!(!ttl.is_zero());
            lease.clone()
        }
        other => panic!("no lease: {other:?}"),
    }
}

fn shows_nothing(fault: &Fault) {
    for text in [fault.to_string(), format!("{fault:?}")] {
        assert!(!text.contains("hunter2"), "a fault holds a value");
    }
}

fn same(a: &Fields, b: &Fields) -> bool {
    a == b
}

async fn a_value_has_fields_and_a_version(fixture: &impl Fixture) {
    let issued = fetch(&fixture.origin()).await;
    let planted = |value: &[u8]| value.windows(PLANTED.len()).any(|w| w == PLANTED.as_bytes());
    assert!(issued.fields.iter().any(|(_, value)| planted(value.expose())));
    assert!(!issued.version.0.is_empty());
    assert!(!issued.version.0.contains("hunter2"), "a version shows the value");
    assert!(!format!("{issued:?}").contains("hunter2"), "Debug shows the value");
    assert_eq!(matches!(issued.lifetime, Lifetime::Leased { .. }), fixture.leased());
}

async fn a_second_fetch_gives_the_same_version_or_another_lease(fixture: &impl Fixture) {
    let origin = fixture.origin();
    let (first, second) = (fetch(&origin).await, fetch(&origin).await);
    if fixture.leased() {
        assert_ne!(lease(&first).id, lease(&second).id);
        assert_ne!(first.version, second.version);
        assert!(!same(&first.fields, &second.fields), "each lease has a credential of its own");
    } else {
        assert_eq!(first.version, second.version);
        assert!(same(&first.fields, &second.fields));
    }
}

async fn many_fetch_at_once(fixture: &impl Fixture) {
    const CALLERS: usize = 100;
    let origin = fixture.origin();
    let all = patiently(join_all((0..CALLERS).map(|_| origin.fetch()))).await;
    let versions = all.into_iter().map(|issued| issued.unwrap().version).collect::<HashSet<_>>();
    assert_eq!(versions.len(), if fixture.leased() { CALLERS } else { 1 });
}

/// Drops a fetch after every number of polls that it takes.
async fn a_dropped_fetch_leaves_the_store_usable(fixture: &impl Fixture) {
    let origin = fixture.origin();
    for polls in 0.. {
        let mut fetch = origin.fetch();
        let mut done = false;
        for _ in 0..polls {
            done = matches!(poll!(&mut fetch), Poll::Ready(_));
            if done {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(fetch);
        if done || polls > 50 {
            break;
        }
    }
    fetch(&origin).await;
}

async fn leases_are_renewed_and_revoked(fixture: &impl Fixture) {
    if !fixture.leased() {
        return;
    }
    let origin = fixture.origin();
    let lease = lease(&fetch(&origin).await);
    let renewed = patiently(origin.renew(&lease)).await.unwrap();
    assert!(!renewed.ttl.is_zero());
    patiently(origin.revoke(&lease)).await.unwrap();
    let lost = patiently(origin.renew(&lease)).await.unwrap_err();
    assert_eq!(lost.reason, Reason::LeaseLost, "{lost}");
    shows_nothing(&lost);
    patiently(origin.revoke(&lease)).await.unwrap();
    let unknown = Lease { id: "never/given".into(), renewable: true };
    let lost = patiently(origin.renew(&unknown)).await.unwrap_err();
    assert_eq!(lost.reason, Reason::LeaseLost, "{lost}");
}

async fn what_is_missing_is_not_found(fixture: &impl Fixture) {
    for (origin, named) in fixture.missing() {
        let fault = patiently(origin.fetch()).await.unwrap_err();
        assert_eq!(fault.reason, Reason::NotFound, "{fault}");
        assert!(fault.detail.contains(&named), "{fault} does not name {named}");
        shows_nothing(&fault);
    }
}

async fn what_is_broken_is_told_without_its_content(fixture: &impl Fixture) {
    for origin in fixture.broken() {
        let fault = patiently(origin.fetch()).await.unwrap_err();
        assert_eq!(fault.reason, Reason::Invalid, "{fault}");
        shows_nothing(&fault);
    }
}

async fn a_change_is_seen(fixture: &impl Fixture) {
    let origin = fixture.origin();
    let before = fetch(&origin).await;
    if fixture.hints() {
        let mut hint = origin.changed();
        assert!(poll!(&mut hint).is_pending(), "a hint without a change");
        fixture.change().await;
        patiently(hint).await;
    } else {
        fixture.change().await;
    }
    let after = fetch(&origin).await;
    assert_ne!(before.version, after.version);
    assert!(!same(&before.fields, &after.fields));
}
