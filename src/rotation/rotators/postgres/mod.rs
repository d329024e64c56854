//! `PostgreSQL` users: two that take turns, or one whose password is replaced.
//!
//! Invariants: the server gets a verifier of a new password (SCRAM) and never the password, so that
//! its logs can't hold it; a revocation is done when a login with the old value was refused; the
//! operator's own login is never changed.

mod consumer;
mod rights;
mod session;

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use postgres_protocol::password::scram_sha_256;

pub use self::consumer::PostgresConsumer;

use self::{
    consumer::quote,
    session::{Session, Trouble},
};
use super::{
    login::{Login, new_login, user},
    wire::{Patience, within},
};
use crate::{
    config::operator::targets::{
        endpoint::HostPort,
        form::Form,
        postgres::{Postgres, Turn, Use},
    },
    domain::{
        fault::{Fault, Reason},
        secret::Fields,
    },
    rotation::ports::{
        self, Change, Evidence, Generated, Revocation, Rotator, Severity, TargetError,
    },
};

/// The rotator of a `PostgreSQL` credential.
pub struct PostgresRotator {
    consumer: PostgresConsumer,
    turn: Turn,
    former: Vec<String>,
    end_sessions: bool,
    form: Form,
    login: Arc<dyn ports::Login>,
}

impl PostgresRotator {
    /// A rotator that changes the users with the operator's own `login`.
    pub fn new(settings: Postgres, login: Arc<dyn ports::Login>) -> Self {
        let Postgres { usage, turn, former, end_sessions, form, login: _ } = settings;
        Self { consumer: PostgresConsumer::new(usage), turn, former, end_sessions, form, login }
    }

    fn users(&self) -> &[String] {
        match &self.turn {
            Turn::Alternating(users) => users,
            Turn::InPlace(user) => std::slice::from_ref(user),
        }
    }

    fn first(&self) -> &HostPort {
        &self.consumer.usage.endpoint.address
    }

    /// A user of this rotator, by its configured name.
    fn own(&self, name: &str) -> Result<&str, TargetError> {
        let own = self.users().iter().find(|user| *user == name);
        own.map(String::as_str).ok_or_else(|| {
            let what = "the value names a user that this rotator does not turn over";
            TargetError::fault(Reason::Invalid, what)
        })
    }

    /// A session of the operator.
    async fn operator(&self, address: &HostPort) -> Result<Session, TargetError> {
        let fields = self.login.fields().await?;
        let login = Login::of(&fields).map_err(|_| {
            let what = "the operator's login has no `username` and `password`";
            Fault::new(Reason::Invalid, what)
        })?;
        if self.users().iter().chain(&self.former).any(|user| user == login.user) {
            let what = "the operator's login is one of the users that it should turn over";
            return Err(TargetError::fault(Reason::Invalid, what));
        }
        let Use { endpoint, database, .. } = &self.consumer.usage;
        let session = Session::open(address, &endpoint.tls, database, login).await;
        session.map_err(|trouble| {
            let by = |fault: Fault| Fault {
                detail: format!("the operator's login: {}", fault.detail).into(),
                ..fault
            };
            match trouble.of_operator(false) {
                TargetError::Fault(fault) => by(fault).into(),
                refused @ TargetError::Refused(_) => refused,
            }
        })
    }

    /// Runs a statement as the operator.
    async fn run(&self, sql: &str, sets: bool) -> Result<(), TargetError> {
        let work = async {
            let mut session = self.operator(self.first()).await?;
            let done = session.run(sql).await.map_err(|trouble| trouble.of_operator(sets));
            session.close().await;
            done
        };
        within(self.consumer.usage.endpoint.timeout, self.first(), work).await
    }

    /// Ends all sessions of a user that are open now, everywhere.
    async fn end_all(&self, user: &str) -> Result<usize, TargetError> {
        let endpoint = &self.consumer.usage.endpoint;
        let mut ended = 0;
        for address in std::iter::once(&endpoint.address).chain(&endpoint.replicas) {
            let work = self.end_at(address, user);
            ended += within(endpoint.timeout, address, work).await?;
        }
        Ok(ended)
    }

    async fn end_at(&self, address: &HostPort, user: &str) -> Result<usize, TargetError> {
        let mut session = self.operator(address).await?;
        let ended = end_sessions(&mut session, user, self.consumer.usage.endpoint.timeout).await;
        session.close().await;
        ended
    }

