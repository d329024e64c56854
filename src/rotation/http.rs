//! Calls to the HTTP interfaces of targets, webhooks and monitoring.
//!
//! No redirect is followed, so that no credential goes where it was not sent; answers are bounded;
//! nothing that was sent or answered goes into a [`Fault`].

use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{
    Url,
    header::{AUTHORIZATION, HeaderName, HeaderValue},
    redirect,
};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::domain::fault::{Fault, Reason};

/// The largest answer that is read, in bytes.
const ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// How long a connection stays open for the next call.
const IDLE_TIME: Duration = Duration::from_secs(5);

pub use reqwest::Method;

/// An HTTP client that all who call targets share.
#[derive(Clone)]
pub struct Http(reqwest::Client);

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Http")
    }
}

impl Http {
    /// A client that trusts the system's authorities.
    ///
    /// # Errors
    /// When TLS can't be set up.
    pub fn new() -> Result<Self, Fault> {
        reqwest::Client::builder()
            .tls_backend_rustls()
            .pool_idle_timeout(IDLE_TIME)
            .redirect(redirect::Policy::none())
            .build()
            .map(Self)
            .map_err(|_| Fault::new(Reason::Invalid, "the HTTP client can't be made"))
    }

    /// A call that waits to be completed; `whom` names the other side in faults.
    ///
    /// # Errors
    /// When the address is not one.
    pub fn call(
        &self,
        whom: &'static str,
        method: Method,
        address: &str,
        timeout: Duration,
    ) -> Result<Call<'_>, Fault> {
        let unusable = || invalid(whom, "its address is not a URL");
        let url = Url::parse(address).map_err(|_| unusable())?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(unusable());
        }
        let is_secure = url.scheme() == "https" || is_loopback(&url);
        let request = reqwest::Request::new(method, url);
        Ok(Call { http: &self.0, whom, request, timeout, is_secure })
    }
}

/// A call that waits to be completed.
pub struct Call<'a> {
    http: &'a reqwest::Client,
    whom: &'static str,
    request: reqwest::Request,
    timeout: Duration,
    is_secure: bool,
}

impl Call<'_> {
    /// Whether nobody on the way can read it.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Adds a step to the path, encoded.
    #[must_use]
    pub fn step(mut self, step: &str) -> Self {
        if let Ok(mut path) = self.request.url_mut().path_segments_mut() {
            path.pop_if_empty().push(step);
        }
        self
    }

    /// Adds a parameter to the query.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.request.url_mut().query_pairs_mut().append_pair(name, value);
        self
    }

    /// Adds a header whose value is a secret.
    ///
    /// # Errors
    /// When the value can't be a header's.
    pub fn secret_header(mut self, name: &str, value: &[u8]) -> Result<Self, Fault> {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| invalid(self.whom, "the name of a header is not one"))?;
        let mut value = HeaderValue::from_bytes(value)
            .map_err(|_| invalid(self.whom, "the credential can't be sent in a header"))?;
        value.set_sensitive(true);
        self.request.headers_mut().insert(name, value);
        Ok(self)
    }

    /// Logs in with a name and a password.
    ///
    /// # Errors
    /// As [`Self::secret_header`].
    pub fn basic(self, username: &[u8], password: &[u8]) -> Result<Self, Fault> {
        let pair = Zeroizing::new([username, b":", password].concat());
        let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(&pair)));
        self.secret_header(AUTHORIZATION.as_str(), value.as_bytes())
    }

    /// Sends JSON.
    #[must_use]
    pub fn json(mut self, body: &Value) -> Self {
        let json = HeaderValue::from_static("application/json");
        self.request.headers_mut().insert(reqwest::header::CONTENT_TYPE, json);
        *self.request.body_mut() = Some(body.to_string().into());
        self
    }

    /// Makes the call.
    ///
    /// # Errors
    /// When there is no whole answer, and when the answer is that the other side can't answer now.
    pub async fn send(mut self) -> Result<Answer, Fault> {
        let whom = self.whom;
        *self.request.timeout_mut() = Some(self.timeout);
        let response = self.http.execute(self.request).await;
        let mut response = response.map_err(|error| transport(whom, &error))?;
        let status = response.status().as_u16();
        let wait = response.headers().get("retry-after");
        let wait = wait.and_then(|wait| wait.to_str().ok()?.parse().ok()).map(Duration::from_secs);
        let mut body = Zeroizing::new(Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(|error| transport(whom, &error))? {
            if body.len() + chunk.len() > ANSWER_BYTES {
                return Err(invalid(whom, "the answer is larger than 4 MiB"));
            }
            body.extend_from_slice(&chunk);
        }
        let fault = match status {
            429 => Fault::new(Reason::Throttled, format!("{whom} asks to slow down")),
            502..=504 => Fault::new(Reason::Unavailable, format!("{whom} can't serve now")),
            500.. => Fault::new(Reason::Failed, format!("{whom} failed at this call")),
            _ => return Ok(Answer { whom, status, body }),
        };
        Err(match wait {
            Some(wait) => fault.retry_after(wait),
            None => fault,
        })
    }
}

/// An answer.
pub struct Answer {
    whom: &'static str,
    /// Its status, below 500 and not 429.
    pub status: u16,
    body: Zeroizing<Vec<u8>>,
}

impl Answer {
    /// Whether it says that the call was carried out.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Its text, for telling kinds apart; never to be shown.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or_default()
    }

    /// Its JSON.
    ///
    /// # Errors
    /// When it is something else.
    pub fn json(&self) -> Result<Value, Fault> {
        serde_json::from_slice(&self.body)
            .map_err(|_| invalid(self.whom, "the answer is not what it promises"))
    }

    /// What a refusal means that the caller does not know better; `doing` says what was refused.
    pub fn refusal(&self, doing: &str) -> Fault {
        let whom = self.whom;
        let (reason, why) = match self.status {
            401 => (Reason::Unauthenticated, "refuses the login"),
            403 => (Reason::Forbidden, "forbids it"),
            404 => (Reason::NotFound, "does not know it"),
            300..=399 => (Reason::Invalid, "redirects, which is not followed"),
            _ => (Reason::Invalid, "refuses it as malformed"),
        };
        Fault::new(reason, format!("{doing}: {whom} {why} (status {})", self.status))
    }
}

fn invalid(whom: &str, detail: &str) -> Fault {
    Fault::new(Reason::Invalid, format!("{whom}: {detail}"))
}

fn transport(whom: &str, error: &reqwest::Error) -> Fault {
    if error.is_timeout() {
        Fault::new(Reason::Timeout, format!("{whom} did not answer in time"))
    } else if error.is_connect() {
        Fault::new(Reason::Unavailable, format!("no connection to {whom}"))
    } else {
        Fault::new(Reason::Unavailable, format!("the connection to {whom} broke off"))
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

/// A short name that another system gave, fit to be shown: plain characters only.
pub(crate) fn shown(name: &str) -> String {
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    name.chars().filter(plain).take(64).collect()
}
