//! `run`: the operator at work until SIGTERM or SIGINT.

use std::sync::Arc;

use tokio::{task::JoinSet, time::timeout};

use super::compose::{Composed, NoReaders};
use crate::{
    app::{StartError, doors, stopped},
    config::operator::OperatorConfig,
    rotation::{
        ports::Leadership,
        service::{Service, TENURE, Waker},
    },
    telemetry::{Logs, Readiness, http, panics},
};

pub(super) async fn run(config: OperatorConfig) -> Result<(), StartError> {
    let _logs = Logs::install(&config.telemetry)?;
    let (readiness, starting) = Readiness::starting();
    let mut tasks = JoinSet::new();
    if let Some(address) = config.telemetry.http {
        let socket = doors::tcp("telemetry.http", address).await?;
        let readiness = readiness.clone();
        tasks.spawn(async move {
            http::serve(socket, readiness).await;
        });
    }
    let journal = config.journal.clone();
    let composed = Composed::new(config, Arc::new(NoReaders))?;
    panics::install_hook(Arc::clone(&composed.metrics));
    let vault = Arc::clone(&composed.vault);
    tasks.spawn(async move { vault.run().await });
    let lock = composed.vault.lock(&journal.mount, &journal.path, composed.actor.clone());
    let lock: Arc<dyn Leadership> = Arc::new(lock);
    let waker = Arc::new(Waker::default());
    let service = Service::new(
        Arc::clone(&composed.engine),
        Arc::clone(&lock),
        Arc::clone(&waker),
        super::name,
    );
    drop(starting);
    tracing::info!(secrets = composed.engine.catalogue().len(), "the operator runs");
    let stop = stopped()?;
    tokio::select! {
        () = service.run() => {}
        () = stop => {}
    }
    tracing::info!("stopping; what is under way goes on at the next start, or at another operator");
    if !matches!(timeout(TENURE, lock.release()).await, Ok(Ok(()))) {
        tracing::warn!("the lead could not be left; it lapses by itself");
    }
    Ok(())
}
