//! Datadog API keys: made, validated and deleted through Datadog's API.
//!
//! Datadog shows a key only when it is made, so a key whose making was cut off can't be taken up:
//! it is found by its name, which belongs to one secret alone, and deleted.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::{
    config::operator::targets::datadog::Datadog as Settings,
    domain::{
        fault::{Fault, Reason},
        secret::{Fields, SINGLE_FIELD, SecretValue},
    },
    rotation::{
        http::{Call, Http, Method},
        patience,
        ports::{Change, Evidence, Generated, Login, Revocation, Rotator, Severity, TargetError},
    },
};

const WHOM: &str = "Datadog";
const API_KEY: &str = "DD-API-KEY";
const APPLICATION_KEY: &str = "DD-APPLICATION-KEY";
/// The field of a key's public id.
const KEY_ID: &str = "key_id";
/// The most keys of one page of Datadog's list.
const PAGE: &str = "100";

/// Datadog API keys.
pub struct Datadog {
    settings: Settings,
    http: Http,
    login: Arc<dyn Login>,
}

/// A key as Datadog lists it.
struct Listed {
    id: String,
    name: String,
    last4: String,
}

impl Datadog {
    /// By these settings, with the operator's `login`.
    pub fn new(settings: Settings, http: Http, login: Arc<dyn Login>) -> Self {
        Self { settings, http, login }
    }

    /// A call about keys, with the operator's rights. Datadog asks for an API key beside them: the
    /// login's own, or one that is being turned over.
    async fn call(
        &self,
        method: Method,
        key: Option<&str>,
        usable: Option<&Fields>,
    ) -> Result<Call<'_>, Fault> {
        let login = self.login.fields().await?;
        let missing = |what: &str| {
            Fault::new(Reason::Invalid, format!("the operator's login at Datadog has no {what}"))
        };
        let application = login.field("application_key").or_else(|| login.field("password"));
        let application = application.ok_or_else(|| missing("field `application_key`"))?;
        let api = login.field("api_key").or_else(|| usable.and_then(|f| f.field(SINGLE_FIELD)));
        let api = api.ok_or_else(|| missing("field `api_key`, and no key is in force"))?;
        let address = format!("{}/api/v2/api_keys", self.settings.url);
        let call = self.http.call(WHOM, method, &address, self.settings.timeout)?;
        let call = key.into_iter().fold(call, Call::step);
        call.secret_header(API_KEY, api.expose())?
            .secret_header(APPLICATION_KEY, application.expose())
    }

    /// The keys of this secret's name.
    async fn list(&self, usable: Option<&Fields>) -> Result<Vec<Listed>, Fault> {
        let call = self.call(Method::GET, None, usable).await?;
        let call = call.query("filter", &self.settings.name).query("page[size]", PAGE);
        let answer = call.send().await?;
        if !answer.is_success() {
            return Err(answer.refusal("listing API keys"));
        }
        let answer = answer.json()?;
        let keys = answer.get("data").and_then(Value::as_array).cloned().unwrap_or_default();
        let listed = keys.iter().filter_map(|key| {
            let text = |at: &str| Some(key.pointer(at)?.as_str()?.to_owned());
            Some(Listed {
                id: text("/id")?,
                name: text("/attributes/name")?,
                last4: text("/attributes/last4").unwrap_or_default(),
            })
        });
        // The filter finds parts of names too.
        Ok(listed.filter(|key| key.name == self.settings.name).collect())
    }

    async fn delete(&self, id: &str, usable: Option<&Fields>) -> Result<(), Fault> {
        let answer = self.call(Method::DELETE, Some(id), usable).await?.send().await?;
        if answer.is_success() || answer.status == 404 {
            return Ok(());
        }
        Err(answer.refusal("deleting an API key"))
    }

    async fn make(&self, current: Option<&Fields>) -> Result<Generated, TargetError> {
        for key in self.list(current).await? {
            if !current.is_some_and(|current| is_key(&key, current)) {
                self.delete(&key.id, current).await?;
            }
        }
        let attributes = json!({ "name": self.settings.name });
        let body = json!({ "data": { "type": "api_keys", "attributes": attributes } });
        let answer = self.call(Method::POST, None, current).await?.json(&body).send().await?;
        if !answer.is_success() {
            return Err(answer.refusal("making an API key").into());
        }
        let answer = answer.json()?;
        let text = |at: &str| answer.pointer(at).and_then(Value::as_str);
        let (Some(id), Some(key)) = (text("/data/id"), text("/data/attributes/key")) else {
            let detail = "making an API key: Datadog answered without one";
            return Err(TargetError::fault(Reason::Invalid, detail));
        };
        let fields = [
            (SINGLE_FIELD.to_owned(), SecretValue::new(key)),
            (KEY_ID.to_owned(), SecretValue::new(id)),
        ];
        let facts = BTreeMap::from([(KEY_ID.to_owned(), id.to_owned())]);
        Ok(Generated::Value { fields: fields.into_iter().collect(), facts })
    }

    /// The id of a key that Datadog has; `None` when it has it no more.
    async fn id_of(
        &self,
        value: &Fields,
        usable: Option<&Fields>,
    ) -> Result<Option<String>, Fault> {
        if let Some(id) = text(value, KEY_ID) {
            return Ok(Some(id.to_owned()));
        }
        let mut keys = self.list(usable).await?;
        keys.retain(|key| is_key(key, value));
        match keys.len() {
            0 | 1 => Ok(keys.pop().map(|key| key.id)),
            _ => Err(Fault::new(
                Reason::Invalid,
                "several API keys of this name end alike: delete the old one by hand",
            )),
        }
    }

    async fn is_accepted(&self, value: &Fields) -> Result<Evidence, TargetError> {
        validate(&self.http, &self.settings.url, self.settings.timeout, value).await
    }
}

