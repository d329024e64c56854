//! A real Redis server.

use std::process::{Command, Stdio};

use redis::IntoConnectionInfo;
use tempfile::TempDir;

use super::{Running, free_port, until};

/// The password of the user `default`, which may do everything.
pub const PASSWORD: &str = "redis-superuser-password";

pub struct Redis {
    _process: Running,
    _directory: TempDir,
    pub port: u16,
}

impl Redis {
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let port = free_port();
        let mut server = Command::new("redis-server");
        server
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""])
            .args(["--requirepass", PASSWORD, "--dir"])
            .arg(directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let redis = Self { _process: Running::start(&mut server), _directory: directory, port };
        until("Redis answers", async || redis.login("default", PASSWORD).await.ok()).await;
        redis
    }

    /// Logs in and asks who is logged in.
    pub async fn login(&self, user: &str, password: &str) -> redis::RedisResult<String> {
        let settings =
            redis::RedisConnectionInfo::default().set_username(user).set_password(password);
        let address = redis::ConnectionAddr::Tcp("127.0.0.1".to_owned(), self.port);
        let info = address.into_connection_info()?.set_redis_settings(settings);
        let client = redis::Client::open(info)?;
        let mut connection = client.get_multiplexed_async_connection().await?;
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
