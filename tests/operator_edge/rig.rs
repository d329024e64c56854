//! An operator over real TLS, and callers with certificates of their own.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rcgen::SanType;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use secret_broker::{
    app::clock::SystemClock,
    audit::AuditLog,
    broker::{observe::Unobserved, ports::Clock},
    config::{AuditSink, Limits},
    domain::{
        policy::{Grant, Pattern, Policy, Verb},
        rotation::RotationId,
        workload::Workload,
    },
    rotation::{
        engine::{self, Engine, Surroundings},
        ports::Readers,
        service::{Service, Waker},
    },
    server::{
        listener::Listener,
        operator::{
            Caller, FeedLimits, Operator, Parts, Services, Sidecars,
            proto::{
                rotation_feed_client::RotationFeedClient,
                secret_operator_client::SecretOperatorClient,
            },
        },
    },
    tls::{LiveTls, Material, trust},
};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tonic::{
    Code, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Identity},
};
use tonic_types::StatusExt;

use crate::{
    pki::Authority,
    world::{Alone, Paper, People, Target, Tokens},
};

pub const ANN: &str = "spiffe://test/people/ann";
pub const BOB: &str = "spiffe://test/people/bob";
pub const EVE: &str = "spiffe://test/people/eve";
/// May look and validate, and nothing else.
pub const GUEST: &str = "spiffe://test/people/guest";
pub const SIDECAR: &str = "spiffe://test/ns/shop/sa/api";

pub struct Rig {
    authority: Authority,
    address: String,
    pub operator: Arc<Operator>,
    pub engine: Arc<Engine>,
    pub sidecars: Arc<Sidecars>,
    pub paper: Arc<Paper>,
    pub people: Arc<People>,
    pub tokens: Arc<Tokens>,
    pub targets: BTreeMap<&'static str, Arc<Target>>,
    pub stop: watch::Sender<bool>,
    pub leading: watch::Sender<bool>,
    waker: Arc<Waker>,
    directory: TempDir,
    tasks: JoinSet<()>,
}

/// Bounds of an operator that has been running for long.
pub fn feed() -> FeedLimits {
    FeedLimits { gathering: Duration::ZERO, ..FeedLimits::default() }
}

fn limits() -> Limits {
    Limits {
        connections: 1000,
        handshakes: 1000,
        handshake_timeout: Duration::from_secs(10),
        streams_per_connection: 100,
        waiting_calls: 100,
        watches: 4,
        request_bytes: 64 * 1024,
        names: 10,
        deadline: Duration::from_secs(10),
        keepalive: Duration::from_secs(30),
    }
}

pub fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().copied().map(Pattern::new).collect()
}

fn policy() -> Policy {
    let grant =
        |identities: &[&str], secrets: &[&str], categories: &[&str], verbs: &[Verb]| Grant {
            identities: patterns(identities),
            secrets: patterns(secrets),
            categories: patterns(categories),
            verbs: verbs.to_vec(),
        };
    let all = [
        Verb::View,
        Verb::Rotate,
        Verb::Rollback,
        Verb::Compromise,
        Verb::Approve,
        Verb::BreakGlass,
        Verb::Validate,
    ];
    Policy(vec![
        grant(&[ANN, BOB], &["**"], &[], &all),
        grant(&[GUEST], &["DB"], &[], &[Verb::View, Verb::Validate]),
        grant(&["spiffe://test/ns/shop/sa/*"], &[], &["database"], &[Verb::Follow]),
    ])
}

fn name(now: jiff::Timestamp) -> RotationId {
    RotationId(format!("id-{}", now.as_nanosecond()))
}

impl Rig {
    pub async fn start() -> Self {
        Self::with(feed()).await
    }

