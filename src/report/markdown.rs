//! A rotation's record as Markdown.

use std::fmt::Write;

use jiff::{SignedDuration, Timestamp};

use crate::domain::rotation::{Entry, Kind, Rotation};

/// The record of a rotation.
pub fn markdown(rotation: &Rotation, place: &str) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut text, rotation, place);
    text
}

fn write(text: &mut String, rotation: &Rotation, place: &str) -> std::fmt::Result {
    let title = match rotation.kind {
        Kind::Routine => "Rotation",
        Kind::Emergency { .. } => "Incident: rotation after a compromise",
        Kind::Rollback => "Rollback",
    };
    writeln!(text, "# {title} of {}\n", rotation.secret)?;
    writeln!(text, "| | |\n|---|---|")?;
    let version = |version: Option<u64>| version.map_or("none".to_owned(), |v| v.to_string());
    let rows = [
        ("Rotation", rotation.id.to_string()),
        ("Outcome", rotation.standing.to_string()),
        ("Asked for by", rotation.requested_by.clone()),
        ("Approved by", rotation.approved_by.clone().unwrap_or_else(|| "not asked for".into())),
        ("Reason", rotation.reason.clone()),
        ("Place", place.to_owned()),
        ("Version before", version(Some(rotation.base.current).filter(|v| *v > 0))),
        ("Version after", version(rotation.new_version())),
        ("Values that were discarded", rotation.discarded.len().to_string()),
        ("Opened", second(rotation.opened_at)),
        ("Trouble", rotation.trouble.clone().unwrap_or_else(|| "none".into())),
    ];
    for (name, value) in rows {
        writeln!(text, "| {name} | {} |", cell(&value))?;
    }
    writeln!(text, "\n## Steps\n")?;
    writeln!(text, "| step | began | took | outcome | what was seen |\n|---|---|---|---|---|")?;
    for entry in &rotation.log {
        let outcome = match (entry.succeeded, entry.ended_at) {
            (true, _) => "done",
            (false, Some(_)) => "failed",
            (false, None) => "cut off",
        };
        writeln!(
            text,
            "| {} | {} | {} | {outcome} | {} |",
            entry.step,
            second(entry.started_at),
            took(entry),
            cell(&entry.evidence)
        )?;
    }
    if rotation.kind.is_emergency() {
        writeln!(text, "\n## To be completed by people\n")?;
        for question in [
            "How did others come to know the value?",
            "What did they use it for? See the audit log of the sidecars from the time before.",
            "What keeps it from happening again?",
        ] {
            writeln!(text, "- {question}")?;
        }
    }
    Ok(())
}

/// A text that stays within its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

fn second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

fn took(entry: &Entry) -> String {
    let took = entry.ended_at.map(|ended| ended.duration_since(entry.started_at));
    took.map_or_else(String::new, |took: SignedDuration| format!("{} ms", took.as_millis()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::rotation::{Base, Request, RevokeWhen, RotationId, Terms};

    #[test]
    fn a_record_tells_who_why_and_each_step() {
        let terms = Terms {
            environments: vec!["production".into()],
            canaries: Vec::new(),
            overlapping: true,
            held: false,
            soak: Duration::ZERO,
            overlap: Duration::from_hours(1),
            settle: Duration::ZERO,
            revoke: RevokeWhen::Overlapped,
            approval: false,
            max_values: 1,
            max_attempts: 1,
            retry_min: Duration::from_secs(1),
            retry_max: Duration::from_secs(1),
        };
        let request = Request {
            id: RotationId("r1".into()),
            secret: "DB".parse().unwrap(),
            kind: Kind::Emergency { revoke_first: false },
            requested_by: "ann".into(),
            reason: "found in a log | twice".into(),
            until: None,
            base: Base { current: 3, target: None },
        };
        let now: Timestamp = "2026-11-25T10:00:00Z".parse().unwrap();
        let mut rotation = Rotation::open(request, &terms, now);
        rotation.begin(3, now);
        rotation.done("stored as version 4, pending", &terms, now);
        let text = markdown(&rotation, "secret/data/db");
        for part in [
            "# Incident: rotation after a compromise of DB",
            "| Asked for by | ann |",
            "found in a log \\| twice",
            "| Version before | 3 |",
            "| generate and store as pending | 2026-11-25 10:00:00Z | 0 ms | done | stored as version 4, pending |",
            "What keeps it from happening again?",
        ] {
            assert!(text.contains(part), "{part}\nin\n{text}");
        }
    }
}
