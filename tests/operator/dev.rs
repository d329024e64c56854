//! The rotation that `secret-broker dev` lets people look at: the command that it prints is run.

use std::{
    fs,
    process::{Command, Stdio},
};

use super::support::{Running, until, vault::Vault};

/// Rotates as `dev` says, and waits until its watcher was told.
async fn a_rotation_is_seen(arguments: &[&str], environment: &[(&str, &str)]) {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_secret-broker"));
    command
        .args(["dev", "--listen", "127.0.0.1:0", "--directory"])
        .arg(directory.path().join("dev"))
        .args(arguments)
        .envs(environment.iter().copied())
        .stdout(fs::File::create(&log).unwrap())
        .stderr(Stdio::inherit());
    let _dev = Running::start(&mut command);
    let said = || fs::read_to_string(&log).unwrap();
    until("it is watched", async || {
        said()
            .lines()
            .any(|l| l.starts_with("CURRENT") && l.contains("API_KEY_MASTER"))
            .then_some(())
    })
    .await;
    let line =
        said().lines().find(|line| line.contains(" rotate API_KEY_MASTER ")).unwrap().to_owned();
    let rotated = Command::new("sh")
        .args(["-c", &format!("exec {line} --wait")])
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let shown = String::from_utf8(rotated.stdout).unwrap();
    assert!(rotated.status.success() && shown.contains("succeeded"), "{shown}");
    for step in ["promote to staging", "promote to production (green)", "revoke the old version"] {
        assert!(shown.contains(step), "{step} in {shown}");
    }
    until("the watcher is told", async || {
        said()
            .lines()
            .any(|l| l.starts_with("ROTATED") && l.contains("API_KEY_MASTER"))
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn dev_shows_a_rotation() {
    a_rotation_is_seen(&[], &[]).await;
}

#[tokio::test]
async fn dev_shows_a_rotation_in_a_vault() {
    let vault = Vault::start().await;
    let address = vault.address();
    a_rotation_is_seen(&["--vault"], &[("VAULT_ADDR", &address), ("VAULT_TOKEN", &vault.root)])
        .await;
}
