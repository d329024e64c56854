//! Calls to Vault over one HTTP client, every one of them within the budget.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use reqwest::{
    Method, StatusCode, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::sleep,
};
use vaultrs::{
    api::EndpointMiddleware,
    client::{VaultClient, VaultClientSettings},
    error::ClientError,
};

use super::{
    SetupError,
    fault::{self, Doing},
};
use crate::{
    broker::ports::{CallObserver, Clock},
    config,
    domain::{
        budget::{Admission, Budget},
        fault::{Fault, Reason},
        secret::SecretValue,
        time::{Jitter, Moment},
    },
    files::FileWatch,
};

/// The largest answer that is read, in bytes.
const ANSWER_BYTES: usize = 1024 * 1024;
/// From here on a wait for the budget is one to tell of.
const HELD_BACK: Duration = Duration::from_millis(1);
/// How long a connection stays open for the next call.
const IDLE_TIME: Duration = Duration::from_secs(1);
/// Redirects that are followed: from a standby to the active server.
const REDIRECTS: usize = 2;

/// Vault's answer with the lease that `vaultrs` leaves out.
#[derive(Default, Deserialize)]
pub(super) struct Envelope {
    #[serde(default)]
    pub(super) lease_id: String,
    #[serde(default)]
    pub(super) lease_duration: u64,
    #[serde(default)]
    pub(super) renewable: bool,
    #[serde(default)]
    pub(super) data: Option<Value>,
    #[serde(default)]
    pub(super) auth: Option<Value>,
}

#[derive(Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<String>,
}

/// One call.
pub(super) struct Call<'a> {
    pub(super) operation: &'static str,
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) body: Option<Value>,
    pub(super) doing: Doing,
}

/// The HTTP side of one Vault server.
pub(super) struct Client {
    http: ArcSwap<reqwest::Client>,
    settings: HttpSettings,
    files: Option<FileWatch>,
    address: Url,
    namespace: Option<String>,
    timeout: Duration,
    budget: Mutex<Budget>,
    in_flight: Semaphore,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn CallObserver>,
}

impl Client {
    pub(super) fn new(
        vault: &config::Vault,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn CallObserver>,
        jitter: Jitter,
    ) -> Result<Self, SetupError> {
        let mut address = Url::parse(&vault.address)
            .map_err(|_| SetupError("vault.address is not a URL".into()))?;
        let mut resolver = None;
        if let Some(name) = &vault.server_name {
            let host = address.host_str().unwrap_or_default().to_owned();
            address
                .set_host(Some(name))
                .map_err(|_| SetupError("vault.server_name is not a host name".into()))?;
            resolver = Some(Arc::new(Fixed { host: host.into() }));
        }
        let settings = HttpSettings {
            timeout: vault.timeout,
            plain: address.scheme() == "http",
            resolver,
            ca: vault.ca.clone(),
            client_cert: vault.client_cert.clone(),
        };
        let files = settings.watch();
        let http = ArcSwap::from_pointee(settings.build()?);
        Ok(Self {
            http,
            settings,
            files,
            address,
            namespace: vault.namespace.clone(),
            timeout: vault.timeout,
            budget: Mutex::new(Budget::new(vault.budget, jitter)),
            in_flight: Semaphore::new(vault.in_flight),
            clock,
            observer,
        })
    }

    /// Takes over new authorities and client certificates as their files change. Runs for ever;
    /// broken files leave what was there before in force.
    pub(super) async fn follow_files(&self) {
        let Some(files) = &self.files else { return std::future::pending().await };
        loop {
            files.changed().await;
            match self.settings.build() {
                Ok(http) => {
                    self.http.store(Arc::new(http));
                    tracing::info!("certificates for Vault taken over");
                }
                Err(error) => tracing::error!(%error, "certificates for Vault stay as they were"),
            }
        }
    }

