//! Holds every client to the same vectors: each folder in `clients/` through its adapter.

mod adapter;
mod itself;
mod pattern;
mod steps;

use std::{fs, path::PathBuf};

use serde_json::Value;

use self::{adapter::Adapter, steps::Run};
use crate::{
    control::Controlled,
    harness::Tests,
    languages::{clients, folder, root},
};

pub fn add(tests: &mut Tests) {
    tests.add("the_conformance_runner_tells_what_is_wrong", itself::tells_what_is_wrong);
    for client in clients() {
        tests.add(format!("conformance_of_{client}"), move || conforms(client));
    }
}

/// One file of vectors.
struct Vector {
    name: String,
    steps: Vec<Value>,
}

fn vectors() -> Vec<Vector> {
    let entries = fs::read_dir(root().join("tests/conformance")).expect("the vectors");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    assert!(!files.is_empty(), "there are vectors");
    files
        .iter()
        .map(|file| {
            let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
            let text = fs::read_to_string(file).expect("a vector");
            let vector: Value = serde_json::from_str(&text)
                .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            assert!(vector["about"].is_string(), "{name} says what it is about");
            let steps = vector["steps"].as_array().expect("steps").clone();
            Vector { name, steps }
        })
        .collect()
}

async fn conforms(client: String) {
    let script = folder().join(&client).join("conformance.sh");
    assert!(script.is_file(), "clients/{client} has no conformance.sh");
    let rig = Controlled::start().await;
    let mut failures = Vec::new();
    for vector in vectors() {
        let adapter = Adapter::start(&script, &rig.environment);
        let mut run = Run::new(&rig, adapter);
        let ended = run.all(&vector.steps).await.and_then(|()| run.told_nothing_twice());
        if let Err(failure) = ended {
            println!("  {client}: {} FAILED: {failure}", vector.name);
            failures.push(format!("{}: {failure}", vector.name));
            // The next one finds the rig as it expects it.
            rig.order("restart", serde_json::json!({})).await;
        }
    }
    assert!(failures.is_empty(), "{client} does not conform:\n{}", failures.join("\n"));
}
