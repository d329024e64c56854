//! The real sidecar as a process.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use secret_broker_client::Client;
use tempfile::TempDir;
use tokio::net::UnixStream;

use super::{Running, until};

pub struct Broker {
    process: Option<Running>,
    pub directory: TempDir,
    environment: Vec<(String, String)>,
    /// What a shell does before it becomes the broker.
    pub shell: Option<&'static str>,
    /// What `serve` is told besides.
    pub arguments: Vec<String>,
}

impl Broker {
    /// A broker with a Unix socket, a pod-local authority on TCP and an audit file, and what
    /// `sections` adds. `DIR` stands for its directory.
    pub async fn start(sections: &str, environment: &[(&str, &str)]) -> Self {
        let mut broker = Self::prepare(sections, environment);
        broker.run();
        broker.wait().await;
        broker
    }

    /// The same, not started yet.
    pub fn prepare(sections: &str, environment: &[(&str, &str)]) -> Self {
        let broker = Self::bare(environment);
        broker.configure(sections);
        broker
    }

    /// A broker without a configuration, which is the caller's to write.
    pub fn bare(environment: &[(&str, &str)]) -> Self {
        let owned = |&(k, v): &(&str, &str)| (k.to_owned(), v.to_owned());
        Self {
            process: None,
            environment: environment.iter().map(owned).collect(),
            directory: tempfile::tempdir().expect("a directory"),
            shell: None,
            arguments: Vec::new(),
        }
    }

    /// Writes the configuration file.
    pub fn configure(&self, sections: &str) {
        let common = "[server]\nlisten = \"127.0.0.1:0\"\nsocket = \"DIR/broker.sock\"\nsocket_mode = \"0600\"\ndrain = \"2s\"\n\
             [tls]\nsource = \"authority\"\ndirectory = \"DIR/tls\"\n\
             [audit]\nfile = \"DIR/audit.log\"\n\
             [telemetry]\nlog_filter = \"trace\"\n\
             [[policy]]\nidentities = [\"**\"]\nsecrets = [\"**\"]\nverbs = [\"get\", \"list\", \"watch\", \"report\", \"observe\"]\n";
        self.write(&format!("{common}{sections}"));
    }

    /// Writes a whole configuration file.
    pub fn write(&self, text: &str) {
        let text = text.replace("DIR/", &self.path("").display().to_string());
        fs::write(self.path("config.toml"), text).expect("the configuration");
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts the process.
    pub fn run(&mut self) {
        let log = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.path("broker.log"))
            .expect("a log");
        let program = env!("CARGO_BIN_EXE_secret-broker");
        let mut command = Command::new(if self.shell.is_some() { "sh" } else { program });
        if let Some(script) = self.shell {
            command.args(["-c", script, program]);
        }
        command
            .args(["serve", "--config"])
            .arg(self.path("config.toml"))
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(k, v)| (k, v)))
            .stdout(Stdio::null())
            .stderr(log);
        self.process = Some(Running::start(&mut command));
    }

    /// Waits until it serves its socket.
    pub async fn wait(&self) {
        let socket = self.path("broker.sock");
        until("the broker serves", async || UnixStream::connect(&socket).await.ok().map(drop))
            .await;
    }

    pub fn client(&self) -> Client {
        let socket = format!("unix://{}", self.path("broker.sock").display());
        Client::builder().address(socket).build().expect("a client")
    }

    /// A client over mTLS with the application's certificate.
    pub fn tls_client(&self) -> Client {
        let address = format!("https://{}", self.address());
        Client::builder().address(address).cert_dir(self.path("tls")).build().expect("a client")
    }

    /// The TCP address that it serves, which it tells once all of its listeners are open.
    pub fn address(&self) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let log = self.log();
            let told = log.lines().rev().find_map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).ok()?;
                (line["message"] == "serving")
                    .then(|| line["address"].as_str().map(str::to_owned))?
            });
            if let Some(address) = told {
                return address;
            }
            assert!(Instant::now() < deadline, "the log tells no address: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("broker.log")).unwrap_or_default()
    }

    pub fn audit(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.path("audit.log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
    }

    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").0.id()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        self.process.as_ref().expect("it runs").signal(signal);
    }

    /// One of the broker's own pages, as an observer gets it, with the status of its answer.
    pub async fn page(&self, path: &str) -> (u16, String) {
        let socket = UnixStream::connect(self.path("broker.sock")).await.expect("the socket");
        let handshake =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await;
        let (mut sender, connection) = handshake.expect("HTTP/2");
        tokio::spawn(connection);
        let request = hyper::Request::get(format!("http://localhost{path}"));
        let request = request.body(Empty::<Bytes>::new()).expect("a request");
        let response = sender.send_request(request).await.expect("an answer");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a page").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Ends it in order, and returns its exit code.
    pub async fn terminate(&mut self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        self.ended().await
    }

    /// Waits until it ends by itself, and returns its exit code.
    pub async fn ended(&mut self) -> Option<i32> {
        let mut process = self.process.take().expect("it runs");
        let status =
            until("the broker ends", async || process.0.try_wait().expect("a status")).await;
        status.code()
    }
}

/// Whether a file's bytes contain a text.
pub fn contains(path: &Path, text: &str) -> bool {
    let bytes = fs::read(path).unwrap_or_default();
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
