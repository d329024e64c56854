//! What readers see of a secret: an immutable picture, replaced whole at each change.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use jiff::{SignedDuration, Timestamp};
use prost::bytes::Bytes;

use crate::domain::{
    life::{Held, Overlap, View},
    secret::Generation,
    time::Moment,
};

/// The state of a secret at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// What the table of its life says.
    pub view: View,
    /// Counts the snapshots of this secret.
    pub sequence: u64,
    /// The sequence of the latest change that watches were told of.
    pub(super) announced: u64,
    /// When it was published, by both clocks.
    published: (Moment, Timestamp),
    /// The encoded form that the edge keeps here for all readers.
    pub rendering: ArcSwapOption<Rendering>,
}

/// An encoded form and the second, counted from publication, that its relative times hold for.
#[derive(Debug)]
pub struct Rendering {
    /// Whole seconds from publication.
    pub second: u64,
    /// The encoded secret; wiped when the last reader is done.
    pub secret: Bytes,
    /// The same as a whole reply, framing included.
    pub reply: Bytes,
}

impl Snapshot {
    pub(super) fn new(
        view: View,
        sequence: u64,
        announced: u64,
        published: (Moment, Timestamp),
    ) -> Self {
        Self { view, sequence, announced, published, rendering: ArcSwapOption::empty() }
    }

    /// The version to serve at `now`; `None` when there is none or it ended.
    pub fn live(&self, now: Moment) -> Option<&Held> {
        self.view.held.as_ref().filter(|held| held.is_live(now))
    }

    /// The version before, while it is accepted.
    pub fn previous(&self, now: Moment) -> Option<&Overlap> {
        self.view.overlaps.last().filter(|overlap| now < overlap.until)
    }

    /// The generation held; zero when there is none.
    pub fn generation(&self) -> Generation {
        self.view.held.as_ref().map_or(Generation(0), |held| held.generation)
    }

    /// The time that went by since publication.
    pub fn age(&self, now: Moment) -> Duration {
        now - self.published.0
    }

    /// The wall clock's reading for a moment, as seen when this snapshot was published.
    pub fn wall(&self, moment: Moment) -> Timestamp {
        let (at, wall) = self.published;
        let shift = |by| SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
        let shifted = if moment >= at {
            wall.checked_add(shift(moment - at))
        } else {
            wall.checked_sub(shift(at - moment))
        };
        shifted.unwrap_or(Timestamp::MAX)
    }
}

/// A snapshot that readers share.
pub type Shared = Arc<Snapshot>;
