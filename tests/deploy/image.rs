//! The image: both programs, static, for nobody's root, and the same bytes each time.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use serde_json::Value;

use super::{output, root, run, support::tool};

/// Builds the image and returns its digest.
fn build(out: &Path) -> String {
    let mut build = Command::new(root().join("deploy/container/build"));
    build.args(["--profile", "dev", "--out"]).arg(out).env("SOURCE_DATE_EPOCH", "1700000000");
    output(&mut build).trim().to_owned()
}

/// The target that the image's programs are built for.
fn host() -> String {
    let said = output(Command::new("rustc").arg("-vV"));
    said.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

/// Unpacks the one layer of an archive and returns the image's configuration.
fn unpack(archive: &Path, into: &Path) -> Value {
    let layout = into.join("layout");
    let rootfs = into.join("rootfs");
    for folder in [&layout, &rootfs] {
        fs::create_dir_all(folder).unwrap();
    }
    output(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(&layout));
    let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let blob =
        |digest: &Value| layout.join("blobs").join(digest.as_str().unwrap().replacen(':', "/", 1));
    let index = read(&layout.join("index.json"));
    let manifest = read(&blob(&index["manifests"][0]["digest"]));
    let layers = manifest["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 1, "{manifest}");
    output(Command::new("tar").arg("-xf").arg(blob(&layers[0]["digest"])).arg("-C").arg(&rootfs));
    read(&blob(&manifest["config"]["digest"]))
}

#[test]
fn the_image_holds_two_static_programs_and_no_shell_and_is_the_same_each_time() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (directory.path().join("first"), directory.path().join("second"));
    let digest = build(&first);
    assert!(digest.starts_with("sha256:"), "{digest}");
    // Compiled again, not only packed again.
    let mut clean = Command::new(env!("CARGO"));
    clean.args(["clean", "--quiet", "--package", "secret-broker", "--target-dir", "target/static"]);
    output(clean.args(["--target", &host()]).current_dir(root()));
    assert_eq!(digest, build(&second), "built twice");
    let config = unpack(&first.join("secret-broker.oci.tar"), directory.path());
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/secret-broker"]));
    assert_eq!(config["created"], "2023-11-14T22:13:20Z");
    let rootfs = directory.path().join("rootfs");
    let mut programs = BTreeMap::new();
    let found = output(Command::new("find").arg(&rootfs).args(["-type", "f", "-printf", "%P\\n"]));
    for path in found.lines() {
        let mode = fs::metadata(rootfs.join(path)).unwrap().permissions().mode();
        assert_eq!(
            mode & 0o6002,
            0,
            "{path} is not writable for all, and nobody's but its caller's"
        );
        if mode & 0o111 != 0 {
            programs.insert(path.to_owned(), rootfs.join(path));
        }
    }
    let names: Vec<_> = programs.keys().map(String::as_str).collect();
    assert_eq!(names, ["secret-broker", "secret-operator"], "no shell, nor anything else");
    for (name, path) in &programs {
        let header = output(Command::new("readelf").args(["-l", "-d"]).arg(path));
        assert!(!header.contains("INTERP") && !header.contains("NEEDED"), "{name}: {header}");
        let (fine, said) = run(Command::new(path).arg("--version"));
        assert!(fine && said.starts_with(name), "{said}");
        let text = fs::read(path).unwrap();
        let here = root().display().to_string();
        assert!(!text.windows(here.len()).any(|w| w == here.as_bytes()), "{name} names {here}");
    }
    let mut check = Command::new(tool("cyclonedx/bin/python"));
    check.arg(root().join("tests/deploy/bom.py")).arg(first.join("secret-broker.cdx.json"));
    let (fine, said) = run(&mut check);
    assert!(fine, "{said}");
    let bom: Value =
        serde_json::from_slice(&fs::read(first.join("secret-broker.cdx.json")).unwrap()).unwrap();
    assert_eq!(bom["bomFormat"], "CycloneDX");
    let components = bom["components"].as_array().unwrap();
    let names: Vec<_> = components.iter().filter_map(|c| c["name"].as_str()).collect();
    for name in ["tokio", "rustls", "aws-lc-rs", "tokio-postgres"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    assert!(!names.contains(&"proptest"), "what is for tests only is in no program");
    let inside = rootfs.join("usr/share/doc/secret-broker/sbom.cdx.json");
    assert_eq!(fs::read(inside).unwrap(), fs::read(first.join("secret-broker.cdx.json")).unwrap());
}
