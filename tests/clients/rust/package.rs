//! The Rust client as others get it: its package, its README's example, its example web service.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{control::Controlled, harness::Tests, support::Running};

pub fn add(tests: &mut Tests) {
    tests.add("rust_the_readme_s_example_is_the_quickstart_and_runs", readme);
    tests.add("rust_the_web_service_outlives_rotations", web_service);
    tests.add("rust_the_package_holds_all_it_needs_to_be_built", package);
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// An example of the client, built as `cargo test --workspace --all-features` builds it.
fn example(name: &str) -> PathBuf {
    let mut build = cargo();
    build.args(["build", "--quiet", "--workspace", "--all-features", "--examples"]);
    let program = std::env::current_exe().expect("this program");
    let profile = program.parent().and_then(Path::parent).expect("the folder of the profile");
    if profile.ends_with("release") {
        build.arg("--release");
    }
    assert!(build.status().expect("cargo runs").success(), "the examples can't be built");
    profile.join("examples").join(name)
}

fn environment(rig: &Controlled, command: &mut Command) {
    let (address, database) =
        rig.variable("RIG_PG").trim_start_matches("postgresql://").split_once('/').expect("both");
    let (host, port) = address.split_once(':').expect("both");
    command.envs(rig.environment.iter().map(|(name, value)| (name, value))).envs([
        ("PGHOST", host),
        ("PGPORT", port),
        ("PGDATABASE", database),
    ]);
}

async fn readme() {
    let readme = fs::read_to_string(root().join("clients/rust/README.md")).expect("a README");
    let shown = readme.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next());
    let example_text = fs::read_to_string(root().join("clients/rust/examples/quickstart.rs"));
    let example_text = example_text.expect("the example");
    let code = example_text.split_once('\n').expect("a first line").1;
    assert_eq!(shown.expect("an example"), code, "the README shows the example that runs");
    let lines = code.split_once("{\n").expect("main").1.lines().count();
    assert!(lines <= 10, "{lines} lines");
    let rig = Controlled::start().await;
    let mut command = Command::new(example("quickstart"));
    environment(&rig, &mut command);
    assert!(command.status().expect("it runs").success());
}

async fn web_service() {
    let rig = Controlled::start().await;
    let mut command = Command::new(example("web_service"));
    environment(&rig, &mut command);
    let mut running = Running::start(command.arg("127.0.0.1:0").stdout(Stdio::piped()));
    let mut line = String::new();
    let output = running.0.stdout.take().expect("its output");
    BufReader::new(output).read_line(&mut line).expect("a line");
    let address = line.trim().strip_prefix("listening on ").expect("an address").to_owned();
    let http = reqwest::Client::new();
    let url = |path: &str| format!("http://{address}/{path}");
    let begin = http.post(url("sessions")).json(&serde_json::json!({ "user": "ada" }));
    let token = begin.send().await.expect("an answer").text().await.expect("a token");
    for note in 0..6 {
        let name = if note % 3 == 2 { "JWT" } else { "DB" };
        rig.rotate(name).await;
        let write = http.post(url("notes")).bearer_auth(&token).body(format!("note {note}"));
        let written = write.send().await.expect("an answer");
        // The key that signed the token is known to two generations.
        assert_eq!(written.status().as_u16(), if note < 5 { 201 } else { 401 }, "note {note}");
    }
    let renewed = http.post(url("sessions")).json(&serde_json::json!({ "user": "ada" }));
    let token = renewed.send().await.expect("an answer").text().await.expect("a token");
    let read = http.get(url("notes")).bearer_auth(&token).send().await.expect("an answer");
    let notes: Vec<Value> = read.json().await.expect("notes");
    assert_eq!(notes.len(), 5);
    assert_eq!(notes[0], "ada: note 4");
    let stranger = http.get(url("notes")).send().await.expect("an answer");
    assert_eq!(stranger.status().as_u16(), 401);
}

async fn package() {
    let target = tempfile::tempdir().expect("a folder");
    let packed = cargo()
        .args(["package", "--quiet", "--allow-dirty", "--no-verify", "-p", "secret-broker-client"])
        .arg("--target-dir")
        .arg(target.path())
        .status();
    assert!(packed.expect("cargo runs").success(), "it can't be packed");
    let archive = target.path().join("package/secret-broker-client-0.1.0.crate");
    let unpacked =
        Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(target.path()).status();
    assert!(unpacked.expect("tar runs").success());
    let folder = target.path().join("secret-broker-client-0.1.0");
    for file in ["proto/secretbroker/v1/broker.proto", "README.md", "LICENSE", "src/lib.rs"] {
        assert!(folder.join(file).is_file(), "{file} is not in the package");
    }
    // Among the libraries that are built already: in the same folder, by the same profile.
    let program = std::env::current_exe().expect("this program");
    let target_folder =
        program.parent().and_then(Path::parent).and_then(Path::parent).expect("target");
    let mut build = cargo();
    build.current_dir(&folder).args(["build", "--quiet", "--lib", "--all-features", "--offline"]);
    for setting in [
        "profile.dev.debug=\"line-tables-only\"",
        "profile.dev.package.\"*\".debug=false",
        "profile.dev.build-override.debug=false",
    ] {
        build.args(["--config", setting]);
    }
    let checked = build.arg("--target-dir").arg(target_folder).status();
    assert!(checked.expect("cargo runs").success(), "the package can't be built by itself");
}
