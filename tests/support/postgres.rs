//! A real `PostgreSQL` server.

use std::{
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::{Command, Stdio},
};

use tempfile::TempDir;
use tokio_postgres::NoTls;

use super::{Running, free_port, until};

const BIN: &str = "/usr/lib/postgresql/15/bin";
/// The password of the superuser `postgres`.
pub const PASSWORD: &str = "superuser-password";

pub struct Postgres {
    process: Running,
    directory: TempDir,
    pub port: u16,
}

/// A program of `PostgreSQL`'s, as a user that is not root: it refuses to run as root.
fn program(name: &str) -> Command {
    let path = Path::new(BIN).join(name);
    assert!(path.is_file(), "{} is missing: run tests/tools/install", path.display());
    if rustix::process::getuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(path);
        command
    } else {
        Command::new(path)
    }
}

/// Gives a file to the user that the server runs as.
fn hand_over(path: &Path) {
    if rustix::process::getuid().is_root() {
        let passwd = std::fs::read_to_string("/etc/passwd").expect("users");
        let line =
            passwd.lines().find(|line| line.starts_with("postgres:")).expect("a user postgres");
        let mut ids = line.split(':').skip(2).map(|id| id.parse().ok());
        chown(path, ids.next().flatten(), ids.next().flatten()).expect("a change of owner");
    }
}

impl Postgres {
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// The same with more settings, such as `log_statement=all`.
    pub async fn with(settings: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        hand_over(directory.path());
        let password = directory.path().join("password");
        std::fs::write(&password, PASSWORD).expect("the password file");
        let init = program("initdb")
            .arg("-D")
            .arg(directory.path().join("data"))
            .args(["-U", "postgres", "-A", "scram-sha-256", "--no-sync", "--pwfile"])
            .arg(&password)
            .stdout(Stdio::null())
            .status()
            .expect("initdb runs");
        assert!(init.success(), "initdb failed");
        Self::run(directory, settings).await
    }

    /// A server that proves itself by a certificate and takes no plain text.
    pub async fn with_tls(certificate: &str, key: &str) -> Self {
        let files = tempfile::tempdir().expect("a directory");
        hand_over(files.path());
        for (name, pem) in [("cert.pem", certificate), ("key.pem", key)] {
            let path = files.path().join(name);
            std::fs::write(&path, pem).expect("a file");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
                .expect("a mode");
            hand_over(&path);
        }
        let hba = files.path().join("hba");
        std::fs::write(&hba, "hostssl all all 127.0.0.1/32 scram-sha-256\nlocal all all trust\n")
            .expect("a file");
        let file = |name: &str| files.path().join(name).display().to_string();
        let settings = [
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", file("cert.pem")),
            format!("ssl_key_file={}", file("key.pem")),
            format!("hba_file={}", file("hba")),
        ];
        Self::with(&settings.each_ref().map(String::as_str)).await
    }

    /// A standby that follows this server.
    pub async fn standby(&self) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        hand_over(directory.path());
        let copied = program("pg_basebackup")
            .args(["-h", "127.0.0.1", "-U", "postgres", "--no-sync", "-R", "-X", "stream"])
            .args(["-c", "fast", "-p", &self.port.to_string(), "-D"])
            .arg(directory.path().join("data"))
            .env("PGPASSWORD", PASSWORD)
            .status()
            .expect("pg_basebackup runs");
        assert!(copied.success(), "pg_basebackup failed");
        Self::run(directory, &[]).await
    }

    async fn run(directory: TempDir, settings: &[&str]) -> Self {
        let port = free_port();
        let mut server = program("postgres");
        server
            .arg("-D")
            .arg(directory.path().join("data"))
            .args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k"])
            .arg(directory.path())
            .args(["-c", "fsync=off", "-c", "max_connections=200"]);
        for setting in settings {
            server.args(["-c", setting]);
        }
        let log = std::fs::File::create(directory.path().join("log")).expect("a log");
        server.stdout(Stdio::null()).stderr(log);
        let postgres = Self { process: Running::start(&mut server), directory, port };
        until("PostgreSQL answers", async || {
            let socket = postgres.directory.path().join(format!(".s.PGSQL.{port}"));
            let mut ready = program("pg_isready");
            ready.args(["-q", "-p", &port.to_string(), "-h"]).arg(socket.parent()?);
            ready.status().is_ok_and(|status| status.success()).then_some(())
        })
        .await;
        postgres
    }

    /// What the server logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).expect("the log")
    }

    pub fn stop(&mut self) {
        self.process.kill();
    }

    /// Makes two users that take turns, with the rights of one owner.
    pub async fn shop(&self) {
        self.execute(
            "CREATE ROLE shop_owner NOLOGIN;\
             CREATE ROLE shop_a LOGIN PASSWORD 'first-a' IN ROLE shop_owner;\
             CREATE ROLE shop_b NOLOGIN IN ROLE shop_owner;\
             ALTER ROLE shop_a SET role = 'shop_owner';\
             ALTER ROLE shop_b SET role = 'shop_owner';",
        )
        .await;
    }

    /// Logs in and asks who is logged in.
    pub async fn login(&self, user: &str, password: &str) -> Result<String, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port).user(user).password(password).dbname("postgres");
        let (client, connection) = config.connect(NoTls).await?;
        let connection = tokio::spawn(connection);
        let row = client.query_one("SELECT current_user::text", &[]).await;
        drop(client);
        let _ = connection.await;
        row.map(|row| row.get(0))
    }

    /// Runs statements as the superuser.
    pub async fn execute(&self, sql: &str) {
        self.superuser().await.batch_execute(sql).await.expect("the statement");
    }

    /// Whether a role may log in at all.
    pub async fn can_log_in(&self, role: &str) -> bool {
        let sql = format!("SELECT rolcanlogin FROM pg_roles WHERE rolname = '{role}'");
        self.superuser().await.query_one(&sql, &[]).await.expect("a role").get(0)
    }

    async fn superuser(&self) -> tokio_postgres::Client {
        let mut config = tokio_postgres::Config::new();
        config
            .host("127.0.0.1")
            .port(self.port)
            .user("postgres")
            .password(PASSWORD)
            .dbname("postgres");
        let (client, connection) = config.connect(NoTls).await.expect("a login");
        tokio::spawn(connection);
        client
    }

    /// The users that Vault made and has not dropped.
    pub async fn leased_users(&self) -> Vec<String> {
        let client = self.superuser().await;
        let rows =
            client.query("SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'v-%'", &[]).await;
        rows.expect("the users").iter().map(|row| row.get(0)).collect()
    }
}
