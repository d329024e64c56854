//! `watch`: prints changes as they happen, without values unless asked.

use std::fmt::Write;

use secret_broker_client::{Event, Secret};
use serde::Serialize;
use zeroize::Zeroizing;

use super::{
    Console, Failure,
    args::WatchArgs,
    failure,
    output::{Hex, SecretJson, freshness, json_line, reason_name, time_left},
};

/// One event as JSON.
#[derive(Serialize)]
struct EventJson<'e> {
    event: &'static str,
    name: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<SecretJson<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

pub(super) async fn run(args: WatchArgs, console: &mut Console<'_>) -> Result<u8, Failure> {
    let mut watch = args.connection.client()?.watch(args.names.clone());
    let mut left = args.count;
    while left != Some(0) {
        let Some(event) = watch.next().await else { break };
        let event = event?;
        let line = if args.json {
            json_line(&as_json(&event, args.values))
        } else {
            Zeroizing::new(for_people(&event, args.values, console).as_bytes().to_vec())
        };
        console.write(&line)?;
        left = left.map(|left| left - 1);
    }
    Ok(failure::OK)
}

/// Shows an event to people, without values.
pub(crate) fn show(event: &Event, console: &mut Console<'_>) {
    let line = for_people(event, false, console);
    // A terminal that is gone is nobody's failure.
    let _ = console.write(line.as_bytes());
}

fn as_json(event: &Event, values: bool) -> EventJson<'_> {
    let form = if values { SecretJson::with_values } else { SecretJson::without_values };
    EventJson {
        event: kind(event),
        name: event.name(),
        secret: event.secret().map(form),
        reason: reason(event),
    }
}

fn for_people(event: &Event, values: bool, console: &Console<'_>) -> Zeroizing<String> {
    let style = match event {
        Event::Current(_) | Event::Renewed(_) | Event::Recovered(_) => "32",
        Event::Rotated(_) => "36",
        _ => "33",
    };
    let mut text = Zeroizing::new(String::new());
    let _ =
        write!(text, "{} {}", console.styled(style, &format!("{:<11}", kind(event))), event.name());
    if let Some(secret) = event.secret() {
        let _ = write!(
            text,
            "  version {}  generation {}  {}  time left {}",
            secret.version(),
            secret.generation(),
            freshness(secret),
            time_left(secret),
        );
        if values {
            append_values(&mut text, secret);
        }
    }
    if let Some(reason) = reason(event) {
        let _ = write!(text, "  {reason}");
    }
    text.push('\n');
    text
}

fn append_values(text: &mut String, secret: &Secret) {
    for (field, value) in secret.fields() {
        let _ = match std::str::from_utf8(value) {
            Ok(value) => write!(text, "  {field}={value}"),
            Err(_) => write!(text, "  {field}=(hex) {}", Hex(value)),
        };
    }
}

fn kind(event: &Event) -> &'static str {
    match event {
        Event::Current(_) => "CURRENT",
        Event::Rotated(_) => "ROTATED",
        Event::Renewed(_) => "RENEWED",
        Event::Expiring(_) => "EXPIRING",
        Event::Stale(_) => "STALE",
        Event::Recovered(_) => "RECOVERED",
        Event::Revoked { .. } => "REVOKED",
        Event::Unavailable { .. } => "UNAVAILABLE",
        _ => "CHANGED",
    }
}

fn reason(event: &Event) -> Option<&'static str> {
    match event {
        Event::Revoked { reason, .. } => Some(reason_name(*reason)),
        Event::Unavailable { error, .. } => error.reason().map(reason_name),
        _ => None,
    }
}
