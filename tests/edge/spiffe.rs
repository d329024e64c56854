//! SVIDs of the SPIFFE Workload API: served with, checked against, handed to the application, followed as they change.

use std::{fs, os::unix::fs::PermissionsExt};

use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use secret_broker_client::{Client, Error};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    caller::{Caller, client, next_value},
    pki::{Authority, Leaf, der, put},
    support::{broker::Broker, free_port, until},
    workload_api::{Answer, Svid, WorkloadApi},
};

const SIDECAR: &str = "spiffe://one/ns/shop/sa/api";
const OTHER: &str = "spiffe://one/ns/shop/sa/other";
const FOREIGN: &str = "spiffe://two/ns/shop/sa/api";

const CONFIG: &str = r#"
[server]
listen = "127.0.0.1:0"
socket = "DIR/broker.sock"
socket_mode = "0600"
drain = "2s"
[tls]
source = "spiffe"
TLS
[audit]
file = "DIR/audit.log"
[telemetry]
log_filter = "debug"
http = "127.0.0.1:PROBES"
[[policy]]
identities = ["spiffe://one/ns/shop/sa/*", "spiffe://two/ns/shop/sa/*", "unix:**"]
secrets = ["**"]
verbs = ["get", "list", "watch", "report", "observe"]
[secrets.KEY]
category = "application"
store = "dotenv"
file = "DIR/secrets.env"
key = "KEY"
"#;

const TLS: &str = "endpoint = \"unix://DIR/agent.sock\"\ndirectory = \"DIR/tls\"\nMORE";

/// A broker, the Workload API that it asks, and the authority of trust domain `one`.
struct Mesh {
    one: Authority,
    api: WorkloadApi,
    broker: Broker,
    probes: u16,
}

/// An identity that clients of the loopback can check.
fn svid(authority: &Authority, id: &str, bundle: &str) -> Svid {
    named(authority, id, bundle, &["localhost"])
}

fn named(authority: &Authority, id: &str, bundle: &str, dns: &[&str]) -> Svid {
    let Leaf { cert, key } = authority.svid(id, dns);
    Svid { id: id.to_owned(), hint: "", chain: cert, key, bundle: bundle.to_owned() }
}

impl Mesh {
    /// Of a sidecar that serves with an SVID of its own.
    async fn start() -> Self {
        let mesh = Self::prepare("");
        mesh.api.say(mesh.own());
        mesh.run().await
    }

    /// The same, not started yet, with more settings of `[tls]`.
    fn prepare(more: &str) -> Self {
        Self::with(&TLS.replace("MORE", more), &[])
    }

    fn with(tls: &str, environment: &[(&str, &str)]) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let broker = Broker::bare(environment);
        let probes = free_port();
        broker.write(&CONFIG.replace("TLS", tls).replace("PROBES", &probes.to_string()));
        put(&broker.path(""), "secrets.env", "KEY=first\n");
        let api = WorkloadApi::start(&broker.path("agent.sock"));
        Self { one: Authority::new("one"), api, broker, probes }
    }

    async fn run(mut self) -> Self {
        self.broker.run();
        self.broker.wait().await;
        self
    }

    /// One SVID, new each time.
    fn own(&self) -> Answer {
        Answer::of([svid(&self.one, SIDECAR, &self.one.pem)])
    }

    fn log(&self) -> String {
        self.broker.log()
    }

    async fn logs(&self, text: &str) {
        until(&format!("the log says: {text}"), async || self.log().contains(text).then_some(()))
            .await;
    }

    /// A client of the application, with the files that it was given.
    fn client(&self) -> Client {
        client(&self.broker.address(), &self.broker.path("tls"))
    }

    /// A caller with this certificate, who trusts the sidecar.
    fn caller(&self, leaf: &Leaf) -> Caller {
        Caller::new(&self.file("ca.pem"), leaf, self.broker.address())
    }

    async fn get_as(&self, leaf: &Leaf) -> Result<String, Error> {
        let secret = self.caller(leaf).get().await?;
        Ok(secret.text("value").unwrap().to_owned())
    }

    /// The certificate that a new connection is shown.
    async fn shown(&self) -> Option<Vec<u8>> {
        self.caller(&self.one.svid(OTHER, &[])).shown().await
    }

    async fn shows(&self, certificate: &[u8]) {
        until("the certificate is shown", async || {
            (self.shown().await? == certificate).then_some(())
        })
        .await;
    }

    /// What the start-up probe is answered.
    async fn startup(&self) -> Option<(u16, String)> {
        let url = format!("http://127.0.0.1:{}/startupz", self.probes);
        let answer = reqwest::Client::new().get(url).send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.broker.path("tls").join(name)).unwrap_or_default()
    }
}

