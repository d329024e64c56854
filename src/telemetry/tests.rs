//! What operators see, and what they must never see.

use std::{
    io,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tracing_subscriber::fmt::MakeWriter;

use super::{
    events::{AuditFailed, CertificateLoaded, ConfigRefused, HandshakeFailed, VaultCalled},
    *,
};
use crate::{
    broker::{
        observe::{Lasting, Observer},
        ports::{Clock, Origin},
    },
    config::{Config, LogFormat, Telemetry},
    domain::{
        fault::{Fault, Reason},
        life::{Change, Issued, Lease, Lifetime, Predecessor, Renewed, State},
        secret::{Fields, Generation, SecretValue, Version},
        time::Moment,
    },
};

const PLANTED: &str = "planted-value-9f3";

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// What is logged while `work` runs.
fn logged(filter: &str, log_format: LogFormat, work: impl FnOnce(&Logs)) -> String {
    let lines = Lines::default();
    let settings = Telemetry { log_filter: filter.to_owned(), log_format, http: None };
    let (subscriber, logs) = logs::subscriber(&settings, false, lines.clone()).unwrap();
    tracing::subscriber::with_default(subscriber, || work(&logs));
    lines.text()
}

#[test]
fn crates_that_print_bodies_are_never_heard_and_those_that_print_frames_only_when_they_warn() {
    for format in [LogFormat::Text, LogFormat::Json] {
        let text = logged("trace,vaultrs=trace,rustify=trace,h2=trace", format, |_| {
            let span = tracing::error_span!(target: "rustify::client", "execute", body = PLANTED);
            span.in_scope(|| tracing::info!("ours within theirs"));
            tracing::error!(target: "vaultrs::api", body = PLANTED, "parse error");
            tracing::error!(target: "vaultrs", body = PLANTED, "parse error");
            tracing::error!(target: "rustify", body = PLANTED, "parse error");
            tracing::debug!(target: "h2::codec", header = PLANTED, "frame");
            tracing::info!(target: "hyper_util::client", header = PLANTED, "connect");
            tracing::warn!(target: "h2", "theirs");
            tracing::trace!(target: "secret_broker::x", "ours");
            tracing::info!(target: "h2o", "another's");
        });
        assert!(!text.contains(PLANTED), "{text}");
        for heard in ["ours within theirs", "theirs", "ours", "another's"] {
            assert!(text.contains(heard), "{heard}: {text}");
        }
    }
}

#[test]
fn the_filter_changes_while_running_and_a_wrong_one_changes_nothing() {
    let text = logged("warn", LogFormat::Text, |logs| {
        tracing::info!("one");
        logs.filter("info").unwrap();
        tracing::info!("two");
        assert_eq!(logs.filter("a=b=c"), Err(logs::InvalidFilter));
        tracing::info!("three");
        tracing::debug!("four");
    });
    let heard = ["one", "two", "three", "four"].map(|word| text.contains(word));
    assert_eq!(heard, [false, true, true, false], "{text}");
    assert!(!text.contains('\u{1b}'), "colours without a terminal: {text}");
}

#[test]
fn json_lines_are_json() {
    let text = logged("info", LogFormat::Json, |_| tracing::info!(secret = "A\n\"", "fetched"));
    let line = serde_json::from_str::<serde_json::Value>(&text).unwrap();
    assert_eq!(line["secret"], "A\n\"");
    assert_eq!(line["message"], "fetched");
}

#[test]
fn a_panic_leaves_its_place_and_never_its_message() {
    let metrics = Arc::new(Metrics::new());
    let text = logged("info", LogFormat::Text, |_| {
        let before = panic::take_hook();
        panics::install_hook(Arc::clone(&metrics));
        let caught = panic::catch_unwind(AssertUnwindSafe(|| panic!("value is {PLANTED}")));
        panic::set_hook(before);
        assert!(caught.is_err());
    });
    assert!(text.contains("telemetry/tests.rs:"), "{text}");
    assert!(!text.contains(PLANTED), "{text}");
    assert_eq!(metrics.panics.get(), 1);
}

fn page(metrics: &Metrics) -> String {
    metrics.render(Timestamp::UNIX_EPOCH, [])
}

#[test]
fn what_happened_is_on_the_page() {
    let metrics = Metrics::new();
    let down = Fault::new(Reason::Sealed, "Vault is sealed");
    let name = "db/MAIN".parse().unwrap();
    let text = logged("trace", LogFormat::Text, |_| {
        VaultCalled { operation: "login", result: Err(&down) }.record(&metrics);
        HandshakeFailed { reason: "expired" }.record(&metrics);
        AuditFailed { error: &io::Error::other("no space") }.record(&metrics);
        CertificateLoaded { role: "server", not_after: Timestamp::from_second(90).unwrap() }
            .record(&metrics);
        metrics.changed(&name, Change::Rotated, Generation(7));
        let mistakes = Config::parse("a = 1\nb = 2", "x.toml", &|_| None).unwrap_err();
        ConfigRefused { mistakes: &mistakes }.record(&metrics);
    });
    for said in
        ["sealed", "expired", "no space", "db/MAIN", "generation=7", "line 1: a", "line 2: b"]
    {
        assert!(text.contains(said), "{said}: {text}");
    }
    metrics.hit();
    metrics.hit();
    metrics.answered(Method::GetSecret, 0, Duration::from_micros(20));
    metrics.answered(Method::GetSecret, 0, Duration::from_micros(20));
    metrics.answered(Method::ReportOutcome, 7, Duration::from_secs(2));
    metrics.answered(Method::ListSecrets, 99, Duration::ZERO);
    for begins in [true, true, false] {
        metrics.lasting(Lasting::Connection, begins);
    }
    let secret = SecretReading {
        name,
        state: State::Fresh,
        seconds_left: Some(12.5),
        pending_revocations: 2,
    };
    let page = metrics.render(Timestamp::from_second(30).unwrap(), [secret]);
    for line in [
        "secret_broker_vault_calls_total{operation=\"login\",outcome=\"sealed\"} 1",
        "secret_broker_handshake_failures_total{reason=\"expired\"} 1",
        "secret_broker_audit_failures_total 1",
        "secret_broker_certificate_expiry_seconds{role=\"server\"} 60",
        "secret_broker_changes_total{secret=\"db/MAIN\",change=\"rotated\"} 1",
        "secret_broker_config_reloads_total{outcome=\"refused\"} 1",
        "secret_broker_cache_hits_total 2",
        "secret_broker_requests_total{method=\"GetSecret\",code=\"OK\"} 2",
        "secret_broker_requests_total{method=\"ReportOutcome\",code=\"PERMISSION_DENIED\"} 1",
        "secret_broker_requests_total{method=\"ListSecrets\",code=\"UNKNOWN\"} 1",
        "secret_broker_request_duration_seconds_bucket{le=\"0.00003\",method=\"GetSecret\"} 2",
        "secret_broker_connections 1",
        "secret_broker_secret_expiry_seconds{secret=\"db/MAIN\"} 12.5",
        "secret_broker_secret_state{secret=\"db/MAIN\",state=\"fresh\"} 1",
        "secret_broker_revocations_pending 2",
    ] {
        assert!(page.lines().any(|l| l == line), "{line} is not on the page:\n{page}");
    }
}

#[test]
fn every_line_of_the_page_belongs_to_one_named_family_and_the_page_ends_once() {
    let page = page(&Metrics::new());
    let mut families = Vec::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let name = rest.split(' ').next().unwrap();
            assert!(!families.contains(&name), "{name} twice");
            assert!(name.starts_with("secret_broker_") || name.starts_with("process_"), "{name}");
            families.push(name);
        } else if !line.starts_with('#') {
            assert!(line.starts_with(families.last().unwrap()), "{line}");
        }
    }
    assert!(families.len() > 15, "{families:?}");
    assert!(page.ends_with("# EOF\n") && page.matches("# EOF").count() == 1);
    let memory = page.lines().find_map(|l| l.strip_prefix("process_resident_memory_bytes "));
    assert!(memory.unwrap().parse::<u64>().unwrap() > 1_000_000);
}

