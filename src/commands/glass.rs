//! Access in emergencies: asked for, opened, ended.

use super::{Desk, args::BreakGlassArgs, shown};
use crate::{
    cli::{Console, Failure, failure},
    domain::rotation::access::LONGEST,
    rotation::{
        engine::{AccessError, Ask},
        ports::BreakGlass,
    },
};

pub(super) async fn break_glass(
    desk: &Desk,
    args: BreakGlassArgs,
    console: &mut Console<'_>,
) -> Result<u8, Failure> {
    let secret = desk.secret(&args.name)?;
    let Some(glass) = desk.glass.as_deref() else {
        let why = "no access is opened in emergencies: the configuration has no [break_glass]";
        return Err(Failure::new(failure::USAGE, why));
    };
    if let Some(id) = &args.end {
        desk.engine.end_access(glass, &secret, id, &desk.person).await?;
        return tell(desk, console, id, "ended", None);
    }
    if args.lasts > LONGEST {
        let why = format!("--for: expected at most {} hours", LONGEST.as_secs() / 3600);
        return Err(Failure::new(failure::USAGE, why));
    }
    if let Some(id) = &args.open {
        return open(desk, glass, &secret, id, console).await;
    }
    let id = (desk.name)(desk.now()).to_string();
    let reason = Desk::reason(args.reason);
    let ask = Ask { id: id.clone(), holder: &desk.person, reason: &reason, lasts: args.lasts };
    if desk.engine.ask_access(&secret, ask).await?.two_persons {
        return tell(desk, console, &id, "waits for the approval of a second person", None);
    }
    open(desk, glass, &secret, &id, console).await
}

/// Opens an access; its token is what was asked for, so it is shown.
async fn open(
    desk: &Desk,
    glass: &dyn BreakGlass,
    secret: &crate::domain::secret::SecretName,
    id: &str,
    console: &mut Console<'_>,
) -> Result<u8, Failure> {
    let (_, opened) = desk.engine.open_access(glass, secret, id, &desk.person).await?;
    let ends = format!("is open until {}", shown(Some(opened.ends_at)));
    tell(desk, console, id, &ends, Some(opened.token.expose()))
}

fn tell(
    desk: &Desk,
    console: &mut Console<'_>,
    id: &str,
    what: &str,
    token: Option<&[u8]>,
) -> Result<u8, Failure> {
    let token =
        token.map(|token| zeroize::Zeroizing::new(String::from_utf8_lossy(token).into_owned()));
    let token = token.as_ref().map(|token| token.as_str());
    let text = zeroize::Zeroizing::new(if desk.json {
        serde_json::json!({ "id": id, "state": what, "token": token }).to_string() + "\n"
    } else {
        let token = token.map_or(String::new(), |token| format!("{token}\n"));
        format!("access {id} {what}\n{token}")
    });
    console.write(text.as_bytes())?;
    Ok(failure::OK)
}

impl From<AccessError> for Failure {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::Request(error) => error.into(),
            refused => Self::new(failure::DENIED, refused.to_string()),
        }
    }
}