/// Asks Datadog whether an API key is valid.
///
/// # Errors
/// [`TargetError::Refused`] when it is not.
pub(in crate::rotation) async fn validate(
    http: &Http,
    url: &str,
    timeout: Duration,
    value: &Fields,
) -> Result<Evidence, TargetError> {
    let key = value.field(SINGLE_FIELD);
    let key = key.ok_or_else(|| TargetError::refused("the value has no field `value`"))?;
    let call = http.call(WHOM, Method::GET, &format!("{url}/api/v1/validate"), timeout)?;
    let answer = call
        .secret_header(API_KEY, key.expose())
        .map_err(|_| TargetError::refused("the value can't be an API key"))?
        .send()
        .await?;
    match answer.status {
        200 if answer.json()?.get("valid") == Some(&Value::Bool(true)) => {
            Ok("Datadog accepts the API key".to_owned())
        }
        200 | 401 | 403 => Err(TargetError::refused("Datadog does not accept the API key")),
        _ => Err(answer.refusal("validating an API key").into()),
    }
}

/// Whether a listed key is the one of a value: by its id, or else by how it ends.
fn is_key(listed: &Listed, value: &Fields) -> bool {
    if let Some(id) = text(value, KEY_ID) {
        return listed.id == id;
    }
    !listed.last4.is_empty()
        && text(value, SINGLE_FIELD).is_some_and(|key| key.ends_with(&listed.last4))
}

fn text<'a>(value: &'a Fields, name: &str) -> Option<&'a str> {
    std::str::from_utf8(value.field(name)?.expose()).ok()
}

#[async_trait]
impl Rotator for Datadog {
    fn kind(&self) -> &'static str {
        "datadog"
    }

    async fn generate(&self, current: Option<&Fields>) -> Result<Generated, TargetError> {
        self.make(current).await
    }

    /// Datadog accepts a key from its making on; this waits until it does so everywhere.
    async fn apply(&self, change: &Change<'_>) -> Result<Evidence, TargetError> {
        patience::until(self.settings.patience, || self.is_accepted(change.new)).await
    }

    async fn prove(&self, value: &Fields) -> Result<Evidence, TargetError> {
        patience::until(self.settings.patience, || self.is_accepted(value)).await
    }

    async fn revoke(
        &self,
        old: &Fields,
        kept: Option<&Fields>,
        _severity: Severity,
    ) -> Result<Revocation, TargetError> {
        let usable = kept.or(Some(old));
        let id = match self.id_of(old, usable).await {
            // Deleted before, and the login of this call with it.
            Err(_) if kept.is_none() && is_refused(&self.is_accepted(old).await) => None,
            id => id?,
        };
        if let Some(id) = id {
            if kept.and_then(|kept| text(kept, KEY_ID)) == Some(id.as_str()) {
                return Err(TargetError::refused("both versions are the same API key"));
            }
            let deleted = self.delete(&id, usable).await;
            if let Err(fault) = deleted
                && !(kept.is_none() && is_refused(&self.is_accepted(old).await))
            {
                return Err(fault.into());
            }
        }
        // Believed when Datadog says so, which takes it a while.
        let gone = patience::until(self.settings.patience, || async move {
            match self.is_accepted(old).await {
                Ok(_) => Err(TargetError::refused("Datadog accepts the API key still")),
                Err(TargetError::Refused(_)) => Ok(()),
                Err(fault) => Err(fault),
            }
        });
        match gone.await {
            Ok(()) => Ok(Revocation::Done("Datadog refuses the deleted API key".to_owned())),
            Err(TargetError::Refused(detail)) => Err(TargetError::fault(Reason::Failed, detail)),
            Err(fault) => Err(fault),
        }
    }
}

fn is_refused<T>(answer: &Result<T, TargetError>) -> bool {
    matches!(answer, Err(TargetError::Refused(_)))
}
