//! The commands that change something.

use std::io::{IsTerminal, Read};

use jiff::SignedDuration;
use zeroize::Zeroizing;

use super::{
    Desk,
    args::{ApproveArgs, CompromiseArgs, NameArgs, RotateArgs, ValidateArgs},
    fields,
    progress::Patience,
    tables,
};
use crate::{
    cli::{Console, Failure, failure},
    domain::rotation::{Kind, Rotation},
    rotation::engine::Wish,
};

/// The least and the most time that readers are watched closely after a compromise.
const MONITORING_HOURS: (u64, u64) = (24, 48);

impl Desk {
    fn wish(&self, kind: Kind, reason: Option<String>, until: Option<String>) -> Wish {
        let id = (self.name)(self.now());
        Wish { id, kind, by: self.person.clone(), reason: Self::reason(reason), until }
    }
}

pub(super) async fn rotate(
    desk: &Desk,
    args: RotateArgs,
    console: &mut Console<'_>,
) -> Result<u8, Failure> {
    let secret = desk.secret(&args.name)?;
    let wish = desk.wish(Kind::Routine, args.reason, args.environment.clone());
    if args.dry_run {
        let steps = desk.engine.dry_run(&secret, wish).await?;
        let text: String = if desk.json {
            serde_json::json!({ "secret": secret, "steps": steps }).to_string() + "\n"
        } else {
            steps.iter().fold(String::new(), |text, step| text + &format!("  {step}\n"))
        };
        console.write(text.as_bytes())?;
        return Ok(failure::OK);
    }
    let rotation = desk.engine.open(&secret, wish).await?;
    let patience = if args.wait { Patience::Over } else { Patience::InForce };
    let code = desk.follow(&rotation, patience, console).await?;
    if !args.validate || code != failure::OK {
        return Ok(code);
    }
    let args = ValidateArgs { environment: args.environment, names: vec![args.name] };
    tables::validate(desk, &args, console).await
}

pub(super) async fn resume(
    desk: &Desk,
    name: &str,
    console: &mut Console<'_>,
) -> Result<u8, Failure> {
    let secret = desk.secret(name)?;
    let open = desk.engine.book(&secret).await?.open;
    let rotation = match open {
        // One that was cut off, or whose overlap ended, only has to be driven.
        Some(open) if open.is_moving() => open,
        _ => desk.engine.resume(&secret).await?,
    };
    desk.follow(&rotation, Patience::InForce, console).await
}

pub(super) async fn rollback(
    desk: &Desk,
    name: &str,
    reason: Option<String>,
    console: &mut Console<'_>,
) -> Result<u8, Failure> {
    let secret = desk.secret(name)?;
    let rotation = desk.engine.open(&secret, desk.wish(Kind::Rollback, reason, None)).await?;
    let code = desk.follow(&rotation, Patience::Over, console).await?;
    let book = desk.engine.book(&secret).await?;
    let ended = book.past.iter().find(|past| past.id == rotation.id);
    // To have gone back is what was asked for.
    Ok(if ended.is_some_and(|ended| ended.standing.is_over()) { failure::OK } else { code })
}

pub(super) async fn compromise(
    desk: &Desk,
    args: CompromiseArgs,
    console: &mut Console<'_>,
) -> Result<u8, Failure> {
    let secret = desk.secret(&args.name)?;
    let hours = args.monitoring.as_secs() / 3600;
    let (least, most) = MONITORING_HOURS;
    if !(least..=most).contains(&hours) {
        let why = format!("--monitoring: expected a time from {least}h to {most}h");
        return Err(Failure::new(failure::USAGE, why));
    }
    if let Some(managed) = desk.engine.catalogue().get(&secret) {
        console.complain(&format!("{secret}: what breaks: {}", managed.rotator.breaks()));
    }
    if !args.yes && !agreed(&secret, console)? {
        return Err(Failure::new(failure::USAGE, "nothing was done; --yes does it without asking"));
    }
    let kind = Kind::Emergency { revoke_first: args.revoke_first };
    let monitoring = SignedDuration::try_from(args.monitoring).unwrap_or_default();
    let wish = desk.wish(kind, args.reason, None);
    let (rotation, _) = desk.engine.compromise(&secret, wish, monitoring).await?;
    desk.follow(&rotation, Patience::Over, console).await
}

/// Asks on the terminal; without one, nobody agreed.
fn agreed(secret: &impl std::fmt::Display, console: &mut Console<'_>) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    console.complain(&format!("type the name of the secret to go on ({secret})"));
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(line.trim() == secret.to_string())
}

/// Rolls back, validates what is in force then, and leaves a post-mortem to be completed.
pub(super) async fn outage(
    desk: &Desk,
    name: &str,
    reason: Option<String>,
    console: &mut Console<'_>,
) -> Result<u8, Failure> {
    let secret = desk.secret(name)?;
    let why = Some(Desk::reason(reason));
    let rolled = rollback(desk, name, why.clone(), console).await?;
    let args = ValidateArgs { environment: None, names: vec![name.to_owned()] };
    let validated = tables::validate(desk, &args, console).await?;
    let book = desk.engine.book(&secret).await?;
    if let (Some(documents), Some(rotation)) =
        (&desk.documents, book.past.first().or(book.open.as_ref()))
    {
        let place = desk.engine.catalogue().get(&secret).map(|m| m.versions.place().to_owned());
        let text = post_mortem(rotation, &place.unwrap_or_default(), validated == failure::OK);
        let path = documents.document(rotation, "post-mortem", &text).await;
        let path = path.map_err(|fault| Failure::new(failure::UNAVAILABLE, fault.to_string()))?;
        if !desk.json {
            console
                .write(format!("post-mortem to be completed: {}\n", path.display()).as_bytes())?;
        }
    }
    Ok(if rolled == failure::OK { validated } else { rolled })
}

fn post_mortem(rotation: &Rotation, place: &str, validated: bool) -> String {
    let record = crate::report::markdown(rotation, place);
    let verdict = if validated { "works" } else { "does NOT work yet" };
    format!(
        "# Post-mortem: outage caused by {}\n\nThe version in force now {verdict}.\n\n\
         ## To be completed by people\n\n- What failed, from when to when?\n- Why did no check see it before?\n\
         - What is changed so that it does not happen again?\n\n## What the operator did\n\n{}",
        rotation.secret,
        record.replace("\n## ", "\n### ").replacen("# ", "### ", 1)
    )
}

pub(super) async fn supply(
    desk: &Desk,
    args: NameArgs,
    console: &mut Console<'_>,
) -> Result<u8, Failure> {
    let secret = desk.secret(&args.name)?;
    let mut text = Zeroizing::new(String::new());
    std::io::stdin().read_to_string(&mut text)?;
    let fields = fields(&text);
    if fields.is_empty() {
        let why = "expected the value on standard input: one line, or NAME=VALUE lines";
        return Err(Failure::new(failure::USAGE, why));
    }
    let rotation = desk.engine.supply(&secret, &fields, &desk.person).await?;
    desk.follow(&rotation, Patience::InForce, console).await
}

pub(super) async fn approve(
    desk: &Desk,
    args: ApproveArgs,
    console: &mut Console<'_>,
) -> Result<u8, Failure> {
    let secret = desk.secret(&args.name)?;
    if let Some(id) = &args.access {
        desk.engine.approve_access(&secret, id, &desk.person).await?;
        return Ok(failure::OK);
    }
    let rotation = desk.engine.approve(&secret, &desk.person).await?;
    desk.follow(&rotation, Patience::InForce, console).await
}
