//! Templates that a broker renders itself while it serves, as a client of its own.
//!
//! - What fails is told and tried again: a template may be mended, a source may come back.
//! - Nothing is acknowledged: who reads the files may do so at any time, so that a replaced version lives as long as its
//!   overlap.

use std::time::Duration;

use secret_broker_client::Client;
use tokio::time::sleep;

use super::{
    super::{
        Failure,
        failure::{DEADLINE, UNAVAILABLE},
    },
    Renderer,
    spec::Template,
};
use crate::files::FileWatch;

/// The waits after a round that failed; they ask only the broker itself.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// Renders once: until every template is written, or one can't be whatever the sources do.
///
/// # Errors
/// Why one can't be.
pub(crate) async fn once(
    client: Client,
    templates: Vec<Template>,
    mut tell: impl FnMut(&str) + Send,
) -> Result<(), Failure> {
    let mut renderer = Renderer::new(client, templates);
    let mut wait = RETRY.0;
    loop {
        match renderer.round().await {
            Err(failure) if matches!(failure.exit, UNAVAILABLE | DEADLINE) => {
                tell(failure.message.as_deref().unwrap_or_default());
            }
            ended => return ended,
        }
        sleep(wait).await;
        wait = (wait * 2).min(RETRY.1);
    }
}

/// Renders for as long as it is polled: at each rotation, and when a template's own file changes. `startup` is dropped
/// once every template was written for the first time.
pub(crate) async fn keep<G>(
    client: Client,
    templates: Vec<Template>,
    startup: G,
    mut tell: impl FnMut(&str) + Send,
) {
    let inputs = FileWatch::new(templates.iter().map(|template| template.input.clone()));
    let mut renderer = Renderer::new(client, templates);
    let mut startup = Some(startup);
    let mut wait = RETRY.0;
    loop {
        let ended = renderer.round().await;
        if ended.is_ok() {
            drop(startup.take());
            wait = RETRY.0;
        }
        let ended = match ended {
            Ok(()) => tokio::select! {
                ended = renderer.follow(&mut tell) => ended,
                () = inputs.changed() => continue,
            },
            failed => failed,
        };
        if let Err(Failure { message: Some(told), .. }) = ended {
            tell(&told);
        }
        tokio::select! {
            () = sleep(wait) => wait = (wait * 2).min(RETRY.1),
            () = inputs.changed() => {}
        }
    }
}
