//! Redis users: one that accepts two passwords for a while, two that take turns, or the password of
//! the server itself.
//!
//! Users are not replicated, so that every change is made at every server, and none is made at the
//! next one before it succeeded. A revocation is done when logins with the old value were refused.

mod consumer;
mod session;
mod users;

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use async_trait::async_trait;

pub use self::consumer::RedisConsumer;

use self::{
    consumer::{DEFAULT, login},
    session::{Session, Trouble},
    users::{change, digested, end_sessions, existing, forget, keep},
};
use super::{
    login::{Login, new_login, user},
    wire::within,
};
use crate::{
    config::operator::targets::{
        endpoint::HostPort,
        form::Form,
        redis::{Redis, Turn},
    },
    domain::{
        fault::{Fault, Reason},
        secret::Fields,
    },
    rotation::ports::{
        self, Change, Evidence, Generated, Revocation, Rotator, Severity, TargetError,
    },
};

/// The rotator of a Redis credential.
pub struct RedisRotator {
    consumer: RedisConsumer,
    turn: Turn,
    former: Vec<String>,
    form: Form,
    login: Option<Arc<dyn ports::Login>>,
}

/// What a revocation changes at each server.
enum Cut<'a> {
    /// One of a user's passwords.
    Password { user: &'a str, digest: String },
    /// A user as a whole.
    User(&'a str),
    /// One of the server's passwords, whose successor becomes the configured one.
    Server { digest: String, kept: &'a Fields },
}

impl RedisRotator {
    /// A rotator that changes the users with the operator's own `login`. Without one, which is for
    /// `requirepass` only, it logs in with the passwords that it replaces.
    pub fn new(settings: Redis, login: Option<Arc<dyn ports::Login>>) -> Self {
        let Redis { usage, turn, former, form, login: _ } = settings;
        Self { consumer: RedisConsumer::new(usage), turn, former, form, login }
    }

    fn users(&self) -> Vec<&str> {
        match &self.turn {
            Turn::Shared(user) => vec![user],
            Turn::Alternating([one, other]) => vec![one, other],
            Turn::Requirepass => vec![DEFAULT],
        }
    }

    /// A user of this rotator, by its configured name.
    fn own(&self, name: &str) -> Result<&str, TargetError> {
        self.users().into_iter().find(|user| *user == name).ok_or_else(|| {
            let what = "the value names a user that this rotator does not turn over";
            TargetError::fault(Reason::Invalid, what)
        })
    }

    /// A session of the operator; without a login of its own, by the first value that opens one.
    async fn operator(
        &self,
        address: &HostPort,
        values: &[Option<&Fields>],
    ) -> Result<Session, TargetError> {
        let Some(own) = &self.login else { return self.by_value(address, values).await };
        let fields = own.fields().await?;
        let login = login(&fields).map_err(|_| {
            Fault::new(Reason::Invalid, "the operator's login has no `username` and `password`")
        })?;
        let mut turned = self.users();
        turned.extend(self.former.iter().map(String::as_str));
        if turned.contains(&login.user) {
            let what = "the operator's login is one of the users that it should turn over";
            return Err(TargetError::fault(Reason::Invalid, what));
        }
        let session = self.consumer.login(address, login).await;
        session.map_err(|trouble| match trouble.of_operator() {
            TargetError::Fault(Fault { reason, detail, .. }) => {
                TargetError::fault(reason, format!("the operator's login: {detail}"))
            }
            refused @ TargetError::Refused(_) => refused,
        })
    }

    async fn by_value(
        &self,
        address: &HostPort,
        values: &[Option<&Fields>],
    ) -> Result<Session, TargetError> {
        for value in values.iter().flatten() {
            match self.consumer.login(address, login(value)?).await {
                Ok(session) => return Ok(session),
                Err(trouble) if trouble.is_refused_login() => {}
                Err(trouble) => return Err(trouble.of_operator()),
            }
        }
        let what = "the server accepts none of the passwords that are in force: store the current \
                    one first, or give the operator a `login` of its own";
        Err(Fault::new(Reason::Unauthenticated, format!("{address}: {what}")).into())
    }

    async fn apply_at(
        &self,
        address: &HostPort,
        change_to: &Change<'_>,
    ) -> Result<&'static str, TargetError> {
        let new = login(change_to.new)?;
        let own = self.own(new.user)?;
        let mut session = self.operator(address, &[Some(change_to.new), change_to.current]).await?;
        let known = existing(&mut session, own).await?;
        let digest = digested(new.password);
        if !known.accepts(&digest) {
            let rule = format!("#{digest}");
            let rules: &[&str] = match &self.turn {
                Turn::Alternating(_) => &["on", "resetpass", &rule],
                Turn::Shared(_) | Turn::Requirepass => &["on", &rule],
            };
            change(&mut session, own, rules).await?;
        }
        keep(&mut session).await
    }

    /// Cuts a value off at one server. Returns how many sessions were ended, if they are to be.
    async fn cut_at(
        &self,
        address: &HostPort,
        cut: &Cut<'_>,
        values: &[Option<&Fields>],
        compromised: bool,
    ) -> Result<(&'static str, Option<i64>), TargetError> {
        let mut session = self.operator(address, values).await?;
        let user = match cut {
            Cut::Password { user, digest } => {
                unless_gone(forget(&mut session, user, digest).await)?;
                user
            }
            Cut::User(user) => {
                if unless_gone(existing(&mut session, user).await)?.is_some() {
                    change(&mut session, user, &["off", "resetpass"]).await?;
                }
                user
            }
            Cut::Server { digest, kept } => {
                // The one command that the server's own configuration follows; it is shown neither
                // by its monitor nor by its log. Where that password is configured already, it
                // does nothing, and the other one has to be taken away.
                let kept = login(kept)?;
                let parts: [&[u8]; 4] = [b"CONFIG", b"SET", b"requirepass", kept.password.expose()];
                session.ask(&parts).await.map_err(Trouble::of_operator)?;
                forget(&mut session, DEFAULT, digest).await?;
                DEFAULT
            }
        };
        let kept = keep(&mut session).await?;
        let ended = if compromised { Some(end_sessions(&mut session, user).await?) } else { None };
        Ok((kept, ended))
    }

    /// What has to be cut off so that `old` is refused and `kept` is not.
    fn cut<'a>(&'a self, old: Login<'_>, kept: Option<&'a Fields>) -> Result<Cut<'a>, TargetError> {
        let successor = kept.map(login).transpose()?;
        if successor.is_some_and(|kept| kept.user == old.user && kept.password == old.password) {
            let what = "the value to revoke is the one that is in force";
            return Err(TargetError::fault(Reason::Invalid, what));
        }
        if let Some(former) = self.former.iter().find(|user| *user == old.user)
            && successor.is_none_or(|kept| kept.user != old.user)
        {
            return Ok(Cut::User(former));
        }
        let user = self.own(old.user)?;
        let digest = digested(old.password);
        Ok(match &self.turn {
            Turn::Alternating(_) if successor.is_none_or(|kept| kept.user != old.user) => {
                Cut::User(user)
            }
            Turn::Shared(_) | Turn::Alternating(_) => Cut::Password { user, digest },
            Turn::Requirepass => match kept {
                Some(kept) => Cut::Server { digest, kept },
                None if self.login.is_some() => Cut::Password { user, digest },
                None => {
                    let what = "the operator would lock itself out too: give it a `login` of its \
                                own, or let the successor be in force first";
                    return Err(TargetError::fault(Reason::Invalid, what));
                }
            },
        })
    }

    /// Makes sure that both users have the same rights.
    async fn alike(&self, [one, other]: &[String; 2]) -> Result<(), TargetError> {
        for address in self.consumer.servers() {
            let work = async {
                let mut session = self.operator(address, &[]).await?;
                let (a, b) =
                    (existing(&mut session, one).await?, existing(&mut session, other).await?);
                let differ = a.difference(&b);
                if differ.is_empty() {
                    return Ok(());
                }
                let detail =
                    format!("{address}: {one} and {other} differ in {}", differ.join(", "));
                Err(TargetError::refused(detail))
            };
            within(self.consumer.usage.endpoint.timeout, address, work).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Rotator for RedisRotator {
    fn kind(&self) -> &'static str {
        "redis"
    }

    async fn generate(&self, current: Option<&Fields>) -> Result<Generated, TargetError> {
        let used = current.and_then(user);
        let users = self.users();
        let free = users.iter().find(|own| Some(**own) != used).or(users.first());
        let fields = new_login(free.copied().unwrap_or(DEFAULT), &self.form)?;
        Ok(Generated::Value { fields, facts: BTreeMap::new() })
    }

    async fn apply(&self, change: &Change<'_>) -> Result<Evidence, TargetError> {
        let mut kept = "";
        for address in self.consumer.servers() {
            let limit = self.consumer.usage.endpoint.timeout;
            kept = within(limit, address, self.apply_at(address, change)).await?;
        }
        let own = self.own(login(change.new)?.user)?;
        Ok(format!("{own} accepts the new password; {kept}"))
    }

    async fn prove(&self, value: &Fields) -> Result<Evidence, TargetError> {
        let mut evidence = self.consumer.prove(value).await?;
        if let Turn::Alternating(users) = &self.turn {
            self.alike(users).await?;
            let [one, other] = users;
            evidence = format!("{evidence}; {one} and {other} have the same rights");
        }
        Ok(evidence)
    }

    async fn revoke(
        &self,
        old: &Fields,
        kept: Option<&Fields>,
        severity: Severity,
    ) -> Result<Revocation, TargetError> {
        let login = login(old)?;
        let cut = self.cut(login, kept)?;
        let (mut saved, mut ended) = ("", None);
        for address in self.consumer.servers() {
            let values = [kept, Some(old)];
            let work = self.cut_at(address, &cut, &values, severity.compromised);
            let (at, n) = within(self.consumer.usage.endpoint.timeout, address, work).await?;
            saved = at;
            ended = n.map(|n| n + ended.unwrap_or(0)).or(ended);
        }
        let mut evidence = self.consumer.is_refused(login).await?;
        if let Some(n) = ended {
            evidence = format!("{evidence}; sessions ended: {n}");
        }
        Ok(Revocation::Done(format!("{evidence}; {saved}")))
    }

    fn breaks(&self) -> Cow<'static, str> {
        match &self.turn {
            Turn::Alternating([one, other]) => format!(
                "new connections, and the sessions of {one} or {other} that the value opened, fail \
                 until each consumer has the new value"
            ),
            Turn::Shared(user) => format!(
                "new connections of {user} fail until each consumer has the new value, and all of \
                 its sessions end"
            ),
            Turn::Requirepass => "new connections without a user's name fail until each consumer \
                                  has the new value, those of replicas and sentinels too, and all \
                                  of their sessions end"
                .to_owned(),
        }
        .into()
    }
}

/// What a user that is gone accepts is nothing, which is looked at afterwards.
fn unless_gone<T>(done: Result<T, TargetError>) -> Result<Option<T>, TargetError> {
    match done {
        Err(TargetError::Fault(fault)) if fault.reason == Reason::NotFound => Ok(None),
        done => done.map(Some),
    }
}