    /// Why Vault as a whole can't be used now, as far as is known.
    pub(super) fn outage(&self) -> Option<Reason> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner).outage()
    }

    /// Makes a call with a token, and reads the whole answer.
    pub(super) async fn call(
        &self,
        token: &SecretValue,
        call: Call<'_>,
    ) -> Result<Envelope, Fault> {
        let mut url = self.address.clone();
        url.set_path(&format!("/v1/{}", call.path));
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(call.query);
        }
        self.spend(call.operation, async {
            let mut token =
                reqwest::header::HeaderValue::from_bytes(token.expose()).map_err(|_| {
                    Fault::new(Reason::Unauthenticated, "the token is not one that Vault gives")
                })?;
            token.set_sensitive(true);
            let http = self.http.load_full();
            let mut request = http
                .request(call.method, url)
                .header("X-Vault-Token", token)
                .header("X-Vault-Request", "true");
            if let Some(namespace) = &self.namespace {
                request = request.header("X-Vault-Namespace", namespace);
            }
            if let Some(body) = &call.body {
                request = request.json(body);
            }
            let response = request.send().await.map_err(|error| fault::transport(&error))?;
            read(response, call.doing).await
        })
        .await
    }

    /// Makes a call of the client library, with the token if there is one.
    pub(super) async fn library<T, F>(
        &self,
        operation: &'static str,
        token: Option<&SecretValue>,
        doing: Doing,
        call: impl FnOnce(VaultClient) -> F,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, ClientError>> + Send,
    {
        let call = call(self.vaultrs(token));
        // Boxed: the budget's code is there once, and not once for each kind of call.
        let call = call.map(move |result| result.map_err(|error| fault::library(&error, doing)));
        self.spend(operation, call.boxed()).await
    }

    fn vaultrs(&self, token: Option<&SecretValue>) -> VaultClient {
        let token = token.map(|token| String::from_utf8_lossy(token.expose()).into_owned());
        let token = token.unwrap_or_default();
        let settings = VaultClientSettings {
            address: self.address.clone(),
            ca_certs: Vec::new(),
            identity: None,
            timeout: None,
            token: String::new(),
            verify: true,
            version: 1,
            wrapping: false,
            namespace: self.namespace.clone(),
            proxy: None,
        };
        let middle = EndpointMiddleware {
            token,
            wrap: None,
            version: "v1".to_owned(),
            namespace: self.namespace.clone(),
        };
        let base = self.address.as_str().trim_end_matches('/');
        let http = rustify::clients::reqwest::Client::new(base, self.http.load().as_ref().clone());
        VaultClient { http, middle, settings }
    }

    /// A place among the secrets' calls in flight. Each call ends by its own timeout, so the turn of
    /// every other one comes.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        let asked = self.clock.now();
        let place = self.in_flight.acquire().await;
        self.tell_wait(asked);
        // The semaphore is never closed.
        place.ok()
    }

    fn tell_wait(&self, asked: Moment) {
        let wait = self.clock.now() - asked;
        if wait >= HELD_BACK {
            self.observer.waited(wait);
        }
    }

    /// Spends one call of the budget: waits for it at most as long as a call may take.
    async fn spend<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let asked = self.clock.now();
        let patience = asked + self.timeout;
        loop {
            let now = self.clock.now();
            let admission = self.budget.lock().unwrap_or_else(PoisonError::into_inner).admit(now);
            match admission {
                Admission::Go => break,
                Admission::Refused(fault) => return Err(fault),
                Admission::Wait(wait) if now + wait > patience => {
                    let what = "the broker's own budget of calls to Vault is spent (vault.budget)";
                    return Err(Fault::new(Reason::Throttled, what).retry_after(wait));
                }
                Admission::Wait(wait) => sleep(wait).await,
            }
        }
        let started = self.clock.now();
        self.tell_wait(asked);
        let result = call.await;
        let now = self.clock.now();
        let fault = result.as_ref().err();
        self.budget.lock().unwrap_or_else(PoisonError::into_inner).completed(now, fault);
        self.observer.called(operation, fault.map(|fault| fault.reason), now - started);
        result
    }
}

/// What an HTTP client for Vault is built from, again whenever one of its files changes.
struct HttpSettings {
    timeout: Duration,
    plain: bool,
    resolver: Option<Arc<Fixed>>,
    ca: Option<PathBuf>,
    client_cert: Option<(PathBuf, PathBuf)>,
}

