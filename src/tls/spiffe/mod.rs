//! Certificates from the SPIFFE Workload API: X.509-SVIDs, told on a stream that stays open.
//!
//! Invariants: the endpoint is asked again with full jitter whenever the stream ends or an answer can't be used, and what
//! was in force last stays so meanwhile; an answer counts whole, foreign trust domains aside, or not at all; the application's files are written before the server's
//! certificate changes, so that its clients know the authorities of what they are shown.

mod answer;
#[allow(missing_docs, unreachable_pub, clippy::pedantic, clippy::all, reason = "generated")]
mod wire {
    include!(concat!(env!("OUT_DIR"), "/spiffe/_.rs"));
}

use std::{error::Error, path::PathBuf, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::{client::verify_server_name, pki_types::ServerName, server::ParsedCertificate};
use tokio::{
    net::UnixStream,
    time::{Instant, sleep, timeout},
};
use tonic::{
    Code, Request, Status, Streaming,
    metadata::MetadataValue,
    transport::{Endpoint, Uri},
};
use tower::service_fn;

use self::{
    answer::{Answer, Svid},
    wire::{
        X509svidRequest, X509svidResponse, spiffe_workload_api_client::SpiffeWorkloadApiClient,
    },
};
use super::{
    LiveTls, Material, TlsError,
    client_files::ClientFiles,
    pem,
    trust::{self, Certificates},
};
use crate::domain::time::Jitter;

/// What each call carries, so that no caller can be made to call by a redirect.
const SECURITY_HEADER: &str = "workload.spiffe.io";
/// The time for the first answer of a stream: an agent may have to find out first what a new container is.
const OPENING: Duration = Duration::from_mins(1);
/// The longest first wait before the endpoint is asked again; it doubles with each failure.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The longest wait.
const LAST_WAIT: Duration = Duration::from_secs(15);

/// What is asked of the Workload API, and what for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The endpoint's socket.
    pub endpoint: PathBuf,
    /// The SPIFFE ID or the hint of the SVID that serves; the first of all when absent.
    pub svid: Option<String>,
    /// The SPIFFE ID or the hint of the application's SVID; that which serves when absent.
    pub client_svid: Option<String>,
    /// Where the application's SVID is written; nowhere when absent.
    pub files: Option<ClientFiles>,
    /// The DNS name that clients check.
    pub server_name: ServerName<'static>,
}

/// SVIDs of an endpoint.
pub struct Svids {
    plan: Plan,
    jitter: Jitter,
    stream: Option<Open>,
    longest: Duration,
    /// What was told of the outage that lasts.
    told: Option<String>,
}

struct Open {
    answers: Streaming<X509svidResponse>,
    first: Option<X509svidResponse>,
    since: Instant,
}

impl Svids {
    /// SVIDs by this plan; nothing is asked yet.
    pub const fn new(plan: Plan, jitter: Jitter) -> Self {
        Self { plan, jitter, stream: None, longest: Duration::ZERO, told: None }
    }

    /// Waits for the first SVID.
    ///
    /// # Errors
    /// What stood against it last, when there is none in time.
    pub async fn first(&mut self, within: Duration) -> Result<Material, TlsError> {
        let mut why = "it did not answer".to_owned();
        let first = async {
            loop {
                match self.next().await {
                    Ok(material) => return material,
                    Err(error) => {
                        tracing::warn!(%error, "waiting for the first SVID");
                        why = error.to_string();
                    }
                }
            }
        };
        let first = timeout(within, first).await;
        let within = within.as_secs();
        first.map_err(|_| TlsError::Issue(format!("no SVID within {within} seconds: {why}")))
    }

    /// Puts each new answer in force, for ever.
    pub async fn run(mut self, live: &LiveTls) {
        loop {
            live.offer(self.next().await);
        }
    }

    /// The next answer that can be used, or what stands against one; that is told once, and again when it changes.
    async fn next(&mut self) -> Result<Material, TlsError> {
        loop {
            let heard = self.hear().await.map_err(TlsError::Issue);
            let error = match heard.and_then(|answer| self.plan.carry_out(answer)) {
                Ok(material) => {
                    self.told = None;
                    return Ok(material);
                }
                Err(error) => error,
            };
            // What can't be used, or can't be written now, is asked for again.
            self.stream = None;
            let why = error.to_string();
            if self.told.as_ref() == Some(&why) {
                tracing::debug!(why, "the Workload API still gives no SVID");
            } else {
                self.told = Some(why);
                return Err(error);
            }
        }
    }

