//! The one step whose result exists before it is stored: a new value.
//!
//! Its digest is written down before the value is stored, so that after a crash the engine knows
//! its own value from one that somebody else wrote, and never makes two under one number.

use std::{fmt::Write, sync::Arc};

use aws_lc_rs::{digest, rand};

use super::{DriveError, Engine, Managed, desk::Desk, drive::late, steps::Outcome};
use crate::{
    domain::{
        fault::{Fault, Reason},
        rotation::{Candidate, Failure, Hold},
        secret::Fields,
    },
    rotation::ports::Generated,
};

const SALT_BYTES: usize = 16;

/// What the engine finds when it takes the step up.
enum Found {
    /// Nothing was stored: a value has to be made.
    Nothing,
    /// The value was lost before it was stored.
    Lost(u64),
    /// It is stored.
    Stored(u64),
}

impl Engine {
    pub(super) async fn generate(
        &self,
        desk: &mut Desk<'_>,
        managed: &Managed,
        again: bool,
    ) -> Result<Result<Outcome, Failure>, DriveError> {
        let latest = match desk.while_claimed(managed.versions.latest()).await? {
            Some(Ok(latest)) => latest,
            Some(Err(fault)) => return Ok(self.not_begun(desk, Failure::from(&fault))),
            None => return Ok(self.not_begun(desk, late())),
        };
        let Some(rotation) = &mut desk.book.open else { return Ok(Err(late())) };
        rotation.begin(latest, self.now());
        desk.save().await?;
        let Some(rotation) = &desk.book.open else { return Ok(Err(late())) };
        let candidate = rotation.candidate.clone().unwrap_or_default();
        if again {
            let look = find(managed, &candidate, latest);
            match desk.while_claimed(look).await?.unwrap_or_else(|| Err(late())) {
                Err(failure) => return Ok(Err(failure)),
                Ok(Found::Stored(version)) => return Ok(Ok(stored(desk, version))),
                Ok(Found::Lost(latest)) => {
                    if let Some(rotation) = &mut desk.book.open {
                        rotation.lose_candidate(latest);
                    }
                    desk.save().await?;
                }
                Ok(Found::Nothing) => {}
            }
        }
        let Some(rotation) = &desk.book.open else { return Ok(Err(late())) };
        let (base, compromised) = (rotation.base, rotation.kind.is_emergency());
        let make = async {
            let current = managed.value(base.current).await?;
            if compromised {
                managed.rotator.generate_afresh(current.as_deref()).await
            } else {
                managed.rotator.generate(current.as_deref()).await
            }
        };
        match desk.while_claimed(make).await? {
            None => Ok(Err(late())),
            Some(Err(error)) => Ok(Err(Failure::from(&error))),
            Some(Ok(Generated::HandOver(how))) => Ok(Ok(Outcome::Hold(Hold::HandOver(how)))),
            Some(Ok(Generated::InPlace { facts })) => {
                if let Some(candidate) =
                    desk.book.open.as_mut().and_then(|open| open.candidate.as_mut())
                {
                    candidate.facts = facts;
                }
                Ok(Ok(Outcome::Done("the target makes the value itself".to_owned())))
            }
            Some(Ok(Generated::Value { fields, facts })) => {
                if let Some(candidate) =
                    desk.book.open.as_mut().and_then(|open| open.candidate.as_mut())
                {
                    candidate.facts = facts;
                }
                self.store(desk, managed, &fields).await
            }
        }
    }

    /// Stores a new value as pending, after its digest and its label are written down: nobody is
    /// served the latest version of a path that has labels.
    pub(super) async fn store(
        &self,
        desk: &mut Desk<'_>,
        managed: &Managed,
        fields: &Fields,
    ) -> Result<Result<Outcome, Failure>, DriveError> {
        let digest = match salted(fields) {
            Ok(digest) => digest,
            Err(fault) => return Ok(Err(Failure::from(&fault))),
        };
        let epoch = desk.book.epoch;
        let Some(rotation) = &mut desk.book.open else { return Ok(Err(late())) };
        let (id, base) = (rotation.id.clone(), rotation.base);
        let Some(candidate) = &mut rotation.candidate else { return Ok(Err(late())) };
        candidate.digest = Some(digest);
        let after = candidate.after;
        desk.save().await?;
        let append = async {
            let mut labels = managed.versions.labels().await?;
            labels.hold(after + 1);
            labels.current = labels.current.or((base.current > 0).then_some(base.current));
            labels.rotation = Some(id.0);
            labels.epoch = epoch;
            managed.versions.label(&labels).await?;
            managed.versions.append(fields, after).await
        };
        Ok(match desk.while_claimed(append).await? {
            None => Err(late()),
            Some(Err(fault)) => Err(Failure::from(&fault)),
            Some(Ok(version)) => Ok(stored(desk, version)),
        })
    }

    /// A failure before anything was begun is one of the step all the same.
    fn not_begun(&self, desk: &mut Desk<'_>, failure: Failure) -> Result<Outcome, Failure> {
        if let Some(rotation) = &mut desk.book.open {
            let after = rotation.candidate.as_ref().map_or(0, |candidate| candidate.after);
            rotation.begin(after, self.now());
        }
        Err(failure)
    }
}

fn stored(desk: &mut Desk<'_>, version: u64) -> Outcome {
    if let Some(candidate) = desk.book.open.as_mut().and_then(|open| open.candidate.as_mut()) {
        candidate.version = Some(version);
    }
    Outcome::Done(format!("stored as version {version}, pending"))
}

/// What an earlier run left of this candidate.
async fn find(managed: &Managed, candidate: &Candidate, latest: u64) -> Result<Found, Failure> {
    let Some(digest) = &candidate.digest else {
        return Ok(if latest == candidate.after { Found::Nothing } else { Found::Lost(latest) });
    };
    if latest == candidate.after {
        return Ok(Found::Lost(latest));
    }
    let version = candidate.after + 1;
    let stored: Arc<Fields> =
        managed.versions.read(version).await.map_err(|fault| Failure::from(&fault))?;
    if is_digest_of(digest, &stored) {
        Ok(Found::Stored(version))
    } else {
        Err(Failure::Unknown(format!("version {version} was written by somebody else")))
    }
}

/// A digest under a salt of its own: `SALT:DIGEST` in hexadecimal.
fn salted(fields: &Fields) -> Result<String, Fault> {
    let mut salt = [0; SALT_BYTES];
    rand::fill(&mut salt)
        .map_err(|_| Fault::new(Reason::Failed, "the system gave no random bytes"))?;
    Ok(digest_under(&hex(&salt), fields))
}

fn is_digest_of(digest: &str, fields: &Fields) -> bool {
    digest.split_once(':').is_some_and(|(salt, _)| digest_under(salt, fields) == digest)
}

fn digest_under(salt: &str, fields: &Fields) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(salt.as_bytes());
    for (name, value) in fields.iter() {
        for part in [name.as_bytes(), value.expose()] {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
    }
    format!("{salt}:{}", hex(context.finish().as_ref()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
