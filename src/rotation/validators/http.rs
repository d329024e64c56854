//! Calls an HTTP service with a credential.

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::{
    config::operator::validators::{Http as Settings, HttpMethod, HttpPlace},
    domain::{
        fault::{Fault, Reason},
        secret::{Fields, SecretValue},
    },
    rotation::{
        http::{self, Method},
        patience,
        ports::{Evidence, TargetError, Validator},
    },
};

const WHOM: &str = "the probed service";

/// Calls an HTTP service with a credential.
#[derive(Debug)]
pub struct Http {
    settings: Settings,
    http: http::Http,
}

impl Http {
    /// By these settings.
    pub fn new(settings: Settings, http: http::Http) -> Self {
        Self { settings, http }
    }

    async fn probe(&self, value: &Fields) -> Result<Evidence, TargetError> {
        let Settings { url, method, place, field, status, timeout, .. } = &self.settings;
        let credential = of(value, field)?;
        let method = match method {
            HttpMethod::Get => Method::GET,
            HttpMethod::Head => Method::HEAD,
            HttpMethod::Post => Method::POST,
        };
        let call = self.http.call(WHOM, method, url, *timeout)?;
        let unfit = |_| TargetError::refused("the value can't be sent as the probe asks for");
        let call = match place {
            HttpPlace::Header { name, prefix } => {
                let text = Zeroizing::new([prefix.as_bytes(), credential].concat());
                call.secret_header(name, &text).map_err(unfit)?
            }
            HttpPlace::Basic(username) => {
                let username = match username {
                    Some(username) => username.as_bytes(),
                    None => of(value, "username")?,
                };
                call.basic(username, credential).map_err(unfit)?
            }
            HttpPlace::Query(name) => {
                let text = std::str::from_utf8(credential);
                call.query(name, text.map_err(|_| TargetError::refused("the value is no text"))?)
            }
        };
        let answer = call.send().await?;
        let found = answer.status;
        let expected =
            if status.is_empty() { answer.is_success() } else { status.contains(&found) };
        if expected {
            return Ok(format!("the service answered {found}"));
        }
        if matches!(found, 300..=399 | 404 | 405) {
            let detail = format!("{WHOM} answered {found}: check the address of the probe");
            return Err(Fault::new(Reason::Invalid, detail).into());
        }
        Err(TargetError::refused(format!("the service answered {found}")))
    }
}

fn of<'a>(value: &'a Fields, name: &str) -> Result<&'a [u8], TargetError> {
    let field = value.field(name).map(SecretValue::expose);
    field.ok_or_else(|| TargetError::refused(format!("the value has no field `{name}`")))
}

#[async_trait]
impl Validator for Http {
    fn kind(&self) -> &'static str {
        "http"
    }

    async fn validate(
        &self,
        value: &Fields,
        _previous: Option<&Fields>,
    ) -> Result<Evidence, TargetError> {
        patience::until(self.settings.patience, || self.probe(value)).await
    }
}
