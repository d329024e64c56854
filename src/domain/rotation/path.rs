//! Which steps a rotation takes, forward and back.

use super::{Kind, Step, Terms};
use crate::domain::labels::Audience;

/// The steps forward.
///
/// A target that accepts both values lets the new one prove itself audience by audience. One that
/// accepts a single value cuts every reader off at `Apply`, so that everybody is served at once.
/// One that keeps the value itself serves it itself.
pub(super) fn forward(kind: Kind, terms: &Terms) -> Vec<Step> {
    if terms.held {
        let first = [Step::Precheck].into_iter().filter(|_| kind == Kind::Routine);
        let rest =
            [Step::Generate, Step::Apply, Step::Validate(Audience::Everyone), Step::Document];
        return first.chain(rest).collect();
    }
    let everyone = [Step::Promote(Audience::Everyone), Step::Validate(Audience::Everyone)];
    let mut path = match kind {
        Kind::Routine => vec![Step::Precheck, Step::Generate],
        Kind::Emergency { revoke_first: true } => vec![Step::Revoke, Step::Generate],
        Kind::Emergency { revoke_first: false } => vec![Step::Generate],
        Kind::Rollback => Vec::new(),
    };
    path.extend([Step::Apply, Step::Prove]);
    if kind == Kind::Routine && terms.overlapping {
        path.extend(audiences(terms).flat_map(|a| [Step::Promote(a.clone()), Step::Validate(a)]));
    }
    path.extend(everyone);
    if kind == Kind::Routine && terms.overlapping {
        path.push(Step::Overlap);
    }
    if kind != (Kind::Emergency { revoke_first: true }) {
        path.push(Step::Revoke);
    }
    path.push(Step::Document);
    path
}

/// Those who get the new version before everybody does.
fn audiences(terms: &Terms) -> impl Iterator<Item = Audience> {
    let (last, earlier) = match terms.environments.split_last() {
        Some((last, earlier)) => (Some(last), earlier),
        None => (None, Default::default()),
    };
    let colours = last.into_iter().flat_map(|environment| {
        terms.canaries.iter().map(|colour| Audience::Colour {
            environment: environment.clone(),
            colour: colour.clone(),
        })
    });
    earlier.iter().cloned().map(Audience::Environment).chain(colours)
}

/// The steps back, from what was begun. Readers of a target that accepts both values go back
/// before the new value dies; with a single value the target goes first.
pub(super) fn back(begun: &[Step], overlapping: bool) -> Vec<Step> {
    let has = |step: &Step| begun.contains(step);
    let mut path = Vec::new();
    if has(&Step::Generate) || begun.iter().any(|step| matches!(step, Step::Promote(_))) {
        path.push(Step::Demote);
    }
    if has(&Step::Apply) {
        let at = if overlapping { path.len() } else { 0 };
        path.insert(at, Step::Undo);
    }
    path.push(Step::Document);
    path
}
