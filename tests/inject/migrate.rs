//! `secret-operator migrate` as people run it.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use crate::rig::PROGRAM;

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  annotations:\n    vault.hashicorp.com/agent-inject: \"true\"\n    vault.hashicorp.com/agent-inject-secret-db: database/creds/app\nspec:\n  containers: [{ name: app, image: app }]\n";

fn migrate(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(PROGRAM);
    command
        .arg("migrate")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("a command");
    child.stdin.take().expect("it").write_all(input.as_bytes()).expect("it reads");
    child.wait_with_output().expect("it ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn what_means_the_same_is_printed_whole_and_ends_with_success() {
    let ended = migrate(&["-f", "-"], POD);
    let out = text(&ended.stdout);
    assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stderr));
    for part in [
        "# [secrets.\"db\"]",
        "# role = \"app\"",
        "# [[grant]]",
        "secretbroker.dev/secrets: db",
        "secretbroker.dev/files-directory: /vault/secrets",
        "secretbroker.dev/template.db:",
        "kind: Pod",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    assert!(!out.contains("vault.hashicorp.com"), "{out}");
    // What was printed is YAML that has nothing left to translate.
    let again = migrate(&[], &out);
    assert_eq!(again.status.code(), Some(0));
    assert!(text(&again.stdout).contains("secretbroker.dev/secrets: db"));
}

#[test]
fn what_differs_is_told_and_the_exit_code_says_so() {
    let input = POD.replace("spec:", "    vault.hashicorp.com/agent-inject-token: \"true\"\nspec:");
    let ended = migrate(&["--annotations"], &input);
    assert_eq!(ended.status.code(), Some(8));
    assert!(
        text(&ended.stderr)
            .contains("Pod p: vault.hashicorp.com/agent-inject-token: no token of Vault")
    );
    assert!(!text(&ended.stdout).contains("containers"), "annotations alone");
    let ended = migrate(&[], "a: [");
    assert_eq!(ended.status.code(), Some(2));
    assert!(text(&ended.stderr).contains("not YAML at line"), "{}", text(&ended.stderr));
    assert_eq!(migrate(&["-f", "/nowhere"], "").status.code(), Some(2));
}
