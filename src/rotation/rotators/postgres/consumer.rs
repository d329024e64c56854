//! A credential used as its consumers use it.

use async_trait::async_trait;
use tokio_postgres::types::ToSql;

use super::{
    super::{
        login::Login,
        wire::{Patience, within},
    },
    session::{Session, Trouble},
};
use crate::{
    config::operator::targets::{endpoint::HostPort, postgres::Use},
    domain::{
        fault::{Fault, Reason},
        secret::Fields,
    },
    rotation::ports::{Evidence, TargetError, Validator},
};

/// Uses a credential as its consumers do, which is how one of `PostgreSQL` is validated.
pub struct PostgresConsumer {
    pub(super) usage: Use,
}

impl PostgresConsumer {
    /// A consumer that uses values like this.
    pub const fn new(usage: Use) -> Self {
        Self { usage }
    }

    /// Logs in everywhere, looks at its rights, and does what the application does.
    pub(super) async fn prove(&self, value: &Fields) -> Result<Evidence, TargetError> {
        let login = Login::of(value)?;
        let endpoint = &self.usage.endpoint;
        let first = &endpoint.address;
        let mut seen = within(endpoint.timeout, first, self.prove_at(first, login)).await?;
        for replica in &endpoint.replicas {
            // The first server accepts it, so a replica that does not lags behind.
            let mut patience = Patience::new(endpoint.replication_timeout);
            while let Err(error) =
                within(endpoint.timeout, replica, self.prove_at(replica, login)).await
            {
                patience.after(error).await?;
            }
        }
        if !endpoint.replicas.is_empty() {
            seen = format!("{seen}; replicas with the same: {}", endpoint.replicas.len());
        }
        Ok(seen)
    }

    /// Makes sure that a value is refused everywhere.
    pub(super) async fn is_refused(&self, login: Login<'_>) -> Result<Evidence, TargetError> {
        let endpoint = &self.usage.endpoint;
        let first = &endpoint.address;
        within(endpoint.timeout, first, self.refused_at(first, login)).await?;
        for replica in &endpoint.replicas {
            let mut patience = Patience::new(endpoint.replication_timeout);
            while let Err(error) =
                within(endpoint.timeout, replica, self.refused_at(replica, login)).await
            {
                patience.after(error).await?;
            }
        }
        Ok(match endpoint.replicas.len() {
            0 => "the old value is refused".to_owned(),
            n => format!("the old value is refused, at all replicas ({n}) too"),
        })
    }

    async fn refused_at(&self, address: &HostPort, login: Login<'_>) -> Result<(), TargetError> {
        match self.login(address, login).await {
            Ok(session) => {
                session.close().await;
                let detail = format!("{address} still accepts the old value");
                Err(TargetError::fault(Reason::Failed, detail))
            }
            Err(trouble) if trouble.is_refused_login() => Ok(()),
            // Not a proof either way.
            Err(trouble) => Err(trouble.of_operator(false)),
        }
    }

    async fn login(&self, address: &HostPort, login: Login<'_>) -> Result<Session, Trouble> {
        Session::open(address, &self.usage.endpoint.tls, &self.usage.database, login).await
    }

    async fn prove_at(
        &self,
        address: &HostPort,
        login: Login<'_>,
    ) -> Result<Evidence, TargetError> {
        let mut session = self.login(address, login).await.map_err(Trouble::of_consumer)?;
        let seen = self.look(&mut session, login.user).await;
        session.close().await;
        Ok(format!("logged in at {address}{}", seen?))
    }

    async fn look(&self, session: &mut Session, user: &str) -> Result<Evidence, TargetError> {
        let mut seen = Evidence::new();
        if let Some(owner) = &self.usage.owner {
            let users = if self.usage.alike.is_empty() {
                vec![user.to_owned()]
            } else {
                self.usage.alike.clone()
            };
            acts_as(session, owner, &users).await?;
            seen = format!("{seen} and acts as {owner}");
        }
        if let [one, other] = self.usage.alike.as_slice() {
            alike(session, [one, other]).await?;
            seen = format!("{seen}; {one} and {other} have the same rights");
        }
        if let Some(query) = &self.usage.query {
            self.ask(session, query).await?;
            seen = format!("{seen}; its query succeeds");
        }
        Ok(seen)
    }

