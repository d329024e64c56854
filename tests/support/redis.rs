//! A real Redis server.

use std::process::{Command, Stdio};

use redis::IntoConnectionInfo;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Running, free_port, until};

/// The password of the user `default`, which may do everything.
pub const PASSWORD: &str = "redis-superuser-password";

pub struct Redis {
    process: Running,
    directory: TempDir,
    arguments: Vec<String>,
    pub port: u16,
}

impl Redis {
    pub async fn start() -> Self {
        let arguments = ["--save", "", "--requirepass", PASSWORD].map(str::to_owned).to_vec();
        Self::run(tempfile::tempdir().expect("a directory"), arguments).await
    }

    /// A server with a configuration file, which it may rewrite.
    pub async fn with(configuration: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        // Redis makes no ACL file that is not there.
        let users = format!("user default on >{PASSWORD} ~* &* +@all\n");
        std::fs::write(directory.path().join("users.acl"), users).expect("the users");
        let path = directory.path().join("redis.conf");
        let configuration = configuration.replace("DIR", &directory.path().display().to_string());
        std::fs::write(&path, format!("save \"\"\nrequirepass {PASSWORD}\n{configuration}\n"))
            .expect("the configuration");
        Self::run(directory, vec![path.display().to_string()]).await
    }

    async fn run(directory: TempDir, arguments: Vec<String>) -> Self {
        let port = free_port();
        let process = Self::process(&directory, &arguments, port);
        let redis = Self { process, directory, arguments, port };
        redis.ready().await;
        redis
    }

    fn process(directory: &TempDir, arguments: &[String], port: u16) -> Running {
        let mut server = Command::new("redis-server");
        server
            .args(arguments)
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--dir"])
            .arg(directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Running::start(&mut server)
    }

    async fn ready(&self) {
        until("Redis answers", async || {
            let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
            stream.write_all(b"PING\r\n").await.ok()?;
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).await.ok()?;
            // Whether it lets anybody in is another question.
            (&answer != b"-LOAD").then_some(())
        })
        .await;
    }

    pub fn stop(&mut self) {
        self.process.kill();
    }

    /// Starts again with what it kept.
    pub async fn restart(&mut self) {
        self.stop();
        self.process = Self::process(&self.directory, &self.arguments, self.port);
        self.ready().await;
    }

    /// Runs a command as the user `default`, with its first password.
    pub async fn run_command(&self, command: &[&str]) -> redis::RedisResult<redis::Value> {
        let mut connection = self.session("default", PASSWORD).await?;
        let mut built = redis::cmd(command[0]);
        built.arg(&command[1..]);
        built.query_async(&mut connection).await
    }

    /// A session of a user.
    pub async fn session(
        &self,
        user: &str,
        password: &str,
    ) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
        let settings =
            redis::RedisConnectionInfo::default().set_username(user).set_password(password);
        let address = redis::ConnectionAddr::Tcp("127.0.0.1".to_owned(), self.port);
        let info = address.into_connection_info()?.set_redis_settings(settings);
        redis::Client::open(info)?.get_multiplexed_async_connection().await
    }

    /// All of what it keeps in files.
    pub fn files(&self) -> String {
        let files = std::fs::read_dir(self.directory.path()).expect("the directory");
        files.filter_map(|file| std::fs::read_to_string(file.ok()?.path()).ok()).collect()
    }

    /// Logs in and asks who is logged in.
    pub async fn login(&self, user: &str, password: &str) -> redis::RedisResult<String> {
        let mut connection = self.session(user, password).await?;
        redis::cmd("ACL").arg("WHOAMI").query_async(&mut connection).await
    }

    /// Makes an ACL user that may do everything with keys.
    pub async fn acl_user(&self, user: &str, password: &str) {
        let mut connection = self.superuser().await;
        let rules = ["on".to_owned(), format!(">{password}"), "~*".to_owned(), "+@all".to_owned()];
        let mut command = redis::cmd("ACL");
        command.arg("SETUSER").arg(user).arg(&rules[..]);
        command.query_async::<()>(&mut connection).await.expect("a user");
    }

    /// How many passwords a user has.
    pub async fn passwords(&self, user: &str) -> usize {
        let mut command = redis::cmd("ACL");
        command.arg("GETUSER").arg(user);
        let facts: std::collections::HashMap<String, redis::Value> =
            command.query_async(&mut self.superuser().await).await.expect("a user");
        let passwords: Vec<String> =
            redis::from_redis_value(facts["passwords"].clone()).expect("passwords");
        passwords.len()
    }

    async fn superuser(&self) -> redis::aio::MultiplexedConnection {
        let settings =
            redis::RedisConnectionInfo::default().set_username("default").set_password(PASSWORD);
        let address = redis::ConnectionAddr::Tcp("127.0.0.1".to_owned(), self.port);
        let info = address.into_connection_info().expect("an address");
        let client = redis::Client::open(info.set_redis_settings(settings)).expect("a client");
        client.get_multiplexed_async_connection().await.expect("a connection")
    }
}
