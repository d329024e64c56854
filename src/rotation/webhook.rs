//! Addresses that messages are posted to; many of them are secrets.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    http::{Http, Method},
    ports::Login,
};
use crate::domain::fault::{Fault, Reason};

/// An address that messages are posted to.
#[derive(Clone)]
pub enum Webhook {
    /// One that anybody may know.
    Url(String),
    /// One that is a secret: the field `password`, `url` or `value` of a source. It has to be
    /// `https://`, or lie on this machine.
    Secret(Arc<dyn Login>),
}

impl Webhook {
    /// Posts JSON; `path` is added to the address. `whom` names the other side in faults.
    ///
    /// # Errors
    /// When it is not accepted.
    pub async fn post(
        &self,
        http: &Http,
        whom: &'static str,
        path: &str,
        body: &Value,
        timeout: Duration,
    ) -> Result<(), Fault> {
        let invalid = |detail: &str| Fault::new(Reason::Invalid, format!("{whom}: {detail}"));
        let call = match self {
            Self::Url(url) => http.call(whom, Method::POST, &format!("{url}{path}"), timeout)?,
            Self::Secret(source) => {
                let fields = source.fields().await?;
                let names = ["password", "url", "value"];
                let url = names.into_iter().find_map(|name| fields.field(name));
                let url = url.and_then(|url| std::str::from_utf8(url.expose()).ok());
                let url = url.ok_or_else(|| invalid("its address is missing"))?.trim();
                let url = Zeroizing::new(format!("{}{path}", url.trim_end_matches('/')));
                let call = http.call(whom, Method::POST, &url, timeout)?;
                if !call.is_secure() {
                    return Err(invalid("its address is http:// to another machine"));
                }
                call
            }
        };
        let answer = call.json(body).send().await?;
        if answer.is_success() { Ok(()) } else { Err(answer.refusal("posting a message")) }
    }
}
