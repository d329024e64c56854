//! What needs a second person, and access in emergencies.

use std::time::Duration;

use futures_util::{StreamExt, stream};

use super::{Caller, Operator, errors::OperatorError, gate::Record, proto, requests, summary};
use crate::{
    domain::{
        policy::Verb,
        rotation::access::{self, Access},
        secret::SecretName,
    },
    rotation::{
        engine::{AccessError, Ask, RequestError},
        ports::{BreakGlass, Opened},
    },
    server::wire::timestamp,
};

/// Books that are looked through at once.
const AT_ONCE: usize = 8;
const BOUNDS: (Duration, Duration) = (Duration::from_secs(1), access::LONGEST);
/// The longest name of a rotation or an access, in bytes.
const ID_BYTES: usize = 128;

/// What an id names.
enum Named<'a> {
    Rotation { secret: &'a SecretName, requested_by: String },
    Access { secret: &'a SecretName, access: Box<Access> },
}

impl Operator {
    /// Agrees, as a second person, to what a first one asked for.
    ///
    /// # Errors
    /// When nothing of that name waits for the caller's word, or the caller asked for it.
    pub async fn approve(
        &self,
        caller: &Caller,
        request: proto::ApproveRequest,
    ) -> Result<proto::ApproveResponse, OperatorError> {
        let mut record = Record::begin(self, caller, Verb::Approve, "", "")?;
        record.about = known_id(&request.id).unwrap_or_default().to_owned();
        record.end(self.approved(caller, &request.id).await)
    }

    async fn approved(
        &self,
        caller: &Caller,
        id: &str,
    ) -> Result<proto::ApproveResponse, OperatorError> {
        let by = &caller.identity;
        let approved = match self.find(caller, Verb::Approve, id).await? {
            Named::Rotation { requested_by, .. } if *requested_by == **by => {
                return Err(OperatorError::same_person());
            }
            Named::Rotation { secret, .. } => {
                let approve = || self.engine.approve_rotation(secret, id, by);
                let rotation = requests::again(approve).await?;
                self.woken(secret, ());
                format!("rotation {id} of {secret}, asked for by {}", rotation.requested_by)
            }
            Named::Access { secret, .. } => {
                let Access { holder, lasts_secs, .. } =
                    self.engine.approve_access(secret, id, by).await?;
                self.woken(secret, ());
                format!("access {id} to {secret} for {lasts_secs} s, asked for by {holder}")
            }
        };
        Ok(proto::ApproveResponse { approved })
    }

    /// Opens access to a secret for a short time, or asks for it where two persons are needed.
    ///
    /// # Errors
    /// When it is not the caller's to ask for, or can't be opened.
    pub async fn break_glass(
        &self,
        caller: &Caller,
        request: proto::BreakGlassRequest,
    ) -> Result<proto::BreakGlassResponse, OperatorError> {
        let verb = Verb::BreakGlass;
        let mut record = Record::begin(self, caller, verb, &request.name, &request.reason)?;
        let result = self.broken(caller, &request).await;
        if let Ok(response) = &result {
            record.about.clone_from(&response.id);
        }
        record.end(result)
    }

    async fn broken(
        &self,
        caller: &Caller,
        request: &proto::BreakGlassRequest,
    ) -> Result<proto::BreakGlassResponse, OperatorError> {
        let (secret, _) = self.secret(caller, Verb::BreakGlass, &request.name)?;
        let glass = self.glass()?;
        let by = &caller.identity;
        let mut id = request.id.clone();
        if id.is_empty() {
            requests::stated(&request.reason)?;
            let lasts = summary::duration("duration", request.duration, access::USUAL, BOUNDS)?;
            let reason = &request.reason;
            let asked = requests::again(|| async move {
                let id = (self.name)(self.now()).0;
                let ask = Ask { id, holder: by, reason, lasts };
                match self.engine.ask_access(secret, ask).await {
                    Ok(access) => Ok(Ok(access)),
                    Err(AccessError::Request(error)) => Err(error),
                    Err(error) => Ok(Err(error)),
                }
            });
            let access = asked.await??;
            self.woken(secret, ());
            if access.awaits_approval(self.now()) {
                return Ok(proto::BreakGlassResponse {
                    id: access.id,
                    awaiting_approval: true,
                    ..Default::default()
                });
            }
            id = access.id;
        }
        let opened = self.engine.open_access(glass, secret, &id, by).await;
        self.woken(secret, ());
        let (access, opened) = opened?;
        response(access, &opened)
    }

    /// Ends access before its time.
    ///
    /// # Errors
    /// When there is no such access that the caller may end, or Vault can't be asked.
    pub async fn end_access(
        &self,
        caller: &Caller,
        request: proto::EndAccessRequest,
    ) -> Result<proto::EndAccessResponse, OperatorError> {
        let mut record = Record::begin(self, caller, Verb::BreakGlass, "", "")?;
        record.about = known_id(&request.id).unwrap_or_default().to_owned();
        let ended = async {
            let glass = self.glass()?;
            match self.find(caller, Verb::BreakGlass, &request.id).await? {
                Named::Rotation { .. } => Err(OperatorError::denied()),
                Named::Access { secret, access } => {
                    let by = &caller.identity;
                    self.engine.end_access(glass, secret, &access.id, by).await?;
                    self.woken(secret, ());
                    let ended = format!("access {} of {} to {secret}", access.id, access.holder);
                    Ok(proto::EndAccessResponse { ended })
                }
            }
        };
        record.end(ended.await)
    }

    fn glass(&self) -> Result<&dyn BreakGlass, OperatorError> {
        self.glass.as_deref().ok_or_else(|| {
            OperatorError::not_applicable("this operator's store opens no access in emergencies")
        })
    }

    /// What an id names, among the secrets that a caller may do this with.
    async fn find(
        &self,
        caller: &Caller,
        verb: Verb,
        id: &str,
    ) -> Result<Named<'_>, OperatorError> {
        let id = known_id(id)?;
        let mut looks = Vec::new();
        for (secret, _) in self.secrets(caller, verb) {
            looks.push(self.find_in(secret, id));
        }
        let mut looks = stream::iter(looks).buffer_unordered(AT_ONCE);
        let mut failed = None;
        while let Some(found) = looks.next().await {
            match found {
                Ok(Some(named)) => return Ok(named),
                Ok(None) => {}
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(OperatorError::denied))
    }

    async fn find_in<'a>(
        &'a self,
        secret: &'a SecretName,
        id: &str,
    ) -> Result<Option<Named<'a>>, OperatorError> {
        let book = self.engine.book(secret).await.map_err(RequestError::from)?;
        if let Some(open) = book.open.filter(|open| open.id.0 == id) {
            return Ok(Some(Named::Rotation { secret, requested_by: open.requested_by }));
        }
        let access = book.accesses.into_iter().find(|access| access.id == id);
        Ok(access.map(|access| Named::Access { secret, access: Box::new(access) }))
    }
}

fn known_id(id: &str) -> Result<&str, OperatorError> {
    if id.is_empty() || id.len() > ID_BYTES {
        return Err(OperatorError::denied());
    }
    Ok(id)
}

fn response(access: Access, opened: &Opened) -> Result<proto::BreakGlassResponse, OperatorError> {
    // The one way out: the answer to the person who asked.
    let token = std::str::from_utf8(opened.token.expose())
        .map_err(|_| OperatorError::not_applicable("the token is not one that can be shown"))?;
    Ok(proto::BreakGlassResponse {
        id: access.id,
        awaiting_approval: false,
        token: token.to_owned(),
        expire_time: Some(timestamp(opened.ends_at)),
    })
}