    /// What the stream says next; opens it where there is none.
    async fn hear(&mut self) -> Result<X509svidResponse, String> {
        let open = match &mut self.stream {
            Some(open) => open,
            none => {
                sleep(self.jitter.spread(self.longest, 0.0, 1.0)).await;
                self.longest = (self.longest * 2).clamp(FIRST_WAIT, LAST_WAIT);
                none.insert(self.plan.open().await?)
            }
        };
        if let Some(first) = open.first.take() {
            return Ok(first);
        }
        let answer = open.answers.message().await;
        if open.since.elapsed() > LAST_WAIT {
            self.longest = FIRST_WAIT;
        }
        match answer {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(self.plan.unheard("it ended the stream")),
            Err(status) => Err(self.plan.explain(&status)),
        }
    }
}

impl Plan {
    async fn open(&self) -> Result<Open, String> {
        let opening = async {
            let socket = self.endpoint.clone();
            let connect = service_fn(move |_: Uri| {
                let socket = socket.clone();
                async move { UnixStream::connect(socket).await.map(TokioIo::new) }
            });
            // Without pings: an agent takes those of an idle stream for an attack.
            let channel = Endpoint::from_static("http://localhost")
                .connect_with_connector(connect)
                .await
                .map_err(|error| self.unheard(&innermost(&error)))?;
            let mut request = Request::new(X509svidRequest {});
            request.metadata_mut().insert(SECURITY_HEADER, MetadataValue::from_static("true"));
            let mut api = SpiffeWorkloadApiClient::new(channel);
            let answers = api.fetch_x509svid(request).await.map_err(|s| self.explain(&s))?;
            let mut answers = answers.into_inner();
            let first = answers.message().await.map_err(|s| self.explain(&s))?;
            let first = first.ok_or_else(|| self.unheard("it ended the stream at once"))?;
            Ok(Open { answers, first: Some(first), since: Instant::now() })
        };
        let late = |_| Err(self.unheard("it does not answer in time"));
        timeout(OPENING, opening).await.unwrap_or_else(late)
    }

    /// Material for the server, after the application's files were written.
    fn carry_out(&self, response: X509svidResponse) -> Result<Material, TlsError> {
        let Answer { svids, bundles, crls } = Answer::read(response)?;
        let callers = trust::by_domain(bundles, &crls)?;
        let svid = svids.named(self.svid.as_deref())?;
        let material = Material { chain: svid.chain.clone(), key: svid.pair()?, callers };
        let is_named = self.is_named(svid);
        if let Some(files) = &self.files {
            is_named?;
            let client = svids.named(self.client_svid.as_deref().or(self.svid.as_deref()))?;
            write(files, client, svid)?;
        } else if let Err(error) = is_named {
            tracing::warn!(%error, "clients that check a name refuse it");
        }
        tracing::info!(svid = svid.id, "the Workload API answered");
        Ok(material)
    }

    /// Whether the SVID has the name that clients check: a SPIFFE ID is none.
    fn is_named(&self, svid: &Svid) -> Result<(), TlsError> {
        let leaf = svid.chain.first().map(ParsedCertificate::try_from);
        let name = &self.server_name;
        match leaf {
            Some(Ok(leaf)) if verify_server_name(&leaf, name).is_ok() => Ok(()),
            _ => Err(TlsError::Issue(format!(
                "the SVID {} has no DNS name `{}`, which clients check: add it to the registration entry \
                 (`spire-server entry create -dns`, `dnsNames`)",
                svid.id,
                name.to_str()
            ))),
        }
    }

    fn unheard(&self, why: &str) -> String {
        let endpoint = self.endpoint.display();
        let why = why.replace(char::is_control, " ");
        format!("the Workload API at unix://{endpoint} can't be heard: {why}")
    }

    fn explain(&self, status: &Status) -> String {
        let endpoint = self.endpoint.display();
        match status.code() {
            Code::PermissionDenied => format!(
                "the Workload API at unix://{endpoint} has no identity for this process: register an entry that \
                 selects it"
            ),
            code => self.unheard(&format!("{code}: {}", status.message())),
        }
    }
}

/// Writes the certificate of `client` for the application, and who vouches for `server`.
fn write(files: &ClientFiles, client: &Svid, server: &Svid) -> Result<(), TlsError> {
    let certificates =
        |all: &Certificates| pem::encode("CERTIFICATE", all.iter().map(AsRef::as_ref));
    client.pair()?;
    let key = pem::encode("PRIVATE KEY", [client.key.secret_pkcs8_der()]);
    files.write(&certificates(&server.bundle), &certificates(&client.chain), &key)
}

/// What the system said in the end.
fn innermost(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}