/// The server of these tests speaks the protocol as others read it.
#[tokio::test]
async fn what_the_sidecar_is_told_is_what_the_published_client_reads() {
    let mesh = Mesh::prepare("");
    let two = Authority::new("two");
    let own = svid(&mesh.one, SIDECAR, &mesh.one.pem);
    let certificate = der(&own.chain);
    mesh.api.say(Answer::of([Svid { hint: "internal", ..own }]).federated("two", &two.pem));
    let endpoint = format!("unix://{}", mesh.broker.path("agent.sock").display());
    let client = spiffe::WorkloadApiClient::connect_to(endpoint).await.expect("a connection");
    let told = client.fetch_x509_context().await.expect("an answer");
    let first = told.default_svid().expect("an SVID");
    assert_eq!(
        (first.spiffe_id().to_string(), first.hint()),
        (SIDECAR.to_owned(), Some("internal"))
    );
    assert_eq!(first.leaf().as_bytes(), certificate);
    for (domain, pem) in [("one", &mesh.one.pem), ("two", &two.pem)] {
        let domain = spiffe::TrustDomain::new(domain).expect("a domain");
        let bundle = told.bundle_set().get(&domain).expect("a bundle");
        assert_eq!(bundle.authorities()[0].as_bytes(), der(pem));
    }
}

