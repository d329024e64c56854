//! The engine in a world in memory, with paused time.

mod crashes;
mod fakes;
mod rules;

use std::time::Duration;

use jiff::Timestamp;

use self::fakes::secret;
use super::{DriveError, Driven, Engine, Wish};
use crate::domain::rotation::{Kind, Rotation, RotationId};

fn wish(kind: Kind) -> Wish {
    Wish { id: RotationId("r1".into()), kind, by: "ann".into(), reason: "due".into(), until: None }
}

/// Drives until nothing more happens by itself, through all waits.
async fn settle(engine: &Engine) {
    for _ in 0..10_000 {
        match engine.drive(&secret()).await {
            Ok(Driven::Waits(at) | Driven::Overlaps(at)) => wait_until(engine, at).await,
            Ok(Driven::Idle | Driven::Rests) => return,
            Err(DriveError::Claimed { until, .. }) => wait_until(engine, until).await,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("it never came to rest");
}

async fn wait_until(engine: &Engine, at: Timestamp) {
    let left = at.duration_since(engine.now());
    tokio::time::sleep(Duration::try_from(left).unwrap_or_default() + Duration::from_millis(1))
        .await;
}

/// The rotation that ended last, or else the one that is open.
async fn latest(engine: &Engine) -> Rotation {
    let book = engine.book(&secret()).await.unwrap();
    book.open.or_else(|| book.past.into_iter().next()).expect("a rotation")
}
