//! A session at a Redis server, and what its errors mean.
//!
//! Nothing that the server says goes into an error but the word that tells its kind.

use std::{future, pin::Pin};

use redis::{
    AsyncConnectionConfig, Cmd, RedisConnectionInfo, RedisError, RedisResult, Value,
    aio::MultiplexedConnection,
};
use tokio_rustls::TlsConnector;

use super::super::{
    login::Login,
    wire::{self, Checked},
};
use crate::{
    config::operator::targets::endpoint::{HostPort, Tls},
    domain::fault::{Fault, Reason},
    rotation::ports::TargetError,
};

/// What the server can't do, by what it says.
const LACKING: [&str; 4] = [
    "not configured to use an acl file",
    "without a config file",
    "unknown command",
    "unknown sub",
];

/// A failure, with the word that the server put first if it gave one.
#[derive(Debug)]
pub(super) struct Trouble {
    word: Option<String>,
    lacks: bool,
    no_user: bool,
    fault: Fault,
}

type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A session that was logged in. Its connection is driven while it is asked something.
pub(super) struct Session {
    address: HostPort,
    connection: MultiplexedConnection,
    /// Taken once the connection ended.
    driver: Option<Driver>,
}

impl Session {
    /// Logs in.
    pub(super) async fn open(
        address: &HostPort,
        tls: &Tls,
        login: Login<'_>,
    ) -> Result<Self, Trouble> {
        let checked = wire::checked(tls, address)?;
        let stream = wire::dial(address).await?;
        let info = RedisConnectionInfo::default().set_skip_set_lib_name();
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let trouble = |error: RedisError| Trouble::new(address, &error);
        let (connection, driver): (_, Driver) = if let Some(checked) = checked {
            let Checked { config: tls, name } = checked;
            let stream = TlsConnector::from(tls).connect(name, stream).await.map_err(|_| {
                let detail = format!(
                    "{address} gave no TLS session: check its address, `tls`, `ca` and `server_name`"
                );
                Fault::new(Reason::Unavailable, detail)
            })?;
            let made = MultiplexedConnection::new_with_config(&info, stream, config).await;
            let (connection, driver) = made.map_err(trouble)?;
            (connection, Box::pin(driver))
        } else {
            let made = MultiplexedConnection::new_with_config(&info, stream, config).await;
            let (connection, driver) = made.map_err(trouble)?;
            (connection, Box::pin(driver))
        };
        let mut session = Self { address: address.clone(), connection, driver: Some(driver) };
        session.ask(&[b"AUTH", login.user.as_bytes(), login.password.expose()]).await?;
        Ok(session)
    }

    /// Sends a command and returns what it gives.
    pub(super) async fn ask(&mut self, parts: &[&[u8]]) -> Result<Value, Trouble> {
        let mut command = Cmd::new();
        for part in parts {
            command.arg(*part);
        }
        let Self { address, connection, driver } = self;
        let answer = drive(driver, connection.send_packed_command(&command)).await;
        let answer = answer.and_then(Value::extract_error);
        answer.map_err(|error| Trouble::new(address, &error))
    }
}

/// Waits for an answer while the connection works.
async fn drive(
    driver: &mut Option<Driver>,
    answer: impl Future<Output = RedisResult<Value>>,
) -> RedisResult<Value> {
    let mut answer = std::pin::pin!(answer);
    let ended = async {
        match driver {
            Some(driver) => driver.await,
            None => future::pending().await,
        }
    };
    tokio::select! {
        biased;
        answer = &mut answer => return answer,
        () = ended => {}
    }
    *driver = None;
    answer.await
}

impl Trouble {
    fn new(address: &HostPort, error: &RedisError) -> Self {
        let said = error.detail().unwrap_or_default().to_ascii_lowercase();
        let word = error
            .code()
            .map(|word| word.chars().filter(char::is_ascii_uppercase).take(16).collect::<String>());
        let (reason, what) = match word.as_deref() {
            None => (Reason::Unavailable, "the connection broke off, or is not one to Redis"),
            Some("WRONGPASS" | "NOAUTH") => {
                (Reason::Unauthenticated, "the server refuses the login")
            }
            Some("NOPERM") => (Reason::Forbidden, "the user lacks the right to do this"),
            Some("LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN") => {
                (Reason::Unavailable, "the server does not serve now")
            }
            Some("BUSY" | "OOM") => (Reason::Throttled, "the server has no room for this now"),
            Some("READONLY" | "MISCONF" | "UNKILLABLE") => {
                (Reason::Failed, "the server can't do this now")
            }
            Some(_) if said.contains("max number of clients") => {
                (Reason::Throttled, "the server has no room for this now")
            }
            Some(_) => (Reason::Invalid, "the server does not accept the command"),
        };
        let word_shown = word.as_deref().unwrap_or("no answer");
        let detail = format!("{address}: {what} ({word_shown})");
        let lacks = LACKING.iter().any(|lack| said.contains(lack));
        let no_user = said.contains("no such user");
        Self { word, lacks, no_user, fault: Fault::new(reason, detail) }
    }

    fn is(&self, word: &str) -> bool {
        self.word.as_deref() == Some(word)
    }

    /// Whether the server refuses the login.
    pub(super) fn is_refused_login(&self) -> bool {
        self.is("WRONGPASS")
    }

    /// Whether the user may not use the command.
    pub(super) fn is_denied(&self) -> bool {
        self.is("NOPERM")
    }

    /// Whether the server has no place for what it should keep, or no such command.
    pub(super) fn is_lacking(&self) -> bool {
        self.lacks || self.is_denied()
    }

    /// Whether the server has no such user.
    pub(super) fn is_no_user(&self) -> bool {
        self.no_user
    }

    /// What it means for the value that the session was opened with.
    pub(super) fn of_consumer(self) -> TargetError {
        let of_value = self.is_refused_login() || self.is_denied();
        if of_value { TargetError::refused(self.fault.detail) } else { self.fault.into() }
    }

    /// What it means when the operator did it.
    pub(super) fn of_operator(self) -> TargetError {
        self.fault.into()
    }

    /// A failure of the operator's server to keep a change.
    pub(super) fn of_keeping(self) -> TargetError {
        let Fault { detail, .. } = self.fault;
        TargetError::fault(Reason::Failed, format!("{detail}: the change could not be saved"))
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self { word: None, lacks: false, no_user: false, fault }
    }
}
