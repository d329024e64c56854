//! The clients of other languages: each runs its own tests on a rig of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{control::Controlled, harness::Tests};

/// Where the product lies.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where the clients lie: `clients/`, or what `SECRET_BROKER_CLIENTS` names.
pub fn folder() -> PathBuf {
    std::env::var_os("SECRET_BROKER_CLIENTS").map_or_else(|| root().join("clients"), PathBuf::from)
}

/// The folders there.
pub fn clients() -> Vec<String> {
    let entries = fs::read_dir(folder()).expect("the clients");
    let folders = entries.map(|entry| entry.expect("an entry")).filter(|e| e.path().is_dir());
    let mut names: Vec<_> =
        folders.map(|folder| folder.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The tests of all but the Rust client, which lie beside this file.
pub fn add(tests: &mut Tests) {
    for client in clients().into_iter().filter(|client| client != "rust") {
        tests.add(format!("{client}_passes_its_own_tests_on_the_rig"), move || passes(client));
    }
}

async fn passes(client: String) {
    let folder = folder().join(&client);
    assert!(folder.join("test.sh").is_file(), "clients/{client} has no test.sh");
    let rig = Controlled::start().await;
    let status = Command::new("bash")
        .arg("test.sh")
        .current_dir(&folder)
        .envs(rig.environment.iter().map(|(name, value)| (name, value)))
        .status();
    let status = status.expect("it runs");
    assert!(status.success(), "clients/{client}/test.sh: {status}");
}