    async fn ask(&self, session: &mut Session, query: &str) -> Result<(), TargetError> {
        session.run("BEGIN").await.map_err(Trouble::of_consumer)?;
        session.run(query).await.map_err(|trouble| match trouble.of_consumer() {
            TargetError::Refused(detail) => {
                TargetError::refused(format!("the application's query: {detail}"))
            }
            TargetError::Fault(Fault { reason, detail, .. }) => {
                TargetError::fault(reason, format!("the application's query: {detail}"))
            }
        })?;
        session.run("ROLLBACK").await.map_err(Trouble::of_consumer)
    }
}

/// Makes sure that the session acts as the owner, that nobody can log in as that, and that all of
/// the users can act as it.
async fn acts_as(session: &mut Session, owner: &str, users: &[String]) -> Result<(), TargetError> {
    const SQL: &str = "SELECT current_user::text, \
        (SELECT rolcanlogin FROM pg_roles WHERE rolname = $1), \
        ARRAY(SELECT u::text FROM unnest($2::text[]) u \
              WHERE NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = u \
                                AND pg_has_role(r.oid, $1::name, 'MEMBER')))";
    let parameters: [&(dyn ToSql + Sync); 2] = [&owner, &users];
    let rows = session.rows(SQL, &parameters).await.map_err(Trouble::of_consumer)?;
    let row = rows.first().and_then(|row| {
        let can_login: Option<bool> = row.try_get(1).ok()?;
        Some((row.try_get::<_, String>(0).ok()?, can_login, row.try_get::<_, Vec<String>>(2).ok()?))
    });
    let Some((acting, can_login, strangers)) = row else {
        return Err(TargetError::fault(Reason::Invalid, "PostgreSQL's answer can't be read"));
    };
    let quoted = quote(owner);
    match can_login {
        None => return Err(TargetError::refused(format!("there is no role {quoted}"))),
        Some(true) => {
            let detail =
                format!("the owner {quoted} can log in itself: ALTER ROLE {quoted} NOLOGIN");
            return Err(TargetError::refused(detail));
        }
        Some(false) => {}
    }
    if let Some(user) = users.iter().find(|user| strangers.contains(user)) {
        let user = quote(user);
        let detail = format!("{user} is not a member of {quoted}: GRANT {quoted} TO {user}");
        return Err(TargetError::refused(detail));
    }
    if acting != owner {
        let detail = format!(
            "the user does not act as {quoted} by default, so that its successor would not own \
             what it makes: ALTER ROLE ... SET role = {quoted}"
        );
        return Err(TargetError::refused(detail));
    }
    Ok(())
}

/// Makes sure that two users have the same rights.
async fn alike(session: &mut Session, users: [&str; 2]) -> Result<(), TargetError> {
    let both: &[&str] = &users;
    let rows =
        session.rows(super::rights::DIFFERENCES, &[&both]).await.map_err(Trouble::of_consumer)?;
    let shown = rows.iter().filter_map(|row| {
        Some(format!(
            "{} ({} alone)",
            row.try_get::<_, String>(0).ok()?,
            row.try_get::<_, String>(1).ok()?
        ))
    });
    let shown = shown.collect::<Vec<_>>();
    if rows.is_empty() {
        return Ok(());
    }
    let [one, other] = users;
    let detail = format!("{one} and {other} differ in their rights: {}", shown.join(", "));
    Err(TargetError::refused(detail))
}

/// A name in a statement.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[async_trait]
impl Validator for PostgresConsumer {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    async fn validate(
        &self,
        value: &Fields,
        _previous: Option<&Fields>,
    ) -> Result<Evidence, TargetError> {
        self.prove(value).await
    }
}