#[tokio::test]
async fn the_sidecar_serves_with_its_svid_and_the_application_is_known_by_its_own() {
    let mesh = Mesh::start().await;
    let value = mesh.client().get("KEY").await.expect("a secret");
    assert_eq!(value.text("value"), Some("first"));
    assert_eq!(mesh.broker.audit().pop().unwrap()["caller"], SIDECAR);
    for file in ["ca.pem", "client.pem", "client.key"] {
        let mode = fs::metadata(mesh.broker.path("tls").join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let (_, metrics) = mesh.broker.page("/metrics").await;
    assert!(metrics.contains("secret_broker_certificate_expiry_seconds{role=\"server\"}"));
    assert!(!mesh.log().contains("PRIVATE KEY"));
}

#[tokio::test]
async fn a_new_svid_serves_new_connections_while_open_streams_go_on_and_the_files_follow() {
    let mesh = Mesh::start().await;
    let client = mesh.client();
    let mut watch = client.watch(["KEY"]);
    assert_eq!(next_value(&mut watch).await, "first");
    // Also of a new authority, which vouches beside the old one.
    let next = Authority::new("one, later");
    let both = format!("{}{}", mesh.one.pem, next.pem);
    let fresh = svid(&next, SIDECAR, &both);
    let (certificate, key) = (fresh.chain.clone(), fresh.key.clone());
    mesh.api.say(Answer::of([fresh]));
    until("the files follow", async || {
        (der(&mesh.file("client.pem")) == der(&certificate)).then_some(())
    })
    .await;
    mesh.shows(&der(&certificate)).await;
    let written = PrivateKeyDer::from_pem_slice(mesh.file("client.key").as_bytes()).unwrap();
    assert_eq!(written, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap());
    put(&mesh.broker.path(""), "secrets.env", "KEY=second\n");
    assert_eq!(next_value(&mut watch).await, "second", "on the stream opened before");
    assert!(!mesh.log().contains("a connection is ended"));
    assert_eq!(mesh.client().get("KEY").await.expect("a secret").text("value"), Some("second"));
}

#[tokio::test]
async fn callers_of_an_authority_that_left_the_bundle_are_refused_and_their_connections_end() {
    let mesh = Mesh::start().await;
    let old = mesh.one.svid(OTHER, &[]);
    assert_eq!(mesh.get_as(&old).await.expect("a secret"), "first");
    let caller = mesh.caller(&old);
    let mut stream = caller.connect(caller.speaking(&rustls::version::TLS13)).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let next = Authority::new("one, later");
    mesh.api.say(Answer::of([svid(&next, SIDECAR, &next.pem)]));
    until("its connection ends", async || {
        let mut bytes = [0; 512];
        matches!(stream.read(&mut bytes).await, Ok(0) | Err(_)).then_some(())
    })
    .await;
    assert!(mesh.get_as(&old).await.is_err());
    assert_eq!(mesh.get_as(&next.svid(OTHER, &[])).await.expect("a secret"), "first");
}

#[tokio::test]
async fn a_foreign_caller_is_vouched_for_by_its_own_trust_domain_and_by_no_other() {
    let mesh = Mesh::prepare("");
    let two = Authority::new("two");
    mesh.api.say(mesh.own().federated("two", &two.pem));
    let mesh = mesh.run().await;
    let foreign = two.svid(FOREIGN, &[]);
    assert_eq!(mesh.get_as(&foreign).await.expect("a secret"), "first");
    assert_eq!(mesh.broker.audit().pop().unwrap()["caller"], FOREIGN);
    let recorded = mesh.broker.audit().len();
    for (leaf, why) in [
        (two.svid(SIDECAR, &[]), "two speaks for one"),
        (mesh.one.svid(FOREIGN, &[]), "one speaks for two"),
        (mesh.one.svid("spiffe://three/api", &[]), "one speaks for a domain that nobody knows"),
        (Authority::new("two").svid(FOREIGN, &[]), "a stranger speaks for two"),
        (
            mesh.one.client_with(|params| {
                params.subject_alt_names =
                    vec![rcgen::SanType::DnsName("localhost".try_into().unwrap())];
            }),
            "a name that is no SPIFFE ID",
        ),
    ] {
        assert!(mesh.get_as(&leaf).await.is_err(), "{why}");
    }
    assert_eq!(mesh.broker.audit().len(), recorded, "none of them came as far as a call");
    mesh.api.say(mesh.own());
    until("the domain is federated no more", async || mesh.get_as(&foreign).await.err()).await;
    assert_eq!(mesh.get_as(&mesh.one.svid(OTHER, &[])).await.expect("a secret"), "first");
}

#[tokio::test]
async fn a_caller_on_a_revocation_list_of_the_answer_is_refused() {
    let mesh = Mesh::start().await;
    let revoked = mesh.one.client_with(|params| {
        params.subject_alt_names = vec![rcgen::SanType::URI(OTHER.try_into().unwrap())];
        params.serial_number = Some(77_u64.into());
    });
    assert!(mesh.get_as(&revoked).await.is_ok());
    mesh.api.say(mesh.own().revoking(&mesh.one.revoke(&[77])));
    until("it is refused", async || mesh.get_as(&revoked).await.err()).await;
    assert!(mesh.get_as(&mesh.one.svid(OTHER, &[])).await.is_ok());
}

#[tokio::test]
async fn an_endpoint_that_goes_away_leaves_the_last_svid_in_force_and_is_heard_when_it_is_back() {
    let mut mesh = Mesh::start().await;
    let before = mesh.shown().await.expect("a certificate");
    mesh.api.kill();
    mesh.logs("can't be heard").await;
    mesh.logs("the last good ones stay").await;
    assert_eq!(mesh.shown().await.expect("a certificate"), before);
    assert!(mesh.client().get("KEY").await.is_ok());
    let (status, ready) = mesh.broker.page("/readyz").await;
    assert_eq!(status, 200, "it serves as before: {ready}");
    let next = svid(&mesh.one, SIDECAR, &mesh.one.pem);
    let certificate = der(&next.chain);
    mesh.api.say(Answer::of([next]));
    mesh.api.run();
    mesh.shows(&certificate).await;
    assert!(mesh.client().get("KEY").await.is_ok());
}

#[tokio::test]
async fn an_identity_that_is_taken_away_is_told_and_lasts_until_it_ends() {
    let mesh = Mesh::start().await;
    let before = mesh.shown().await.expect("a certificate");
    mesh.api.deny();
    mesh.logs("has no identity for this process").await;
    assert_eq!(mesh.shown().await.expect("a certificate"), before);
    mesh.api.say(mesh.own());
    until("another is shown", async || (mesh.shown().await? != before).then_some(())).await;
}

#[tokio::test]
async fn the_start_waits_for_an_identity_and_says_what_is_missing() {
    let mut mesh = Mesh::prepare("");
    mesh.broker.run();
    mesh.logs("has no identity for this process").await;
    assert!(!mesh.broker.path("broker.sock").exists(), "nothing is served yet");
    let (status, reasons) = mesh.startup().await.expect("probes are answered");
    assert!(status == 503 && reasons.contains("no certificate yet"), "{reasons}");
    until("it asks again and again", async || (mesh.api.asked() >= 3).then_some(())).await;
    mesh.api.say(mesh.own());
    mesh.broker.wait().await;
    assert!(mesh.client().get("KEY").await.is_ok());
    assert_eq!(mesh.startup().await.expect("probes are answered").0, 200);
}

#[tokio::test]
async fn a_start_that_waits_ends_when_it_is_told_to() {
    let mut mesh = Mesh::prepare("");
    mesh.broker.run();
    mesh.logs("has no identity for this process").await;
    assert_eq!(mesh.broker.terminate().await, Some(0));
}

#[tokio::test]
async fn a_start_without_an_svid_in_time_fails_with_what_stood_against_it() {
    let short = "startup_timeout = \"5s\"";
    let (mut denied, mut away) = (Mesh::prepare(short), Mesh::prepare(short));
    away.api.kill();
    denied.broker.run();
    away.broker.run();
    assert_eq!(denied.broker.ended().await, Some(1));
    assert_eq!(away.broker.ended().await, Some(1));
    let why = "tls: no certificate could be had: no SVID within 5 seconds:";
    assert!(
        denied.log().contains(why) && denied.log().contains("has no identity"),
        "{}",
        denied.log()
    );
    assert!(away.log().contains(why) && away.log().contains("No such file"), "{}", away.log());
}

#[tokio::test]
async fn of_several_svids_those_are_used_that_are_named_by_id_or_by_hint() {
    let more = format!("svid = \"{OTHER}\"\nclient_svid = \"the application\"");
    let mesh = Mesh::prepare(&more);
    let [first, second, mut third] = [SIDECAR, OTHER, "spiffe://one/ns/shop/sa/app"]
        .map(|id| svid(&mesh.one, id, &mesh.one.pem));
    third.hint = "the application";
    let serving = der(&second.chain);
    mesh.api.say(Answer::of([first, second, third]));
    let mesh = mesh.run().await;
    assert_eq!(mesh.shown().await.expect("a certificate"), serving);
    assert!(mesh.client().get("KEY").await.is_ok());
    assert_eq!(mesh.broker.audit().pop().unwrap()["caller"], "spiffe://one/ns/shop/sa/app");
    // Without the one that is named, the others are no substitute.
    mesh.api.say(mesh.own());
    mesh.logs(&format!("no SVID has the ID or hint `{OTHER}`: there is {SIDECAR}")).await;
    assert_eq!(mesh.shown().await.expect("a certificate"), serving);
}

#[tokio::test]
async fn a_broken_answer_is_told_and_changes_nothing() {
    let mesh = Mesh::start().await;
    let (before, files) = (mesh.shown().await.expect("a certificate"), mesh.file("client.pem"));
    for (answer, told) in [
        (Answer::default(), "it holds no SVID"),
        (mesh.own().torn(), "is not made of X.509 certificates"),
        (mesh.own().mixed_up(&svid(&mesh.one, SIDECAR, "")), "the key of"),
        (Answer::of([svid(&mesh.one, SIDECAR, "")]), "the bundle of"),
        (Answer::of([named(&mesh.one, SIDECAR, &mesh.one.pem, &[])]), "no DNS name `localhost`"),
    ] {
        mesh.api.say(answer);
        mesh.logs(told).await;
        assert_eq!(mesh.shown().await.expect("a certificate"), before, "{told}");
        assert_eq!(mesh.file("client.pem"), files, "{told}");
        assert!(mesh.client().get("KEY").await.is_ok(), "{told}");
    }
    mesh.api.say(mesh.own());
    until("a good one counts", async || (mesh.shown().await? != before).then_some(())).await;
}

#[tokio::test]
async fn without_files_an_svid_of_no_dns_name_serves_with_a_warning() {
    let mesh = Mesh::with("endpoint = \"unix://DIR/agent.sock\"", &[]);
    mesh.api.say(Answer::of([named(&mesh.one, SIDECAR, &mesh.one.pem, &[])]));
    let mesh = mesh.run().await;
    mesh.logs("has no DNS name `localhost`, which clients check").await;
    assert!(!mesh.broker.path("tls").exists());
    assert!(mesh.broker.client().get("KEY").await.is_ok(), "over the socket");
}

#[tokio::test]
async fn the_endpoint_is_that_of_the_environment_unless_told() {
    let socket = tempfile::tempdir().unwrap();
    let endpoint = format!("unix://{}/agent.sock", socket.path().display());
    let mut mesh = Mesh::with("directory = \"DIR/tls\"", &[("SPIFFE_ENDPOINT_SOCKET", &endpoint)]);
    mesh.api = WorkloadApi::start(&socket.path().join("agent.sock"));
    mesh.api.say(mesh.own());
    let mesh = mesh.run().await;
    assert!(mesh.client().get("KEY").await.is_ok());
}

#[tokio::test]
async fn an_endpoint_that_is_none_is_a_mistake_of_the_configuration() {
    for (tls, environment, told) in [
        ("", None, "tls.endpoint: missing"),
        ("endpoint = \"tcp://127.0.0.1:8081\"", None, "expected unix:///PATH"),
        ("endpoint = \"unix://host/agent.sock\"", None, "expected unix:///PATH"),
        ("", Some("agent.sock"), "SPIFFE_ENDPOINT_SOCKET"),
    ] {
        let environment: Vec<_> =
            environment.map(|it| ("SPIFFE_ENDPOINT_SOCKET", it)).into_iter().collect();
        let mut mesh = Mesh::with(tls, &environment);
        mesh.broker.run();
        assert_eq!(mesh.broker.ended().await, Some(2), "{told}");
        assert!(mesh.log().contains("tls.endpoint") && mesh.log().contains(told), "{}", mesh.log());
    }
}
