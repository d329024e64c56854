//! The adapter that the conformance runner drives: one JSON request a line in, one JSON answer a line out.
//!
//! Its lines are described in `tests/conformance/README.md` of the broker's repository.

#![expect(
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "its answers are lines; a missing key is null"
)]

use std::{collections::HashMap, error::Error as StdError, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use secret_broker_client::{
    Client, Error, Event, Freshness, Live, Outcome, Reason, Secret, Standing, jwt::Tokens,
};
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    task::{AbortHandle, spawn},
};

#[derive(Default)]
struct Adapter {
    client: Option<Client>,
    last: HashMap<String, Secret>,
    watches: HashMap<String, AbortHandle>,
    lives: HashMap<String, Live>,
}

type Answer = Result<Value, Value>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let mut adapter = Adapter::default();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let request: Value = serde_json::from_str(&line)?;
        let id = &request["id"];
        let answer = match adapter.answer(&request).await {
            Ok(ok) => json!({ "id": id, "ok": ok }),
            Err(error) => json!({ "id": id, "error": error }),
        };
        println!("{answer}");
    }
    Ok(())
}

impl Adapter {
    async fn answer(&mut self, request: &Value) -> Answer {
        let name = text(request, "name");
        match request["op"].as_str().unwrap_or_default() {
            "connect" => self.connect(request),
            "get" => {
                let client = self.client()?;
                let client = millis(request).map_or(client.clone(), |d| client.with_deadline(d));
                let secret = client.get(name).await.map_err(told)?;
                let shown = show(&secret);
                self.last.insert(name.to_owned(), secret);
                Ok(shown)
            }
            "get_many" => {
                let results = self.client()?.get_many(&names(request)).await.map_err(told)?;
                let results = results.into_iter().map(|(name, result)| match result {
                    Ok(secret) => json!({ "name": name, "ok": show(&secret) }),
                    Err(error) => json!({ "name": name, "error": told(error) }),
                });
                Ok(results.collect())
            }
            "list" => {
                let list = self.client()?.list(request["category"].as_str()).await.map_err(told)?;
                let shown = list.into_iter().map(|m| {
                    let state = m.state.as_str_name().trim_start_matches("SECRET_STATE_").to_owned();
                    let (name, category) = (m.name, m.category);
                    json!({ "name": name, "category": category, "state": state, "generation": m.generation })
                });
                Ok(shown.collect())
            }
            "watch" => self.watch(request),
            "unwatch" => {
                self.watches.remove(text(request, "watch")).as_ref().map(AbortHandle::abort);
                Ok(json!({}))
            }
            "report" => self.report(name, request).await,
            "live" => self.live(name, request).await,
            "live_value" => Ok(value(self.handle(request)?)),
            "unlive" => {
                self.lives.remove(text(request, "live"));
                Ok(json!({}))
            }
            "print" => {
                let client = self.client()?;
                let secret = client.get(name).await.map_err(told)?;
                let live = client.live(name).await.map_err(told)?;
                let tokens = Tokens::new(live.clone());
                let previous = secret.previous();
                Ok(json!({ "text": format!(
                    "{secret:?}\n{secret:#?}\n{previous:?}\n{live:?}\n{live:#?}\n{tokens:?}"
                ) }))
            }
            "jwt_sign" => {
                let tokens = Tokens::new(self.handle(request)?.clone());
                let token = tokens.sign(&request["claims"]).map_err(|error| refused(&error))?;
                Ok(json!({ "token": token }))
            }
            "jwt_verify" => {
                let tokens = Tokens::new(self.handle(request)?.clone());
                let claims: Value =
                    tokens.verify(text(request, "token")).map_err(|error| refused(&error))?;
                Ok(json!({ "claims": claims }))
            }
            other => Err(configuration(&format!("no such op: {other}"))),
        }
    }

    fn connect(&mut self, request: &Value) -> Answer {
        self.watches.values().for_each(AbortHandle::abort);
        *self = Self::default();
        let mut builder = Client::builder().address(text(request, "address"));
        if let Some(directory) = request["cert_dir"].as_str() {
            builder = builder.cert_dir(directory);
        }
        if let Some(name) = request["server_name"].as_str() {
            builder = builder.server_name(name);
        }
        if let Some(deadline) = millis(request) {
            builder = builder.deadline(deadline);
        }
        self.client = Some(builder.build().map_err(told)?);
        Ok(json!({}))
    }

    fn client(&self) -> Result<&Client, Value> {
        self.client.as_ref().ok_or_else(|| configuration("not connected"))
    }

    fn handle(&self, request: &Value) -> Result<&Live, Value> {
        let live = self.lives.get(text(request, "live"));
        live.ok_or_else(|| configuration("no such live handle"))
    }

    fn watch(&mut self, request: &Value) -> Answer {
        let id = text(request, "watch").to_owned();
        let mut watch = self.client()?.watch(names(request));
        let task = {
            let id = id.clone();
            spawn(async move {
                while let Some(event) = watch.next().await {
                    match event {
                        Ok(event) => println!("{}", shown(&id, &event)),
                        Err(error) => println!("{}", json!({ "watch": id, "ended": told(error) })),
                    }
                }
            })
        };
        self.watches.insert(id, task.abort_handle());
        Ok(json!({}))
    }

