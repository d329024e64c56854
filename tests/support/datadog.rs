//! A server that speaks the published part of Datadog's API about keys.

use std::sync::{Arc, Mutex};

use serde_json::json;

use super::api::{Api, Call, Reply};

pub const APPLICATION: &str = "planted-application-key";
pub const OWN: &str = "planted-operator-key";

#[derive(Default)]
pub struct Keys {
    /// Id, name and key.
    pub all: Vec<(String, String, String)>,
    made: usize,
    /// Validations that a new key still fails.
    lag: usize,
}

fn answer(keys: &Mutex<Keys>, call: &Call) -> Reply {
    let mut keys = keys.lock().unwrap();
    let api = call.header("dd-api-key").to_owned();
    let is_known = api == OWN || keys.all.iter().any(|(_, _, key)| *key == api);
    if call.path == "/api/v1/validate" {
        if keys.lag > 0 {
            keys.lag -= 1;
            return (403, json!({ "errors": ["Forbidden"] }).to_string());
        }
        let status = if is_known { 200 } else { 403 };
        return (status, json!({ "valid": is_known }).to_string());
    }
    if !is_known || call.header("dd-application-key") != APPLICATION {
        return (403, json!({ "errors": ["Forbidden"] }).to_string());
    }
    match (call.method.as_str(), call.path.strip_prefix("/api/v2/api_keys")) {
        ("GET", Some("")) => {
            let filter = call.query("filter");
            let found = keys.all.iter().filter(|(_, name, _)| name.contains(filter));
            let found = found.map(|(id, name, key)| {
                let last4 = &key[key.len() - 4..];
                json!({ "type": "api_keys", "id": id, "attributes": { "name": name, "last4": last4 } })
            });
            (200, json!({ "data": found.collect::<Vec<_>>() }).to_string())
        }
        ("POST", Some("")) => {
            let name = call.json()["data"]["attributes"]["name"].as_str().unwrap().to_owned();
            keys.made += 1;
            let (id, key) = (format!("id-{}", keys.made), format!("planted-key-{:04}", keys.made));
            keys.all.push((id.clone(), name.clone(), key.clone()));
            let attributes = json!({ "name": name, "key": key });
            (
                201,
                json!({ "data": { "type": "api_keys", "id": id, "attributes": attributes } })
                    .to_string(),
            )
        }
        ("DELETE", Some(id)) => {
            let before = keys.all.len();
            keys.all.retain(|(known, _, _)| Some(known.as_str()) != id.strip_prefix('/'));
            if keys.all.len() < before { (204, String::new()) } else { (404, "{}".to_owned()) }
        }
        _ => (405, String::new()),
    }
}

/// A server whose new keys fail their first `lag` validations.
pub async fn datadog(lag: usize) -> (Api, Arc<Mutex<Keys>>) {
    let keys = Arc::new(Mutex::new(Keys { lag, ..Keys::default() }));
    let state = Arc::clone(&keys);
    (Api::start(move |call| answer(&state, call)).await, keys)
}