impl HttpSettings {
    /// A watch on the files, if there are any.
    fn watch(&self) -> Option<FileWatch> {
        let pair = self.client_cert.iter().flat_map(|(cert, key)| [cert, key]);
        let paths = self.ca.iter().chain(pair).cloned().collect::<Vec<_>>();
        (!paths.is_empty()).then(|| FileWatch::new(paths))
    }

    fn build(&self) -> Result<reqwest::Client, SetupError> {
        let mut http = reqwest::Client::builder()
            .tls_backend_rustls()
            .timeout(self.timeout)
            // The buffers of a connection keep what was read last for as long as it is open.
            .pool_idle_timeout(IDLE_TIME)
            .redirect(redirect::Policy::custom(follow));
        if let Some(path) = &self.ca {
            let setup = |what: &dyn std::fmt::Display| {
                SetupError(format!("vault.ca {}: {what}", path.display()))
            };
            let pem = fs::read(path).map_err(|error| setup(&error))?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|_| setup(&"holds no certificates in PEM form"))?;
            http = http.tls_certs_only(certificates);
        }
        if self.plain {
            // No system authorities are needed, so none are loaded.
            http = http.tls_certs_only([]);
        }
        if let Some((cert, key)) = &self.client_cert {
            let read = |path: &Path| {
                fs::read(path).map_err(|error| SetupError(format!("{}: {error}", path.display())))
            };
            let pem = zeroize::Zeroizing::new([read(cert)?, read(key)?].concat());
            let identity = reqwest::Identity::from_pem(&pem).map_err(|_| {
                SetupError("vault.client_cert and vault.client_key are not a certificate and its key in PEM form".into())
            })?;
            http = http.identity(identity);
        }
        if let Some(resolver) = &self.resolver {
            http = http.dns_resolver(Arc::clone(resolver));
        }
        http.build().map_err(|_| SetupError("the HTTP client for Vault can't be made".into()))
    }
}

/// Reads an answer of bounded size.
async fn read(mut response: reqwest::Response, doing: Doing) -> Result<Envelope, Fault> {
    let status = response.status();
    let wait = response
        .headers()
        .get("retry-after")
        .and_then(|wait| wait.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    let mut body = zeroize::Zeroizing::new(Vec::new());
    while let Some(chunk) = response.chunk().await.map_err(|error| fault::transport(&error))? {
        if body.len() + chunk.len() > ANSWER_BYTES {
            return Err(Fault::new(Reason::Invalid, "the answer is larger than 1 MiB"));
        }
        body.extend_from_slice(&chunk);
    }
    if status == StatusCode::NO_CONTENT {
        return Ok(Envelope::default());
    }
    if status.is_success() {
        return serde_json::from_slice(&body).map_err(|_| fault::garbled());
    }
    if status == StatusCode::NOT_FOUND
        && doing == Doing::Read
        && let Ok(envelope) = serde_json::from_slice::<Envelope>(&body)
        && envelope.data.is_some()
    {
        // A version that was deleted: its labels and those of its path are still told.
        return Ok(envelope);
    }
    let said = serde_json::from_slice::<Errors>(&body).map(|e| e.errors.join(" "));
    Err(fault::status(status.as_u16(), &said.unwrap_or_default(), wait, doing))
}

/// Follows a standby's redirect to the active server, but never from TLS to plain text.
fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let from = attempt.previous().first().map(|url| url.scheme().to_owned());
    let same = from.as_deref() == Some(attempt.url().scheme());
    if same && attempt.previous().len() <= REDIRECTS { attempt.follow() } else { attempt.stop() }
}

/// Resolves every name to the address that was configured, so that the certificate can carry
/// another name than the address.
struct Fixed {
    host: Arc<str>,
}

impl Resolve for Fixed {
    fn resolve(&self, _: Name) -> Resolving {
        let host = Arc::clone(&self.host);
        Box::pin(async move {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(Box::new(found.collect::<Vec<SocketAddr>>().into_iter()) as Addrs)
        })
    }
}