    async fn report(&self, name: &str, request: &Value) -> Answer {
        let outcome = match text(request, "outcome") {
            "APPLIED" => Outcome::Applied,
            "WORKED" => Outcome::Worked,
            _ => Outcome::Refused(text(request, "detail")),
        };
        let secret = self.last.get(name).ok_or_else(|| configuration("not got yet"))?;
        let current = self.client()?.report(secret, outcome).await.map_err(told)?;
        Ok(json!({ "current_generation": current }))
    }

    async fn live(&mut self, name: &str, request: &Value) -> Answer {
        let id = text(request, "live").to_owned();
        let mut opening = self.client()?.live(name);
        if let Some(deadline) = millis(request) {
            opening = opening.deadline(deadline);
        }
        let live = opening.await.map_err(told)?;
        let hooked = id.clone();
        live.on_change(move |secret: Arc<Secret>| {
            println!("{}", json!({ "live": hooked, "changed": secret.generation() }));
            async { Ok(()) }
        });
        let generation = live.generation();
        self.lives.insert(id, live);
        Ok(json!({ "generation": generation }))
    }
}

fn text<'a>(request: &'a Value, key: &str) -> &'a str {
    request.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn names(request: &Value) -> Vec<String> {
    let names = request.get("names").and_then(Value::as_array).into_iter().flatten();
    names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

fn millis(request: &Value) -> Option<Duration> {
    request.get("deadline_ms").and_then(Value::as_u64).map(Duration::from_millis)
}

fn fields<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Value {
    let encoded =
        fields.map(|(name, value)| (name.to_owned(), BASE64_STANDARD.encode(value).into()));
    Value::Object(encoded.collect::<Map<_, _>>())
}

fn show(secret: &Secret) -> Value {
    let freshness = match secret.freshness() {
        Freshness::Fresh => "FRESH",
        Freshness::Stale { .. } => "STALE",
    };
    let previous = secret.previous().map(|previous| {
        json!({
            "version": previous.version(),
            "generation": previous.generation(),
            "fields": fields(previous.fields()),
        })
    });
    json!({
        "name": secret.name(),
        "version": secret.version(),
        "generation": secret.generation(),
        "fields": fields(secret.fields()),
        "freshness": freshness,
        "time_left_ms": secret.time_left().map(|left| left.as_millis()),
        "previous": previous,
    })
}

fn value(live: &Live) -> Value {
    let standing = match live.standing() {
        Standing::Served => Value::Null,
        Standing::Revoked(reason) => {
            json!({ "kind": "refused", "reason": named(reason), "transient": true })
        }
        Standing::Unavailable(error) => told(error),
        other => json!({ "kind": format!("{other:?}") }),
    };
    live.with(|secret| {
        json!({
            "generation": secret.generation(),
            "fields": fields(secret.fields()),
            "previous_generation": secret.previous().map(secret_broker_client::Previous::generation),
            "standing": standing,
        })
    })
}

fn shown(watch: &str, event: &Event) -> Value {
    let (kind, reason) = match event {
        Event::Current(_) => ("CURRENT", None),
        Event::Rotated(_) => ("ROTATED", None),
        Event::Renewed(_) => ("RENEWED", None),
        Event::Expiring(_) => ("EXPIRING", None),
        Event::Stale(_) => ("STALE", None),
        Event::Recovered(_) => ("RECOVERED", None),
        Event::Revoked { reason, .. } => ("REVOKED", Some(*reason)),
        Event::Unavailable { error, .. } => ("UNAVAILABLE", error.reason()),
        _ => ("UNKNOWN", None),
    };
    json!({
        "watch": watch,
        "event": kind,
        "name": event.name(),
        "generation": event.secret().map(Secret::generation),
        "reason": reason.map(named),
    })
}

fn named(reason: Reason) -> &'static str {
    reason.as_str_name().trim_start_matches("ERROR_REASON_")
}

#[expect(clippy::needless_pass_by_value, reason = "the end of an error")]
fn told(error: Error) -> Value {
    let kind = match &error {
        Error::Configuration(_) => "configuration",
        Error::Tls { .. } => "tls",
        Error::Unreachable { .. } => "unreachable",
        Error::Deadline { .. } => "deadline",
        Error::Refused { .. } => "refused",
        _ => "unknown",
    };
    json!({
        "kind": kind,
        "reason": error.reason().map(named),
        "transient": error.is_transient(),
        "retry_after_ms": error.retry_after().map(|wait| wait.as_millis()),
        "message": error.to_string(),
    })
}

fn configuration(message: &str) -> Value {
    json!({ "kind": "configuration", "reason": null, "transient": false, "message": message })
}

fn refused(error: &dyn StdError) -> Value {
    json!({ "kind": "refused", "reason": null, "transient": false, "message": error.to_string() })
}