    /// Makes sure that a value is refused whose user goes on with another one.
    async fn replaced(&self, old: Login<'_>, severity: Severity) -> Result<Evidence, TargetError> {
        let evidence = self.consumer.is_refused(old).await?;
        let own = self.own(old.user)?;
        Ok(if severity.compromised {
            let n = self.end_all(own).await?;
            format!("{evidence}; sessions of {own} ended, to log in anew: {n}")
        } else {
            format!("{evidence}; {own} goes on with the new one")
        })
    }
}

#[async_trait]
impl Rotator for PostgresRotator {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn is_overlapping(&self) -> bool {
        matches!(self.turn, Turn::Alternating(_))
    }

    async fn generate(&self, current: Option<&Fields>) -> Result<Generated, TargetError> {
        let used = current.and_then(user);
        let free = self.users().iter().find(|own| Some(own.as_str()) != used);
        let next = free.or_else(|| self.users().first()).map(String::as_str).unwrap_or_default();
        let fields = new_login(next, &self.form)?;
        Ok(Generated::Value { fields, facts: BTreeMap::new() })
    }

    async fn apply(&self, change: &Change<'_>) -> Result<Evidence, TargetError> {
        let new = Login::of(change.new)?;
        let own = self.own(new.user)?;
        let verifier = scram_sha_256(new.password.expose());
        let sql = format!("ALTER ROLE {} WITH LOGIN PASSWORD '{verifier}'", quote(own));
        self.run(&sql, true).await?;
        let shared = change.current.and_then(user) == Some(own);
        let note = if shared { "; the password that it had works no more" } else { "" };
        Ok(format!("{own} has the new password{note}"))
    }

    async fn prove(&self, value: &Fields) -> Result<Evidence, TargetError> {
        self.consumer.prove(value).await
    }

    async fn revoke(
        &self,
        old: &Fields,
        kept: Option<&Fields>,
        severity: Severity,
    ) -> Result<Revocation, TargetError> {
        let old = Login::of(old)?;
        if kept.and_then(user) == Some(old.user) {
            return self.replaced(old, severity).await.map(Revocation::Done);
        }
        let former = self.former.iter().find(|user| *user == old.user).map(String::as_str);
        let own = match former {
            Some(former) => former,
            None => self.own(old.user)?,
        };
        let off = format!("ALTER ROLE {} WITH NOLOGIN PASSWORD NULL", quote(own));
        match self.run(&off, false).await {
            // A user that is gone is refused, which is looked at next.
            Err(TargetError::Fault(fault)) if fault.reason == Reason::NotFound => {}
            done => done?,
        }
        let mut evidence = self.consumer.is_refused(old).await?;
        if severity.compromised || self.end_sessions {
            let n = self.end_all(own).await?;
            evidence = format!("{evidence}; sessions of {own} ended: {n}");
        }
        Ok(Revocation::Done(format!("{own} can't log in any more; {evidence}")))
    }

    fn breaks(&self) -> Cow<'static, str> {
        match &self.turn {
            Turn::Alternating([one, other]) => format!(
                "new connections, and the sessions of {one} or {other} that the value opened, fail \
                 until each consumer has the new value"
            ),
            Turn::InPlace(user) => format!(
                "new connections of {user}, and all of its sessions, fail until each consumer has \
                 the new value; a routine rotation has that gap too, for new connections, from the \
                 change in the server until each consumer has the new value"
            ),
        }
        .into()
    }
}

/// Ends the sessions of a user that are open now; those that log in meanwhile have the new value.
async fn end_sessions(
    session: &mut Session,
    user: &str,
    limit: Duration,
) -> Result<usize, TargetError> {
    // Who may not see when a session began sees nothing there: then each one counts.
    const OPEN: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
        WHERE usename = $1 AND pid <> pg_backend_pid() \
        AND coalesce(backend_start <= $2::text::timestamptz, true)";
    let operator = |trouble: Trouble| trouble.of_operator(false);
    let now = session.value::<String>("SELECT clock_timestamp()::text", &[]).await;
    let now = now.map_err(operator)?.unwrap_or_default();
    let mut ended = 0;
    let mut patience = Patience::new(limit);
    loop {
        let open = session.value::<i64>(OPEN, &[&user, &now]).await.map_err(operator)?;
        let open = usize::try_from(open.unwrap_or_default()).unwrap_or_default();
        ended = ended.max(open);
        if open == 0 {
            return Ok(ended);
        }
        let still = TargetError::fault(Reason::Failed, format!("{open} sessions are still open"));
        patience.after(still).await?;
    }
}
