//! `exec`: runs a command with secrets in its environment or in files, and follows their rotation.
//!
//! - Values go into the environment and the private directory only, never into arguments.
//! - An acknowledgement is sent only once no process started here uses an older version: after a (re)start.
//! - The command's exit code becomes ours; signals that reach us reach it.

mod child;
mod delivery;
mod files;

use std::{collections::BTreeMap, pin::pin};

use child::{Child, Stopped};
use delivery::Delivery;
use futures_util::FutureExt;
use secret_broker_client::{Client, Event, Outcome, Secret, Watch};

use super::{
    Console, Failure,
    args::ExecArgs,
    on_rotation::OnRotation,
    signals::{self, Signals},
};

pub(super) async fn run(args: ExecArgs, console: &mut Console<'_>) -> Result<u8, Failure> {
    let client = args.connection.client()?;
    let held = fetch(&client, &args).await?;
    let delivery = Delivery::new(&args, &held)?;
    // Before the child starts, so that no signal to us can orphan it.
    let signals = Signals::forwarded()?;
    let child = Child::start(&args.command, &delivery)?;
    let watch = client.watch(held.keys().cloned()).holding(held.values());
    let mut supervisor =
        Supervisor { args: &args, client, held, delivery, signals, child, console };
    supervisor.acknowledge().await;
    supervisor.follow(watch).await
}

/// The current version of every secret that is to be delivered.
async fn fetch(client: &Client, args: &ExecArgs) -> Result<BTreeMap<String, Secret>, Failure> {
    let mut names: Vec<String> = if args.all {
        client.list(None).await?.into_iter().map(|metadata| metadata.name).collect()
    } else {
        Vec::new()
    };
    names.extend(args.env.iter().map(|binding| binding.from.secret.clone()));
    names.extend(args.file.iter().map(|binding| binding.from.secret.clone()));
    names.sort_unstable();
    names.dedup();
    let mut held = BTreeMap::new();
    for (name, result) in client.get_many(&names).await? {
        let secret = result.map_err(|error| Failure::of(&name, &error))?;
        held.insert(name, secret);
    }
    Ok(held)
}

struct Supervisor<'r, 'c> {
    args: &'r ExecArgs,
    client: Client,
    held: BTreeMap<String, Secret>,
    delivery: Delivery,
    signals: Signals,
    child: Child,
    console: &'r mut Console<'c>,
}

impl Supervisor<'_, '_> {
    /// Until the command ends.
    async fn follow(&mut self, mut watch: Watch) -> Result<u8, Failure> {
        // Watching no name would watch every secret.
        let mut watching = !self.held.is_empty();
        loop {
            tokio::select! {
                code = self.child.wait() => return code,
                signal = self.signals.next() => self.child.forward(signal),
                event = watch.next(), if watching => {
                    let mut rotated = false;
                    let mut next = Some(event);
                    // What turned over together is followed by one restart.
                    while let Some(event) = next {
                        match event {
                            Some(Ok(event)) => rotated |= self.take(event),
                            Some(Err(error)) => self.warn_unwatched(&error.to_string()),
                            None => watching = false,
                        }
                        next = if watching { watch.next().now_or_never() } else { None };
                    }
                    if rotated && let Some(code) = self.rotate().await? {
                        return Ok(code);
                    }
                }
            }
        }
    }

    /// Takes an event over; whether what is delivered has changed.
    fn take(&mut self, event: Event) -> bool {
        match event {
            Event::Current(secret) | Event::Rotated(secret) => {
                let version = (secret.generation(), secret.version().to_owned());
                let before = self.held.insert(secret.name().to_owned(), secret);
                // One that was unavailable may come back as it was.
                before
                    .is_none_or(|old| (old.generation(), old.version()) != (version.0, &version.1))
            }
            Event::Revoked { name, .. } => {
                self.console.complain(&format!(
                    "{name} was revoked; the command keeps its last version until a new one comes"
                ));
                false
            }
            _ => false,
        }
    }

    /// Delivers what is held now; the exit code when the command ended meanwhile.
    async fn rotate(&mut self) -> Result<Option<u8>, Failure> {
        if let Err(failure) = self.delivery.renew(self.args, &self.held) {
            let told = failure.message.unwrap_or_default();
            self.console.complain(&format!("the command keeps its last secrets: {told}"));
            return Ok(None);
        }
        match self.args.on_rotation {
            OnRotation::Ignore => Ok(None),
            OnRotation::Signal(signal) => {
                self.child.signal(signal);
                Ok(None)
            }
            OnRotation::Restart => self.restart().await,
        }
    }

    async fn restart(&mut self) -> Result<Option<u8>, Failure> {
        match self.child.stop(self.args.grace, &mut self.signals).await? {
            Stopped::ByItself(code) | Stopped::OnRequest(code) => Ok(Some(code)),
            Stopped::ForRestart => {
                self.child = Child::start(&self.args.command, &self.delivery)?;
                self.acknowledge().await;
                Ok(None)
            }
        }
    }

    /// Tells the broker that nothing here uses an older version. The command runs whether it hears it or not.
    async fn acknowledge(&mut self) {
        let reports = self.held.values().map(|secret| async {
            (secret.name(), self.client.report(secret, Outcome::Applied).await)
        });
        let mut reporting = pin!(futures_util::future::join_all(reports));
        let reported = loop {
            tokio::select! {
                reported = &mut reporting => break reported,
                // Neither the command's end nor its signals wait for the broker.
                () = self.child.ended() => return,
                signal = self.signals.next() => self.child.forward(signal),
            }
        };
        for (name, report) in reported {
            if let Err(error) = report {
                self.console.complain(&format!(
                    "{name}: the broker was not told that it is in use: {error}"
                ));
            }
        }
    }

    fn warn_unwatched(&mut self, error: &str) {
        self.console.complain(&format!("rotations are not followed any more: {error}"));
    }
}

/// Whether a signal that arrives during a restart means that no new command is to start.
fn cancels_restart(signal: rustix::process::Signal) -> bool {
    signals::ends(signal)
}