    pub async fn with(feed: FeedLimits) -> Self {
        crate::hygiene::listen();
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let directory = tempfile::tempdir().unwrap();
        let (paper, people, tokens) =
            (Arc::<Paper>::default(), Arc::<People>::default(), Arc::<Tokens>::default());
        let targets = BTreeMap::from([
            ("DB", Target::new("secret/data/db", false)),
            ("KEY", Target::new("secret/data/key", false)),
            ("HOOK", Target::new("secret/data/hook", true)),
        ]);
        let managed = |name: &str, category, approval| {
            (name.parse().unwrap(), targets[name].managed(category, approval))
        };
        let catalogue = [
            managed("DB", "database", false),
            managed("KEY", "application", true),
            managed("HOOK", "monitoring", false),
        ];
        let sidecars = Sidecars::new(feed, Arc::clone(&clock));
        let around = Surroundings {
            journal: Arc::clone(&paper) as _,
            readers: Arc::clone(&sidecars) as Arc<dyn Readers>,
            alerts: Arc::clone(&people) as _,
            records: Arc::clone(&people) as _,
            clock: Arc::clone(&clock),
        };
        let bounds =
            engine::Limits { claim: Duration::from_secs(30), step: Duration::from_secs(9) };
        let engine = Engine::new(catalogue.into(), around, bounds, "operator".into(), 7);
        let engine = Arc::new(engine);
        let sink = AuditSink::File(directory.path().join("audit.log"));
        let audit = Arc::new(AuditLog::open(sink, Arc::clone(&clock)).unwrap());
        let (stop, stopped) = watch::channel(false);
        let waker = Arc::new(Waker::default());
        let leading = watch::Sender::new(true);
        let operator = Operator::new(Parts {
            engine: Arc::clone(&engine),
            sidecars: Arc::clone(&sidecars),
            glass: Some(Arc::clone(&tokens) as _),
            policy: policy(),
            audit,
            waker: Arc::clone(&waker),
            name,
            limits: limits(),
            patience: Duration::from_secs(30),
            stop: stopped.clone(),
            leading: leading.subscribe(),
        });
        let mut tasks = JoinSet::new();
        let authority = Authority::new("the authority");
        let address = serve(&operator, &authority, clock, stopped, &mut tasks).await;
        Self {
            authority,
            address,
            operator,
            engine,
            sidecars,
            paper,
            people,
            tokens,
            targets,
            stop,
            leading,
            waker,
            directory,
            tasks,
        }
    }

    /// Drives rotations from now on.
    pub async fn drive(&mut self) {
        let (engine, waker) = (Arc::clone(&self.engine), Arc::clone(&self.waker));
        let service = Service::new(engine, Arc::new(Alone), Arc::new(()), waker, name);
        let mut leading = service.leading();
        self.tasks.spawn(async move { service.run().await });
        leading.wait_for(|leads| *leads).await.unwrap();
    }

    /// A connection of its own.
    pub async fn channel(&self, identity: &str) -> Channel {
        let uri = identity.to_owned();
        let leaf = self.authority.client_with(|params| {
            params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        });
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.authority.pem))
            .identity(Identity::from_pem(leaf.cert, leaf.key));
        let endpoint = Channel::from_shared(self.address.clone()).unwrap();
        endpoint.tls_config(tls).unwrap().connect().await.unwrap()
    }

    pub async fn person(&self, identity: &str) -> SecretOperatorClient<Channel> {
        SecretOperatorClient::new(self.channel(identity).await)
    }

    pub async fn sidecar(&self, identity: &str) -> RotationFeedClient<Channel> {
        RotationFeedClient::new(self.channel(identity).await)
    }

    /// A caller in the same process.
    pub fn local(identity: &str) -> Arc<Caller> {
        Arc::new(Caller::new(&Workload::Spiffe(identity.to_owned())))
    }

    pub fn audit_text(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("audit.log")).unwrap()
    }

    pub fn audit(&self) -> Vec<serde_json::Value> {
        self.audit_text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Serves an operator, and returns its address.
async fn serve(
    operator: &Arc<Operator>,
    authority: &Authority,
    clock: Arc<dyn Clock>,
    stopped: watch::Receiver<bool>,
    tasks: &mut JoinSet<()>,
) -> String {
    let (health, _) = tonic_health::server::health_reporter();
    let page = Arc::new(|_: &str| hyper::Response::new("metrics".to_owned()));
    let observer = Arc::new(Unobserved);
    let services = Services::new(Arc::clone(operator), health, true, page, observer).unwrap();
    let (observer, drain) = (Arc::new(Unobserved), Duration::from_secs(5));
    let listener = Listener::new(services, limits(), drain, clock, observer, stopped);
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://localhost:{}", socket.local_addr().unwrap().port());
    let tls = Arc::new(LiveTls::new(material(authority)).unwrap());
    tasks.spawn(listener.serve_tls(socket, tls));
    address
}

fn material(authority: &Authority) -> Material {
    let server = authority.server();
    Material {
        chain: vec![CertificateDer::from_pem_slice(server.cert.as_bytes()).unwrap()],
        key: PrivateKeyDer::from_pem_slice(server.key.as_bytes()).unwrap(),
        callers: trust::by_any(
            vec![CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()],
            Vec::new(),
        )
        .unwrap(),
    }
}

/// The machine-readable reason of a status.
pub fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

pub fn refused<T>(result: Result<T, Status>, code: Code, why: &str) -> Status {
    let status = result.err().expect("a refusal");
    assert_eq!((status.code(), reason(&status).as_str()), (code, why), "{status:?}");
    status
}

/// Waits until something holds, at most 10 seconds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "not within 10 s: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
