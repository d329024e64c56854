//! A server of the SPIFFE Workload API on a Unix socket: it streams what it is told to, and refuses whoever does not
//! send the security header.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use futures_util::stream::{self, BoxStream, StreamExt};
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject,
};
use tokio::{
    net::UnixListener,
    sync::{oneshot, watch},
};
use tonic::{Request, Response, Status, transport::Server};

use self::wire::{
    X509svid, X509svidRequest, X509svidResponse,
    spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer},
};

#[allow(clippy::all, clippy::pedantic, reason = "generated")]
mod wire {
    include!(concat!(env!("OUT_DIR"), "/spiffe-server/_.rs"));
}

/// What a workload is given: an identity, in PEM form.
pub struct Svid {
    pub id: String,
    pub hint: &'static str,
    /// Leaf first.
    pub chain: String,
    pub key: String,
    /// The authorities of its trust domain.
    pub bundle: String,
}

/// What the server says to all who ask, now and from now on.
#[derive(Clone, Default)]
pub struct Answer(X509svidResponse);

impl Answer {
    pub fn of(svids: impl IntoIterator<Item = Svid>) -> Self {
        let svid = |svid: Svid| X509svid {
            spiffe_id: svid.id,
            hint: svid.hint.to_owned(),
            x509_svid: der(&svid.chain),
            x509_svid_key: PrivateKeyDer::from_pem_slice(svid.key.as_bytes())
                .expect("a key")
                .secret_der()
                .to_vec(),
            bundle: der(&svid.bundle),
        };
        Self(X509svidResponse {
            svids: svids.into_iter().map(svid).collect(),
            crl: Vec::new(),
            federated_bundles: HashMap::new(),
        })
    }

    /// The authorities of a foreign trust domain, too.
    pub fn federated(mut self, domain: &str, bundle: &str) -> Self {
        self.0.federated_bundles.insert(format!("spiffe://{domain}"), der(bundle));
        self
    }

    /// A revocation list, too.
    pub fn revoking(mut self, list: &str) -> Self {
        let list = CertificateRevocationListDer::from_pem_slice(list.as_bytes()).expect("a list");
        self.0.crl.push(list.to_vec());
        self
    }

    /// The same with a part that is none.
    pub fn torn(mut self) -> Self {
        for svid in &mut self.0.svids {
            svid.x509_svid.pop();
        }
        self
    }

    /// The same with the key of another certificate.
    pub fn mixed_up(mut self, key_of: &Svid) -> Self {
        let key = PrivateKeyDer::from_pem_slice(key_of.key.as_bytes()).expect("a key");
        self.0.svids[0].x509_svid_key = key.secret_der().to_vec();
        self
    }
}

/// Certificates in PEM form → in DER form, one after the other.
fn der(pem: &str) -> Vec<u8> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .flat_map(|one| one.expect("PEM").to_vec())
        .collect()
}

#[derive(Clone)]
struct Api {
    /// `None` while nobody has an identity.
    answer: watch::Receiver<Option<Answer>>,
    asked: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for Api {
    type FetchX509SVIDStream = BoxStream<'static, Result<X509svidResponse, Status>>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let header = request.metadata().get("workload.spiffe.io");
        if header.is_none_or(|value| value != "true") {
            return Err(Status::invalid_argument("security header missing from request"));
        }
        let mut answer = self.answer.clone();
        answer.mark_changed();
        let answers = stream::unfold(answer, |mut answer| async {
            answer.changed().await.ok()?;
            let said = answer.borrow_and_update().clone();
            let none = || Status::permission_denied("no identity issued");
            Some((said.map(|answer| answer.0).ok_or_else(none), answer))
        });
        Ok(Response::new(answers.boxed()))
    }
}

/// The server. It can be killed and started again at its socket.
pub struct WorkloadApi {
    socket: PathBuf,
    answer: watch::Sender<Option<Answer>>,
    asked: Arc<AtomicUsize>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl WorkloadApi {
    /// One that has no identity for anybody yet.
    pub fn start(socket: &Path) -> Self {
        let (answer, asked) = (watch::Sender::new(None), Arc::default());
        let mut it = Self { socket: socket.to_owned(), answer, asked, running: None };
        it.run();
        it
    }

    /// Says this to all from now on.
    pub fn say(&self, answer: Answer) {
        self.answer.send_replace(Some(answer));
    }

    /// Takes all identities away.
    pub fn deny(&self) {
        self.answer.send_replace(None);
    }

    /// How many streams were asked for.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Starts it again.
    pub fn run(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
        let socket = std::os::unix::net::UnixListener::bind(&self.socket).expect("a socket");
        // Whoever reaches it is told by the agent who it is.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(&self.socket, open).expect("a mode");
        socket.set_nonblocking(true).expect("it");
        let api = Api { answer: self.answer.subscribe(), asked: Arc::clone(&self.asked) };
        let (stop, stopped) = oneshot::channel();
        // A runtime of its own, with which all of its connections end.
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let socket = UnixListener::from_std(socket).expect("a listener");
                let callers = stream::unfold(socket, |socket| async {
                    Some((socket.accept().await.map(|(stream, _)| stream), socket))
                });
                let server = Server::builder().add_service(SpiffeWorkloadApiServer::new(api));
                tokio::select! {
                    _ = stopped => {}
                    ended = server.serve_with_incoming(callers) => ended.expect("it serves"),
                }
            });
        });
        self.running = Some((stop, thread));
    }

    /// Ends it and all its connections at once.
    pub fn kill(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            let _ = stop.send(());
            thread.join().expect("it ended");
            let _ = std::fs::remove_file(&self.socket);
        }
    }
}

impl Drop for WorkloadApi {
    fn drop(&mut self) {
        self.kill();
    }
}
