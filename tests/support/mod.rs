//! Real servers and small tools for the tests.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

pub mod api;
pub mod broker;
pub mod datadog;
pub mod kubernetes;
#[cfg(feature = "operator")]
pub mod moto;
pub mod postgres;
pub mod proxy;
pub mod redis;
pub mod vault;
#[cfg(feature = "operator")]
pub mod versions_contract;

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command},
    time::{Duration, Instant},
};

/// A tool that `tests/tools/install` built.
pub fn tool(name: &str) -> PathBuf {
    let folder = std::env::var_os("SECRET_BROKER_TOOLS")
        .expect("SECRET_BROKER_TOOLS is not set: run tests/run, or set it to what tests/tools/install prints");
    let path = PathBuf::from(folder).join(name);
    assert!(path.is_file(), "{} is missing: run tests/tools/install", path.display());
    path
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("its address").port()
}

/// Waits until `holds` returns something, at most 30 seconds.
pub async fn until<T>(what: &str, mut holds: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(value) = holds().await {
            return value;
        }
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ended {
    pub fn of(output: std::process::Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).expect("text"),
            err: String::from_utf8(output.stderr).expect("text"),
        }
    }
}

/// A child process that ends with the test.
pub struct Running(pub Child);

impl Running {
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// Ends it without a chance to clean up, as a crash would.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).expect("a signal");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}
