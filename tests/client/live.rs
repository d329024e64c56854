//! Live handles: one a name, hooks before the acknowledgement, an end with the last handle.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use secret_broker_client::{Error, Secret, Standing, proto::Outcome};

use crate::serving::Fixture;

#[tokio::test]
async fn handles_of_one_name_share_one_watch_that_ends_with_the_last() {
    let fixture = Fixture::new().await;
    fixture.broker.put("DB", 1, &[("password", "one")]);
    let client = fixture.client();
    let live = client.live("DB").await.unwrap();
    let same = client.clone().live("DB").await.unwrap();
    assert_eq!(fixture.broker.watches.borrow().len(), 1);
    fixture.broker.put("DB", 2, &[("password", "two")]);
    assert_eq!(live.after(1).await.text("password"), Some("two"));
    assert_eq!(same.with(Secret::generation), 2);
    drop(live);
    fixture.broker.put("DB", 3, &[]);
    assert_eq!(same.after(2).await.generation(), 3);
    drop(same);
    fixture.broker.unwatched().await;
}

#[tokio::test]
async fn a_version_is_acknowledged_when_all_hooks_took_it_over() {
    let fixture = Fixture::new().await;
    fixture.broker.put("DB", 1, &[]);
    let live = fixture.client().live("DB").await.unwrap();
    let fails = Arc::new(AtomicBool::new(true));
    let failing = Arc::clone(&fails);
    live.on_change(|_| async { Ok(()) });
    live.on_change(move |_| {
        let fails = failing.load(Ordering::Relaxed);
        async move { if fails { Err("it can't be used yet".into()) } else { Ok(()) } }
    });
    fixture.broker.put("DB", 2, &[]);
    live.after(1).await;
    fails.store(false, Ordering::Relaxed);
    fixture.broker.put("DB", 3, &[]);
    fixture.broker.reported("DB", 3, Outcome::Applied).await;
    let reports = fixture.broker.reports.borrow().clone();
    assert!(reports.iter().all(|(_, generation, _)| *generation == 3), "{reports:?}");
}

#[tokio::test]
async fn a_hook_that_panics_harms_nobody_else() {
    let fixture = Fixture::new().await;
    fixture.broker.put("DB", 1, &[]);
    let live = fixture.client().live("DB").await.unwrap();
    let panics = live.on_change(|_| async { panic!("a hook's mistake") });
    fixture.broker.put("DB", 2, &[]);
    assert_eq!(live.after(1).await.generation(), 2);
    panics.remove();
    fixture.broker.put("DB", 3, &[]);
    fixture.broker.reported("DB", 3, Outcome::Applied).await;
    assert_eq!(fixture.broker.reports.borrow().len(), 1);
}

#[tokio::test]
async fn an_application_may_acknowledge_by_itself() {
    let fixture = Fixture::new().await;
    fixture.broker.put("DB", 1, &[]);
    let client = fixture.client();
    let live = client.live("DB").without_reports().await.unwrap();
    fixture.broker.put("DB", 2, &[]);
    let second = live.after(1).await;
    client.report(&second, secret_broker_client::Outcome::Worked).await.unwrap();
    fixture.broker.put("DB", 3, &[]);
    live.after(2).await;
    let reports = fixture.broker.reports.borrow().clone();
    assert_eq!(reports, [("DB".to_owned(), 2, Outcome::Worked.into())]);
}

#[tokio::test]
async fn a_handle_keeps_its_value_while_the_broker_is_away_and_prints_none() {
    let mut fixture = Fixture::new().await;
    fixture.broker.put("DB", 1, &[("password", "hunter2")]);
    let live = fixture.client().live("DB").await.unwrap();
    fixture.serving = None;
    fixture.broker.unwatched().await;
    assert_eq!(live.current().text("password"), Some("hunter2"));
    assert!(matches!(live.standing(), Standing::Served));
    assert!(!format!("{live:?}").contains("hunter2"));
    fixture.broker.put("DB", 2, &[("password", "hunter3")]);
    fixture.restart().await;
    assert_eq!(live.after(1).await.text("password"), Some("hunter3"));
}

#[tokio::test]
async fn a_first_value_that_does_not_come_is_told_by_the_deadline() {
    let fixture = Fixture::new().await;
    let client = fixture.client();
    let late = client.live("NOBODY_HAS_IT").deadline(Duration::from_millis(50)).await;
    assert!(matches!(late, Err(Error::Deadline { .. })), "{late:?}");
    let denied = client.live("FORBIDDEN").await.unwrap_err();
    assert!(!denied.is_transient(), "{denied:?}");
}
