//! The commands that show something.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{
    Desk, UNSUCCESSFUL,
    args::{PlanArgs, ValidateArgs},
    columns, json_line, shown,
};
use crate::cli::{Console, Failure, failure};

pub(super) async fn plan(
    desk: &Desk,
    args: &PlanArgs,
    console: &mut Console<'_>,
) -> Result<u8, Failure> {
    let within = args.within.and_then(|within| SignedDuration::try_from(within).ok());
    let before = within.and_then(|within| desk.now().checked_add(within).ok());
    let mut planned = desk.engine.plan().await?;
    planned
        .retain(|planned| before.is_none_or(|before| planned.due.is_some_and(|due| due <= before)));
    if desk.json {
        for planned in &planned {
            let line = json!({
                "secret": planned.secret, "category": planned.category, "tier": planned.tier,
                "rotator": planned.rotator, "due": planned.due, "last": planned.last,
                "reason": planned.reason,
            });
            console.write(format!("{line}\n").as_bytes())?;
        }
        return Ok(failure::OK);
    }
    let rows: Vec<_> = planned
        .into_iter()
        .map(|planned| {
            vec![
                planned.secret.to_string(),
                planned.tier,
                planned.rotator.to_owned(),
                shown(planned.due),
                shown(planned.last),
                planned.reason,
            ]
        })
        .collect();
    let head = ["SECRET", "TIER", "ROTATOR", "DUE", "LAST", "WHY"];
    console.write(columns(&head, &rows).as_bytes())?;
    Ok(failure::OK)
}

pub(super) async fn status(
    desk: &Desk,
    names: &[String],
    console: &mut Console<'_>,
) -> Result<u8, Failure> {
    let mut rows = Vec::new();
    for secret in desk.secrets(names)? {
        let status = desk.engine.status(&secret).await?;
        let open = status.book.open.as_ref();
        if desk.json {
            let line = json!({
                "secret": secret, "current": status.labels.current, "previous": status.labels.previous,
                "due": status.book.due, "open": open, "monitored_until": status.book.monitored_until,
            });
            console.write(format!("{line}\n").as_bytes())?;
            continue;
        }
        let version = |version: Option<u64>| version.map_or("—".to_owned(), |v| v.to_string());
        rows.push(vec![
            secret.to_string(),
            version(status.labels.current),
            version(status.labels.previous),
            open.map_or("—".to_owned(), |open| {
                let step = open.step().map_or(String::new(), |step| format!(", next: {step}"));
                format!("{} {}{step}", open.id, open.standing)
            }),
            shown(status.book.due),
        ]);
    }
    if !desk.json {
        let head = ["SECRET", "CURRENT", "PREVIOUS", "ROTATION", "DUE"];
        console.write(columns(&head, &rows).as_bytes())?;
    }
    Ok(failure::OK)
}

pub(super) async fn history(
    desk: &Desk,
    name: &str,
    console: &mut Console<'_>,
) -> Result<u8, Failure> {
    let secret = desk.secret(name)?;
    let past = desk.engine.book(&secret).await?.past;
    if desk.json {
        for rotation in &past {
            console.write(json_line(rotation)?.as_bytes())?;
        }
        return Ok(failure::OK);
    }
    let version = |version: Option<u64>| version.map_or("—".to_owned(), |v| v.to_string());
    let ended = |at: Option<Timestamp>| shown(at);
    let rows: Vec<_> = past
        .iter()
        .map(|rotation| {
            vec![
                rotation.id.to_string(),
                shown(Some(rotation.opened_at)),
                ended(rotation.ended_at),
                rotation.requested_by.clone(),
                format!("{} → {}", rotation.base.current, version(rotation.new_version())),
                rotation.standing.to_string(),
            ]
        })
        .collect();
    let head = ["ROTATION", "BEGAN", "ENDED", "BY", "VERSIONS", "OUTCOME"];
    console.write(columns(&head, &rows).as_bytes())?;
    Ok(failure::OK)
}

pub(super) async fn validate(
    desk: &Desk,
    args: &ValidateArgs,
    console: &mut Console<'_>,
) -> Result<u8, Failure> {
    let mut rows = Vec::new();
    let mut passed = true;
    for secret in desk.secrets(&args.names)? {
        for verdict in desk.engine.validate(&secret, args.environment.as_deref()).await? {
            passed &= verdict.passed;
            if desk.json {
                let line = json!({
                    "secret": secret, "validator": verdict.validator, "passed": verdict.passed,
                    "version": verdict.version, "evidence": verdict.evidence,
                });
                console.write(format!("{line}\n").as_bytes())?;
                continue;
            }
            let mark = if verdict.passed { "pass" } else { "FAIL" };
            rows.push(vec![
                secret.to_string(),
                verdict.validator.to_owned(),
                mark.to_owned(),
                verdict.version.to_string(),
                verdict.evidence,
            ]);
        }
    }
    if !desk.json {
        let head = ["SECRET", "VALIDATOR", "RESULT", "VERSION", "SEEN"];
        console.write(columns(&head, &rows).as_bytes())?;
    }
    Ok(if passed { failure::OK } else { UNSUCCESSFUL })
}
