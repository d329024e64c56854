//! `render`: templates with secrets to files, and again at each rotation.
//!
//! - A file is replaced as a whole and only when its content, mode or presence differs.
//! - A template that fails leaves its file as it is; the others are rendered none the less.

pub(super) mod file;
pub(crate) mod serving;
pub(crate) mod spec;
mod template;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt;
use secret_broker_client::{Client, Event, Outcome};
use spec::Template;
use template::{Held, Rendered};
use tokio::{process::Command, time::timeout};
use zeroize::Zeroizing;

use super::{
    Console, Failure,
    args::RenderArgs,
    failure::{OK, OTHER, USAGE},
    signals::Signals,
};

pub(super) async fn run(args: RenderArgs, console: &mut Console<'_>) -> Result<u8, Failure> {
    let client = args.connection.client()?;
    let mut renderer = Renderer::new(client, args.template);
    renderer.on_change = args.on_change;
    renderer.round().await?;
    if args.once {
        return Ok(OK);
    }
    if renderer.used.is_empty() {
        let problem = "no template uses a secret, so there is nothing to follow; use --once";
        return Err(Failure::new(USAGE, problem));
    }
    let mut signals = Signals::ending()?;
    let mut tell = |told: &str| console.complain(told);
    tokio::select! {
        ended = renderer.follow(&mut tell) => ended.map(|()| OK),
        _ = signals.next() => Ok(OK),
    }
}

/// The wait before what could not be rendered is tried again.
const RETRY: Duration = Duration::from_secs(10);

struct Renderer {
    client: Client,
    templates: Vec<Template>,
    on_change: Option<String>,
    held: Held,
    /// The secrets that the last round of templates was made from.
    used: BTreeSet<String>,
}

/// Hears what went wrong while rendering goes on.
type Tell<'t> = &'t mut (dyn FnMut(&str) + Send);

impl Renderer {
    fn new(client: Client, templates: Vec<Template>) -> Self {
        Self { client, templates, on_change: None, held: Held::new(), used: BTreeSet::new() }
    }

    /// Renders every template, and tells of what changed.
    async fn round(&mut self) -> Result<(), Failure> {
        let changed = self.all().await?;
        self.announce(changed).await
    }

    /// Renders at each change of what the last round used, until the watch can't go on.
    async fn follow(&mut self, tell: Tell<'_>) -> Result<(), Failure> {
        loop {
            if self.used.is_empty() {
                // Watching no name would watch every secret.
                return std::future::pending().await;
            }
            let watched = self.used.clone();
            let held = self.held.values().map(AsRef::as_ref);
            let mut watch = self.client.watch(watched.iter().cloned()).holding(held);
            // A template may use others after a change: then a new watch begins.
            while self.used == watched {
                let Some(event) = watch.next().await else { return Ok(()) };
                let mut rotated = self.take(event?, tell);
                while let Some(Some(event)) = watch.next().now_or_never() {
                    rotated |= self.take(event?, tell);
                }
                // What fails is told and tried again; what was written stays.
                while rotated && let Err(Failure { message, .. }) = self.round().await {
                    tell(message.as_deref().unwrap_or_default());
                    match timeout(RETRY, watch.next()).await {
                        Ok(Some(event)) => drop(self.take(event?, tell)),
                        Ok(None) => return Ok(()),
                        Err(_) => {}
                    }
                }
            }
        }
    }

    /// Takes an event over; whether a new version came.
    fn take(&mut self, event: Event, tell: Tell<'_>) -> bool {
        match event {
            Event::Current(secret) | Event::Rotated(secret) => {
                self.held.insert(secret.name().to_owned(), Arc::new(secret));
                true
            }
            Event::Revoked { name, .. } => {
                tell(&format!("{name} was revoked; its files stay until a new version comes"));
                false
            }
            _ => false,
        }
    }

    /// Renders every template; whether a file changed. Fails as the first failing template does.
    async fn all(&mut self) -> Result<bool, Failure> {
        let mut used = BTreeSet::new();
        let mut changed = false;
        let mut failed = None;
        for template in self.templates.clone() {
            match self.one(&template).await {
                Ok((written, names)) => {
                    changed |= written;
                    used.extend(names);
                }
                Err(failure) => failed = failed.or(Some(failure)),
            }
        }
        match failed {
            None => {
                self.held.retain(|name, _| used.contains(name));
                self.used = used;
                Ok(changed)
            }
            Some(failure) => Err(failure),
        }
    }

    /// Renders a template, fetching what it asks for as it comes to it.
    async fn one(&mut self, template: &Template) -> Result<(bool, BTreeSet<String>), Failure> {
        let name = template.input.display().to_string();
        let source = fs::read_to_string(&template.input)
            .map_err(|error| Failure::new(USAGE, format!("template {name}: {error}")))?;
        let source = Zeroizing::new(source);
        loop {
            match template::render(&name, &source, &self.held)? {
                Rendered::Done(content, used) => return Ok((write(template, &content)?, used)),
                Rendered::Needs(names) => {
                    let names: Vec<_> = names.into_iter().collect();
                    for (name, result) in self.client.get_many(&names).await? {
                        let secret = result.map_err(|error| Failure::of(&name, &error))?;
                        self.held.insert(name, Arc::new(secret));
                    }
                }
            }
        }
    }

    /// Tells whoever reads the files, and the broker once they have taken the new versions over.
    async fn announce(&self, changed: bool) -> Result<(), Failure> {
        let Some(command) = self.on_change.as_ref().filter(|_| changed) else { return Ok(()) };
        let status = Command::new("sh").arg("-c").arg(command).kill_on_drop(true).status().await?;
        if !status.success() {
            return Err(Failure::new(
                OTHER,
                format!("the command of --on-change failed: {status}"),
            ));
        }
        for secret in self.held.values() {
            self.client.report(secret, Outcome::Applied).await?;
        }
        Ok(())
    }
}

/// Writes the content unless it stands there already; whether it was written.
fn write(template: &Template, content: &str) -> Result<bool, Failure> {
    let at = |error: std::io::Error| {
        Failure::new(OTHER, format!("{}: {error}", template.output.display()))
    };
    if stands(template, content) {
        return Ok(false);
    }
    file::replace(&template.output, content.as_bytes(), template.access).map_err(at)?;
    Ok(true)
}

fn stands(template: &Template, content: &str) -> bool {
    let Ok(found) = fs::metadata(&template.output) else { return false };
    let owned = template
        .access
        .owner
        .is_none_or(|(uid, gid)| found.uid() == uid && gid.is_none_or(|gid| found.gid() == gid));
    let same_mode = found.permissions().mode() & 0o7777 == template.access.mode;
    owned
        && same_mode
        && fs::read(&template.output)
            .map(Zeroizing::new)
            .is_ok_and(|present| present.as_slice() == content.as_bytes())
}