struct Frozen;

impl Clock for Frozen {
    fn now(&self) -> Moment {
        Moment::default()
    }

    fn wall(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
}

struct Store(bool);

#[async_trait]
impl Origin for Store {
    async fn fetch(&self) -> Result<Issued, Fault> {
        if !self.0 {
            return Err(Fault::new(Reason::Forbidden, "the role may not read it"));
        }
        Ok(Issued {
            fields: Arc::new(Fields::single(SecretValue::new(PLANTED))),
            version: Version("1".into()),
            lifetime: Lifetime::Unbounded,
            max_left: None,
            predecessor: Predecessor::Untold,
        })
    }

    async fn renew(&self, _: &Lease) -> Result<Renewed, Fault> {
        Ok(Renewed { ttl: Duration::from_mins(1), renewable: true, max_left: None })
    }
}

#[test]
fn calls_to_a_store_are_logged_and_counted_without_their_values() {
    let metrics = Arc::new(Metrics::new());
    let origin = |works| WithTelemetry {
        origin: Arc::new(Store(works)),
        secret: "API".parse().unwrap(),
        store: "vault",
        clock: Arc::new(Frozen),
        metrics: Arc::clone(&metrics),
    };
    let lease = Lease { id: PLANTED.into(), renewable: true };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let text = logged("trace", LogFormat::Json, |_| {
        runtime.block_on(async {
            assert!(origin(true).fetch().await.is_ok());
            assert!(origin(false).fetch().await.is_err());
            assert!(origin(true).renew(&lease).await.is_ok());
            assert!(origin(true).revoke(&lease).await.is_ok());
        });
    });
    let page = page(&metrics);
    for line in [
        "secret_broker_fetch_duration_seconds_count{store=\"vault\",outcome=\"ok\",reason=\"ok\"} 1",
        "secret_broker_fetch_duration_seconds_count{store=\"vault\",outcome=\"failed\",reason=\"forbidden\"} 1",
        "secret_broker_renewals_total{secret=\"API\",outcome=\"ok\"} 1",
        "secret_broker_revocations_total{outcome=\"ok\"} 1",
    ] {
        assert!(page.lines().any(|l| l == line), "{line} is not on the page:\n{page}");
    }
    assert!(text.contains("the role may not read it"), "{text}");
    assert!(!text.contains(PLANTED) && !page.contains(PLANTED), "{text}");
}

#[test]
fn readiness_follows_its_guards() {
    let (readiness, starting) = Readiness::starting();
    let fetching = readiness.block_startup("secret not fetched yet", "A");
    let also = readiness.block_startup("secret not fetched yet", "B");
    let ready = readiness.subscribe();
    drop(starting);
    let reason = |details: &[&str], count| readiness::Reason {
        reason: "secret not fetched yet",
        count,
        details: details.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(readiness.reasons(true), [reason(&["A", "B"], 2)]);
    assert_eq!(readiness.reasons(false), [reason(&[], 2)]);
    drop(fetching);
    assert!(!readiness.has_started() && !*ready.borrow());
    drop(also);
    assert!(readiness.has_started() && readiness.is_ready() && *ready.borrow());

    let audit = readiness.condition("audit log not writable");
    audit.fails("no space");
    audit.fails("read only");
    assert_eq!(readiness.reasons(true)[0].details, ["read only"]);
    assert!(!readiness.is_ready() && readiness.has_started() && !*ready.borrow());
    audit.holds();
    assert!(readiness.is_ready() && *ready.borrow());
    let late = readiness.block_startup("secret not fetched yet", "C");
    assert!(readiness.has_started(), "start-up does not come back");
    drop(late);
}

async fn ask(address: std::net::SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{request} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn health_tells_the_truth_without_names() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (readiness, starting) = Readiness::starting();
    let fetching = readiness.block_startup("secret not fetched yet", "POSTGRES_PASSWORD");
    drop(starting);
    let client = async {
        // Connections that say nothing are bounded, and do not keep others out for long.
        let silent = TcpStream::connect(address).await.unwrap();
        let not_yet = "[{\"reason\":\"secret not fetched yet\",\"count\":1}]}";
        let starting = format!("{{\"status\":\"starting\",\"reasons\":{not_yet}");
        let not_ready = format!("{{\"status\":\"not ready\",\"reasons\":{not_yet}");
        assert_eq!(ask(address, "GET /livez").await, (200, "{\"status\":\"alive\"}".to_owned()));
        assert_eq!(ask(address, "GET /startupz").await, (503, starting));
        assert_eq!(ask(address, "GET /readyz").await, (503, not_ready));
        drop(fetching);
        assert_eq!(ask(address, "GET /startupz").await.0, 200);
        assert_eq!(ask(address, "GET /readyz").await, (200, "{\"status\":\"ready\"}".to_owned()));
        let vault = readiness.condition("audit log not writable");
        vault.fails("no space");
        assert_eq!(ask(address, "GET /readyz").await.0, 503);
        assert_eq!(ask(address, "GET /startupz").await.0, 200);
        assert_eq!(ask(address, "GET /metrics").await.0, 404);
        assert_eq!(ask(address, "POST /readyz").await.0, 405);
        drop(silent);
    };
    tokio::select! {
        _ = http::serve(listener, readiness.clone()) => unreachable!("it serves for ever"),
        () = client => {}
    }
}

#[tokio::test(start_paused = true)]
async fn silent_connections_do_not_keep_the_kubelet_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (readiness, starting) = Readiness::starting();
    drop(starting);
    let client = async {
        let mut silent = Vec::new();
        for _ in 0..100 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        assert_eq!(ask(address, "GET /readyz").await.0, 200);
        assert_eq!(silent.len(), 100);
    };
    tokio::select! {
        _ = http::serve(listener, readiness.clone()) => unreachable!("it serves for ever"),
        () = client => {}
    }
}
