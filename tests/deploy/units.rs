//! The units for machines without Kubernetes are ones that systemd takes as they are.

use std::{fs, process::Command};

use super::{BROKER, OPERATOR, files, run};

#[test]
fn systemd_finds_nothing_to_complain_of_and_little_exposed() {
    let units = files("deploy/systemd");
    assert_eq!(units.len(), 2);
    let directory = tempfile::tempdir().unwrap();
    for unit in units {
        // The programs as they would be installed.
        let text = fs::read_to_string(&unit).unwrap();
        let text = text
            .replace("/usr/local/bin/secret-broker", BROKER)
            .replace("/usr/local/bin/secret-operator", OPERATOR);
        let path = directory.path().join(unit.file_name().unwrap());
        fs::write(&path, text).unwrap();
        let mut verify = Command::new("systemd-analyze");
        let (fine, said) =
            run(verify.args(["verify", "--man=no", "--recursive-errors=no"]).arg(&path));
        assert!(fine && said.is_empty(), "{}: {said}", unit.display());
        let mut security = Command::new("systemd-analyze");
        security.args(["security", "--offline=yes", "--no-pager", "--threshold=15"]).arg(&path);
        let (fine, said) = run(&mut security);
        assert!(fine, "{}: {said}", unit.display());
    }
}
