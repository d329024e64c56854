//! What every place of versions promises the operator: one suite, run over each of them.

use secret_broker::{
    domain::{
        fault::Reason,
        labels::{Audience, Labels},
        secret::{Fields, SecretValue},
    },
    rotation::ports::Versions,
};

/// Stands in every value; no fault may hold it.
pub const PLANTED: &str = "PLANTED-hunter2-PLANTED";

/// A value of two fields that tells its number.
pub fn value(number: u64) -> Fields {
    let field = |name: &str, text: String| (name.to_owned(), SecretValue::new(text));
    [field("username", format!("user-{number}")), field("password", format!("{PLANTED}-{number}"))]
        .into_iter()
        .collect()
}

/// Runs the whole suite over a place that is empty.
pub async fn hold(versions: &dyn Versions) {
    nothing_is_there_at_first(versions).await;
    versions_count_up_and_are_kept(versions).await;
    of_two_that_append_at_once_one_does(versions).await;
    labels_are_replaced_whole(versions).await;
    a_lower_epoch_moves_no_label(versions).await;
    what_a_label_names_and_what_came_last_are_kept_however_many_follow(versions).await;
}

async fn nothing_is_there_at_first(versions: &dyn Versions) {
    assert_eq!(versions.latest().await.unwrap(), 0);
    assert!(versions.labels().await.unwrap().is_empty());
    assert_eq!(versions.read(1).await.unwrap_err().reason, Reason::NotFound);
}

async fn versions_count_up_and_are_kept(versions: &dyn Versions) {
    for number in 1..=3 {
        assert_eq!(versions.append(&value(number), number - 1).await.unwrap(), number);
        assert_eq!(versions.latest().await.unwrap(), number);
    }
    for number in 1..=3 {
        assert_eq!(*versions.read(number).await.unwrap(), value(number));
    }
    let stale = versions.append(&value(9), 1).await.unwrap_err();
    assert_eq!(stale.reason, Reason::Conflict);
    assert!(!format!("{stale:?} {stale}").contains("hunter2"));
    assert_eq!(versions.latest().await.unwrap(), 3);
}

async fn of_two_that_append_at_once_one_does(versions: &dyn Versions) {
    let (four, other) = (value(4), value(40));
    let (a, b) = tokio::join!(versions.append(&four, 3), versions.append(&other, 3));
    assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
    let stored = versions.read(4).await.unwrap();
    assert_eq!(*stored, if a.is_ok() { four } else { other });
    let refused = a.err().or(b.err()).unwrap();
    assert_eq!(refused.reason, Reason::Conflict, "{refused}");
}

async fn labels_are_replaced_whole(versions: &dyn Versions) {
    let mut labels = Labels { current: Some(3), epoch: 5, ..Labels::default() };
    labels.rotation = Some("20260101T000000Z-00000000".to_owned());
    labels.hold(4);
    labels.promote(4, &Audience::Environment("staging".to_owned()), None);
    let colour =
        Audience::Colour { environment: "production".to_owned(), colour: "green".to_owned() };
    labels.promote(4, &colour, None);
    versions.label(&labels).await.unwrap();
    assert_eq!(versions.labels().await.unwrap(), labels);
    let until = "2030-01-01T00:00:00Z".parse().unwrap();
    labels.promote(4, &Audience::Everyone, Some(until));
    labels.epoch = 6;
    versions.label(&labels).await.unwrap();
    assert_eq!(versions.labels().await.unwrap(), labels);
}

async fn a_lower_epoch_moves_no_label(versions: &dyn Versions) {
    let before = versions.labels().await.unwrap();
    let late = Labels { current: Some(1), epoch: 5, ..Labels::default() };
    assert_eq!(versions.label(&late).await.unwrap_err().reason, Reason::Conflict);
    assert_eq!(versions.labels().await.unwrap(), before);
}

async fn what_a_label_names_and_what_came_last_are_kept_however_many_follow(
    versions: &dyn Versions,
) {
    let labels = Labels { current: Some(3), epoch: 7, ..Labels::default() };
    versions.label(&labels).await.unwrap();
    for number in 5..=24 {
        versions.append(&value(number), number - 1).await.unwrap();
    }
    for number in (15..=24).chain([3]) {
        assert_eq!(*versions.read(number).await.unwrap(), value(number));
    }
    assert_eq!(versions.labels().await.unwrap(), labels);
}
