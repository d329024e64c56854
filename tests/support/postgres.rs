//! A real `PostgreSQL` server.

use std::{
    os::unix::fs::chown,
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
    _process: Running,
    _directory: TempDir,
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

impl Postgres {
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        if rustix::process::getuid().is_root() {
            let passwd = std::fs::read_to_string("/etc/passwd").expect("users");
            let line =
                passwd.lines().find(|line| line.starts_with("postgres:")).expect("a user postgres");
            let mut ids = line.split(':').skip(2).map(|id| id.parse().ok());
            chown(directory.path(), ids.next().flatten(), ids.next().flatten())
                .expect("a change of owner");
        }
        let data = directory.path().join("data");
        let password = directory.path().join("password");
        std::fs::write(&password, PASSWORD).expect("the password file");
        let init = program("initdb")
            .arg("-D")
            .arg(&data)
            .args(["-U", "postgres", "-A", "scram-sha-256", "--no-sync", "--pwfile"])
            .arg(&password)
            .stdout(Stdio::null())
            .status()
            .expect("initdb runs");
        assert!(init.success(), "initdb failed");
        let port = free_port();
        let mut server = program("postgres");
        server
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k"])
            .arg(directory.path())
            .args(["-c", "fsync=off", "-c", "max_connections=200"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let postgres = Self { _process: Running::start(&mut server), _directory: directory, port };
        until("PostgreSQL answers", async || postgres.login("postgres", PASSWORD).await.ok()).await;
        postgres
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
