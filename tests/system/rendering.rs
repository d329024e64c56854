//! What pods need of the sidecar: it renders files itself, is waited for, hands out its program.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use crate::{
    main_job::{Rig, sections},
    support::{broker::Broker, free_port, until},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_secret-broker");

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").permissions().mode() & 0o7777
}

fn wait(broker: &Broker, timeout: &str) -> Output {
    let address = format!("unix://{}", broker.path("broker.sock").display());
    let mut command = Command::new(PROGRAM);
    command.args(["wait", "--timeout", timeout, "--address", &address]);
    command.output().expect("a command")
}

/// The status that the start-up probe is answered with.
fn startup(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"GET /startupz HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1).map(str::to_owned)
}

/// A broker with one secret in a file that is not there yet, and a template of it.
fn rendering(port: u16) -> Broker {
    let mut broker = Broker::bare(&[]);
    broker.write(&format!(
        "[server]\nsocket = \"DIR/broker.sock\"\n[telemetry]\nhttp = \"127.0.0.1:{port}\"\n\
         [[policy]]\nidentities = [\"unix:uid=*,gid=*\"]\nsecrets = [\"**\"]\nverbs = [\"get\", \"watch\"]\n\
         [secrets.DB]\ncategory = \"database\"\nstore = \"dotenv\"\nfile = \"DIR/.env\"\nkey = \"DB\"\n\
         poll_interval = \"1s\"\nretry_min = \"100ms\"\nretry_max = \"1s\"\n"
    ));
    fs::write(broker.path("app.tmpl"), "password={{ secret(\"DB\").value }}\n")
        .expect("a template");
    let (input, output) = (broker.path("app.tmpl"), broker.path("app.conf"));
    broker.arguments =
        vec!["--render".to_owned(), format!("{}:{}:0440", input.display(), output.display())];
    broker
}

#[tokio::test]
async fn start_up_is_complete_when_every_template_is_rendered_and_rotations_are_followed() {
    let port = free_port();
    let mut broker = rendering(port);
    broker.run();
    until("probes are answered", async || startup(port).filter(|code| code == "503")).await;
    let early = wait(&broker, "300ms");
    assert_eq!(early.status.code(), Some(5), "{early:?}");
    assert!(!broker.path("app.conf").exists());
    fs::write(broker.path(".env"), "DB=first\n").expect("a value");
    let ready = wait(&broker, "20s");
    assert_eq!(ready.status.code(), Some(0), "{ready:?}");
    assert_eq!(startup(port).as_deref(), Some("200"));
    let content = || fs::read_to_string(broker.path("app.conf")).unwrap_or_default();
    assert_eq!(content(), "password=first\n");
    assert_eq!(mode(&broker.path("app.conf")), 0o440);
    fs::write(broker.path(".env"), "DB=second\n").expect("a value");
    until("the rotation is rendered", async || (content() == "password=second\n").then_some(()))
        .await;
    let template = "changed={{ secret(\"DB\").value }}\n";
    fs::write(broker.path("app.tmpl"), template).expect("a template");
    until("the template is read again", async || (content() == "changed=second\n").then_some(()))
        .await;
    assert_eq!(broker.terminate().await, Some(0));
}

#[tokio::test]
async fn once_renders_and_ends_and_leaves_the_lease_alive() {
    let rig = Rig::start("1h", "2h").await;
    let mut broker = Broker::prepare(&sections(&rig.vault.address()), &rig.environment());
    let template = "{{ secret(\"DB\").username }}:{{ secret(\"DB\").password }}";
    fs::write(broker.path("app.tmpl"), template).expect("a template");
    let spec =
        format!("{}:{}", broker.path("app.tmpl").display(), broker.path("app.conf").display());
    broker.arguments = vec!["--render".to_owned(), spec, "--once".to_owned()];
    broker.run();
    assert_eq!(broker.ended().await, Some(0), "{}", broker.log());
    let content = fs::read_to_string(broker.path("app.conf")).expect("the file");
    let (user, _) = content.split_once(':').expect("user and password");
    assert_eq!(rig.postgres.leased_users().await, [user.to_owned()], "it lives on");
}

#[tokio::test]
async fn once_ends_with_a_usage_error_where_a_template_can_never_be_rendered() {
    let mut broker = rendering(free_port());
    fs::write(broker.path(".env"), "DB=first\n").expect("a value");
    fs::write(broker.path("app.tmpl"), "{{ secret(\"DB\").none }}").expect("a template");
    broker.arguments.push("--once".to_owned());
    broker.run();
    assert_eq!(broker.ended().await, Some(2), "{}", broker.log());
    assert!(broker.log().contains("has no field `none`"), "{}", broker.log());
}

#[test]
fn copy_puts_the_program_into_a_directory_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    for _ in 0..2 {
        let copied =
            Command::new(PROGRAM).arg("copy").arg(directory.path()).output().expect("a command");
        assert!(copied.status.success(), "{copied:?}");
    }
    let program = directory.path().join("secret-broker");
    assert_eq!(mode(&program), 0o755);
    assert_eq!(fs::read_dir(directory.path()).expect("it").count(), 1, "nothing is left beside it");
    let version = Command::new(&program).arg("--version").output().expect("the copy runs");
    assert!(String::from_utf8_lossy(&version.stdout).starts_with("secret-broker "), "{version:?}");
    let nowhere =
        Command::new(PROGRAM).args(["copy", "/nowhere/at/all"]).output().expect("a command");
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("/nowhere/at/all"), "{nowhere:?}");
}

#[tokio::test]
async fn the_authority_opens_its_files_to_the_group_where_it_is_told_to() {
    let broker = Broker::bare(&[]);
    broker.write(
        "[server]\nlisten = \"127.0.0.1:0\"\nsocket = \"DIR/broker.sock\"\n\
         [tls]\nsource = \"authority\"\ndirectory = \"DIR/tls\"\nfile_mode = \"0640\"\n",
    );
    let mut broker = broker;
    broker.run();
    broker.wait().await;
    for file in ["ca.pem", "client.pem", "client.key"] {
        assert_eq!(mode(&broker.path("tls").join(file)), 0o640, "{file}");
    }
    assert_eq!(mode(&broker.path("tls")), 0o750);
}
