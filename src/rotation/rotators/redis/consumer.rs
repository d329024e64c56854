//! A credential used as its consumers use it.

use super::{
    super::{
        login::{Login, password, user},
        wire::within,
    },
    session::{Session, Trouble},
};
use crate::{
    config::operator::targets::{endpoint::HostPort, redis::Use},
    domain::{
        fault::{Fault, Reason},
        secret::Fields,
    },
    rotation::ports::{Evidence, TargetError, Validator},
};
use async_trait::async_trait;

/// The user that a login without a name is one of.
pub(super) const DEFAULT: &str = "default";

/// The login that a value is.
pub(super) fn login(value: &Fields) -> Result<Login<'_>, TargetError> {
    Ok(Login { user: user(value).unwrap_or(DEFAULT), password: password(value)? })
}

/// Uses a credential as its consumers do, which is how one of Redis is validated.
pub struct RedisConsumer {
    pub(super) usage: Use,
}

impl RedisConsumer {
    /// A consumer that uses values like this.
    pub const fn new(usage: Use) -> Self {
        Self { usage }
    }

    /// All servers.
    pub(super) fn servers(&self) -> impl Iterator<Item = &HostPort> {
        let endpoint = &self.usage.endpoint;
        std::iter::once(&endpoint.address).chain(&endpoint.replicas)
    }

    /// Logs in everywhere, and does what the application does.
    pub(super) async fn prove(&self, value: &Fields) -> Result<Evidence, TargetError> {
        let login = login(value)?;
        let mut n = 0;
        for address in self.servers() {
            within(self.usage.endpoint.timeout, address, self.prove_at(address, login)).await?;
            n += 1;
        }
        let first = &self.usage.endpoint.address;
        let what = self.usage.command.first().map_or("PING", String::as_str);
        Ok(format!("logged in at {first} (servers: {n}), where {what} is answered"))
    }

    async fn prove_at(&self, address: &HostPort, login: Login<'_>) -> Result<(), TargetError> {
        let mut session = self.login(address, login).await.map_err(Trouble::of_consumer)?;
        if self.usage.command.is_empty() {
            return match session.ask(&[b"PING"]).await {
                // Logged in, which is more than it says.
                Err(trouble) if !trouble.is_denied() => Err(trouble.of_consumer()),
                _ => Ok(()),
            };
        }
        let parts = self.usage.command.iter().map(String::as_bytes).collect::<Vec<_>>();
        let asked = session.ask(&parts).await;
        asked.map(drop).map_err(|trouble| match trouble.of_consumer() {
            TargetError::Refused(detail) => {
                TargetError::refused(format!("the application's command: {detail}"))
            }
            TargetError::Fault(Fault { reason, detail, .. }) => {
                TargetError::fault(reason, format!("the application's command: {detail}"))
            }
        })
    }

    /// Makes sure that a value is refused everywhere.
    pub(super) async fn is_refused(&self, login: Login<'_>) -> Result<Evidence, TargetError> {
        for address in self.servers() {
            let work = async {
                match self.login(address, login).await {
                    Ok(_) => {
                        let detail = format!("{address} still accepts the old value");
                        Err(TargetError::fault(Reason::Failed, detail))
                    }
                    Err(trouble) if trouble.is_refused_login() => Ok(()),
                    // Not a proof either way.
                    Err(trouble) => Err(trouble.of_operator()),
                }
            };
            within(self.usage.endpoint.timeout, address, work).await?;
        }
        Ok("the old value is refused".to_owned())
    }

    pub(super) async fn login(
        &self,
        address: &HostPort,
        login: Login<'_>,
    ) -> Result<Session, Trouble> {
        Session::open(address, &self.usage.endpoint.tls, login).await
    }
}

#[async_trait]
impl Validator for RedisConsumer {
    fn kind(&self) -> &'static str {
        "redis"
    }

    async fn validate(
        &self,
        value: &Fields,
        _previous: Option<&Fields>,
    ) -> Result<Evidence, TargetError> {
        self.prove(value).await
    }
}
