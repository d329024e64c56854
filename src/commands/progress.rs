//! The steps of a rotation as they happen: lines on a terminal, JSON otherwise.

use jiff::Timestamp;

use super::{Desk, SPIN, UNSUCCESSFUL, json_line};
use crate::{
    cli::{Console, Failure, failure},
    domain::{
        rotation::{Entry, Rotation, RotationId, Standing},
        secret::SecretName,
    },
    rotation::engine::{DriveError, Driven},
};

/// How much of a rotation somebody wants to see.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Until the new version is in force.
    InForce,
    /// Until nothing is left to do.
    Over,
}

/// What was shown so far.
struct Shown {
    /// Entries that ended.
    entries: usize,
    json: String,
}

impl Desk {
    /// Drives a rotation, or looks on where somebody else does, and shows its steps. Returns the
    /// exit code.
    pub(super) async fn follow(
        &self,
        rotation: &Rotation,
        patience: Patience,
        console: &mut Console<'_>,
    ) -> Result<u8, Failure> {
        let (secret, id) = (&rotation.secret, &rotation.id);
        if !self.json {
            let line = format!("{secret}: rotation {id}\n");
            console.write(console.styled("1", &line).as_bytes())?;
        }
        let mut shown = Shown { entries: 0, json: String::new() };
        loop {
            let (driven, rotation) = self.drive_shown(secret, id, &mut shown, console).await?;
            let Some(rotation) = rotation else {
                let why = "the rotation is not in the journal any more";
                return Err(Failure::new(failure::OTHER, why));
            };
            match driven {
                Driven::Rests | Driven::Idle => return self.ended(&rotation, console),
                Driven::Overlaps(until) if patience == Patience::InForce => {
                    return self.overlaps(until, console);
                }
                Driven::Waits(until) | Driven::Overlaps(until) => self.wait_for(until).await,
            }
        }
    }

    /// Drives once, showing what happens meanwhile.
    async fn drive_shown(
        &self,
        secret: &SecretName,
        id: &RotationId,
        shown: &mut Shown,
        console: &mut Console<'_>,
    ) -> Result<(Driven, Option<Rotation>), Failure> {
        let mut changes = self.engine.changes();
        let mut driving = std::pin::pin!(self.engine.drive(secret));
        loop {
            let driven = tokio::select! {
                driven = &mut driving => Some(driven),
                _ = changes.changed() => None,
                () = tokio::time::sleep(SPIN), if console.is_terminal() => None,
            };
            let rotation = self.rotation(secret, id).await?;
            if let Some(rotation) = &rotation {
                self.show(rotation, shown, console)?;
            }
            match driven {
                None => {}
                Some(Ok(driven)) => return Ok((driven, rotation)),
                Some(Err(DriveError::Claimed { .. } | DriveError::TakenOver)) => {
                    // Somebody else does it: look on.
                    let over = rotation.as_ref().is_none_or(|rotation| rests(&rotation.standing));
                    let now = self.now();
                    let next = now.checked_add(SPIN).unwrap_or(now);
                    return Ok((if over { Driven::Rests } else { Driven::Waits(next) }, rotation));
                }
                Some(Err(error)) => return Err(error.into()),
            }
        }
    }

    async fn rotation(
        &self,
        secret: &SecretName,
        id: &RotationId,
    ) -> Result<Option<Rotation>, Failure> {
        let book = self.engine.book(secret).await?;
        Ok(book.open.into_iter().chain(book.past).find(|rotation| rotation.id == *id))
    }

    async fn wait_for(&self, until: Timestamp) {
        let left = until.duration_since(self.now());
        let left = std::time::Duration::try_from(left).unwrap_or_default();
        tokio::select! {
            () = tokio::time::sleep(left.min(std::time::Duration::from_secs(5))) => {}
            () = self.engine.surroundings().readers.changed() => {}
        }
    }

    fn show(
        &self,
        rotation: &Rotation,
        shown: &mut Shown,
        console: &mut Console<'_>,
    ) -> Result<(), Failure> {
        if self.json {
            let line = json_line(rotation)?;
            if line != shown.json {
                console.write(line.as_bytes())?;
                shown.json = line;
            }
            return Ok(());
        }
        let ended = rotation.log.iter().filter(|entry| entry.ended_at.is_some());
        for entry in ended.skip(shown.entries) {
            let line = line(entry, console);
            console.write(line.as_bytes())?;
            shown.entries += 1;
        }
        if console.is_terminal()
            && let Some(entry) = rotation.log.last().filter(|entry| entry.ended_at.is_none())
        {
            console.write(format!("  … {}\r", entry.step).as_bytes())?;
        }
        Ok(())
    }

    fn overlaps(&self, until: Timestamp, console: &mut Console<'_>) -> Result<u8, Failure> {
        if !self.json {
            let line = format!(
                "the new version is in force; the old one overlaps it until {} at the latest\n",
                until.strftime("%Y-%m-%d %H:%M:%SZ")
            );
            console.write(line.as_bytes())?;
        }
        Ok(failure::OK)
    }

    fn ended(&self, rotation: &Rotation, console: &mut Console<'_>) -> Result<u8, Failure> {
        if !self.json {
            let (style, code) = match rotation.standing {
                Standing::Succeeded => ("32", failure::OK),
                Standing::Held(_) => ("33", failure::OK),
                _ => ("31", UNSUCCESSFUL),
            };
            let mut line =
                console.styled(style, &format!("rotation {} {}", rotation.id, rotation.standing));
            if let (false, Some(trouble)) =
                (matches!(rotation.standing, Standing::Parked(_)), &rotation.trouble)
            {
                line = format!("{line} ({trouble})");
            }
            console.write(format!("{line}\n").as_bytes())?;
            return Ok(code);
        }
        Ok(match rotation.standing {
            Standing::Succeeded | Standing::Held(_) => failure::OK,
            _ => UNSUCCESSFUL,
        })
    }
}

fn rests(standing: &Standing) -> bool {
    !matches!(standing, Standing::Running | Standing::GoingBack)
}

fn line(entry: &Entry, console: &Console<'_>) -> String {
    let mark =
        if entry.succeeded { console.styled("32", "✓") } else { console.styled("31", "✗") };
    let took = entry.ended_at.map(|at| at.duration_since(entry.started_at).as_millis());
    let took = took.map_or_else(String::new, |took| format!("{took} ms"));
    format!("  {mark} {:<34} {took:>8}  {}\n", entry.step.to_string(), entry.evidence)
}
