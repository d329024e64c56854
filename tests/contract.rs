//! Holds the contract: what applications were built against stays as it is.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

const FILE: &str = "secretbroker/v1/broker.proto";
/// The contract as it was released, which every later one has to be compatible with.
const RELEASED: &str = "proto/released.binpb";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn buf(arguments: &[&str]) -> Output {
    let tools = std::env::var_os("SECRET_BROKER_TOOLS")
        .expect("SECRET_BROKER_TOOLS is not set: run tests/run, or set it to what tests/tools/install prints");
    let program = PathBuf::from(tools).join("buf");
    Command::new(program).args(arguments).current_dir(root()).output().expect("buf runs")
}

/// What `buf breaking` finds in a contract; nothing when it is compatible.
fn breaks(proto: &Path) -> String {
    let output = buf(&["breaking", proto.to_str().unwrap(), "--against", RELEASED]);
    let found = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() == found.is_empty(), "{output:?}");
    found
}

/// A copy of the contract in which one text is another.
fn changed(from: &str, to: &str) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(root().join("proto").join(FILE)).unwrap();
    assert!(text.contains(from), "{from} is in the contract");
    fs::create_dir_all(copy.path().join(FILE).parent().unwrap()).unwrap();
    fs::write(copy.path().join(FILE), text.replacen(from, to, 1)).unwrap();
    fs::copy(root().join("proto/buf.yaml"), copy.path().join("buf.yaml")).unwrap();
    copy
}

#[test]
fn the_contract_is_compatible_with_the_one_released() {
    assert_eq!(breaks(&root().join("proto")), "");
}

#[test]
fn breaking_changes_are_refused() {
    for (from, to, why) in [
        ("rpc GetSecret(", "rpc FetchSecret(", "a call that is gone"),
        ("string version = 3;", "string version = 33;", "a field with another number"),
        ("uint64 generation = 4;", "string generation = 4;", "a field of another type"),
        ("  // Its generation.\n  uint64 generation = 3;\n", "", "a field that is gone"),
        ("WATCH_EVENT_TYPE_STALE = 5;", "WATCH_EVENT_TYPE_STALE = 15;", "another value"),
        ("returns (stream WatchSecretsResponse)", "returns (WatchSecretsResponse)", "no stream"),
        ("package secretbroker.v1;", "package secretbroker.v2;", "another package"),
    ] {
        assert_ne!(breaks(changed(from, to).path()), "", "{why} is refused");
    }
}

#[test]
fn additions_are_welcome() {
    let copy = changed(
        "  string version = 3;\n",
        "  string version = 3;\n  // New.\n  string note = 99;\n",
    );
    assert_eq!(breaks(copy.path()), "");
}

#[test]
fn every_item_says_what_it_means() {
    let without = changed("  // The generation that the report is about.\n", "");
    let lint = |path: &Path| buf(&["lint", path.to_str().unwrap()]);
    assert!(lint(&root().join("proto")).status.success());
    assert!(!lint(without.path()).status.success(), "a field without a comment is refused");
}
