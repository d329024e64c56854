//! `dev` as a newcomer meets it: its output is read, and the commands that it prints are run.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Running, until, vault::Vault};

/// `dev` as a process, with its lines as they come.
struct Dev {
    process: Running,
    lines: Receiver<String>,
    /// What it said so far.
    said: String,
    _directory: TempDir,
}

impl Dev {
    fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_secret-broker"));
        command
            .args(["dev", "--listen", "127.0.0.1:0", "--directory"])
            .arg(directory.path().join("dev"))
            .args(arguments)
            .env_remove("VAULT_ADDR")
            .env_remove("VAULT_TOKEN")
            .env("HOME", directory.path())
            .envs(environment.iter().copied())
            .stdout(Stdio::piped());
        let mut process = Running::start(&mut command);
        let out = BufReader::new(process.0.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { process, lines, said: String::new(), _directory: directory }
    }

    /// Waits for a line that holds all of these, at most a minute.
    fn says(&mut self, parts: &[&str]) -> String {
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("no line with {parts:?} in\n{}", self.said));
            self.said = format!("{}{line}\n", self.said);
            if parts.iter().all(|part| line.contains(part)) {
                return line;
            }
        }
    }

    /// The command that it printed for a second terminal.
    fn printed(&mut self, command: &str) -> Command {
        let line = self.says(&[&format!(" {command} "), "--address"]);
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec {}", line.trim())]);
        shell
    }

    /// Runs the printed `list`, `get` and `watch`, and follows one secret through its life.
    async fn shows_the_main_job(mut self, catalogue: usize) {
        let list = self.printed("list").arg("--json").output().unwrap();
        let list = String::from_utf8(list.stdout).unwrap();
        assert!(list.contains("POSTGRES_PASSWORD") && list.contains("SLACK_WEBHOOK_URL"), "{list}");
        let mut get = self.printed("get");
        let shown = until("the secret is shown", async || {
            let output = get.output().unwrap();
            output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
        })
        .await;
        assert!(shown.contains("password"), "{shown}");
        let mut watch = Running::start(self.printed("watch").stdout(Stdio::piped()));
        let watching = BufReader::new(watch.0.stdout.take().unwrap());
        for _ in 0..catalogue {
            self.says(&["CURRENT"]);
        }
        let rotated = self.says(&["ROTATED", "POSTGRES_PASSWORD"]);
        let version = rotated.split("  ").find(|part| part.starts_with("version ")).unwrap();
        let seen = watching.lines().map_while(Result::ok).find(|line| line.contains(version));
        assert!(
            seen.is_some_and(|line| line.starts_with("ROTATED")),
            "the second terminal sees it"
        );
        self.process.signal(Signal::INT);
        let status = until("it ends", async || self.process.0.try_wait().expect("a status")).await;
        assert!(status.success(), "{status}");
    }
}

#[tokio::test]
async fn dev_shows_the_main_job_and_prints_commands_that_work() {
    Dev::start(&[], &[]).shows_the_main_job(9).await;
}

#[tokio::test]
async fn dev_does_the_same_against_a_vault_and_revokes_what_it_leased() {
    let vault = Vault::start().await;
    let environment = [("VAULT_ADDR", vault.address()), ("VAULT_TOKEN", vault.root.clone())];
    let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
    Dev::start(&["--vault"], &environment).shows_the_main_job(9).await;
    let pair = vault.read("secret-broker-dev/data/AWS_OBJECT_STORAGE").await;
    assert!(pair["data"]["data"]["AWS_SECRET_ACCESS_KEY"].is_string(), "{pair}");
    let leases = "sys/leases/lookup/secret-broker-dev-leases/creds/postgres";
    let (status, left) = vault.request("LIST", leases, None).await;
    assert!(status == 404 || left["data"]["keys"] == Value::Array(Vec::new()), "{left}");
}

#[test]
fn dev_says_what_it_needs_of_a_vault() {
    for (environment, what) in [
        (vec![], "set VAULT_TOKEN"),
        (vec![("VAULT_TOKEN", "x"), ("VAULT_ADDR", "http://127.0.0.1:1")], "no Vault answers"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_secret-broker"))
            .args(["dev", "--vault", "--directory"])
            .arg(directory.path().join("dev"))
            .env_remove("VAULT_ADDR")
            .env_remove("VAULT_TOKEN")
            .env("HOME", directory.path())
            .envs(environment)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(what), "{said}");
    }
}
