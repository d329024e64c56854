//! What an application does when a version changes.
//!
//! All hooks of a change begin at once and in the order of the changes; they end in their own time. A change is
//! taken over once all of them ended well or were removed.

use std::{
    error::Error,
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use futures_util::{
    FutureExt,
    future::{Either, join_all, select},
};
use tokio::sync::watch;

use crate::Secret;

/// An error of any kind.
pub type BoxError = Box<dyn Error + Send + Sync>;

type Run = dyn Fn(Arc<Secret>) -> Taking + Send + Sync;
type Taking = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

/// The hooks of one secret.
#[derive(Default)]
pub(crate) struct Hooks(Mutex<Registered>);

#[derive(Default)]
struct Registered {
    next: u64,
    all: Vec<Registration>,
}

struct Registration {
    id: u64,
    run: Arc<Run>,
    /// Its end tells those who wait for the hook that it was removed.
    stays: watch::Sender<()>,
}

/// A registered hook. It stays when this is dropped.
pub struct Hook {
    hooks: Weak<Hooks>,
    id: u64,
}

impl Hook {
    /// The hook is not called any more; what it began goes on, and no version waits for it.
    pub fn remove(self) {
        if let Some(hooks) = self.hooks.upgrade() {
            let mut registered = hooks.0.lock().unwrap_or_else(PoisonError::into_inner);
            registered.all.retain(|hook| hook.id != self.id);
        }
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hook").field(&self.id).finish()
    }
}

impl Hooks {
    pub(crate) fn add<F, R>(self: &Arc<Self>, hook: F) -> Hook
    where
        F: Fn(Arc<Secret>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let run: Arc<Run> = Arc::new(move |secret| Box::pin(hook(secret)));
        let mut registered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = registered.next;
        registered.next += 1;
        registered.all.push(Registration { id, run, stays: watch::Sender::default() });
        Hook { hooks: Arc::downgrade(self), id }
    }

    /// Begins all hooks; the future gives the version's generation if all of them took it over. It does not hold the
    /// version itself: others may wait behind it for long.
    pub(crate) fn begin(
        &self,
        secret: &Arc<Secret>,
    ) -> impl Future<Output = Option<u64>> + Send + use<> {
        let generation = secret.generation();
        let registered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let hooks: Vec<_> = registered
            .all
            .iter()
            .map(|hook| (Arc::clone(&hook.run), hook.stays.subscribe()))
            .collect();
        drop(registered);
        let begun: Vec<_> = hooks
            .into_iter()
            // A hook that panics has taken nothing over; the other hooks and the secret go on.
            .map(|(run, stays)| {
                (catch_unwind(AssertUnwindSafe(|| run(Arc::clone(secret)))).ok(), stays)
            })
            .collect();
        async move {
            let ended = join_all(begun.into_iter().map(|(taking, stays)| took(taking, stays)));
            ended.await.into_iter().all(|took| took).then_some(generation)
        }
    }
}

/// Whether a hook took its version over, or was removed.
async fn took(taking: Option<Taking>, mut stays: watch::Receiver<()>) -> bool {
    let Some(taking) = taking else { return false };
    let taking = AssertUnwindSafe(taking).catch_unwind();
    match select(taking, pin!(stays.changed())).await {
        Either::Left((ended, _)) => matches!(ended, Ok(Ok(()))),
        Either::Right((_, taking)) => {
            tokio::spawn(taking);
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use tokio::{sync::mpsc, time::timeout};

    use super::*;
    use crate::proto;

    const LONG: Duration = Duration::from_secs(10);

    fn version(generation: u64) -> Arc<Secret> {
        Arc::new(Secret::from(proto::Secret { generation, ..Default::default() }))
    }

    #[tokio::test]
    async fn no_version_waits_for_a_removed_hook_and_what_it_began_goes_on() {
        let hooks = Arc::new(Hooks::default());
        let (go, waits) = watch::channel(false);
        let (ended, mut ends) = mpsc::unbounded_channel();
        let hook = hooks.add(move |_| {
            let (mut waits, ended) = (waits.clone(), ended.clone());
            async move {
                let _ = waits.wait_for(|go| *go).await;
                Ok(ended.send(())?)
            }
        });
        let taken = tokio::spawn(hooks.begin(&version(2)));
        hook.remove();
        assert_eq!(timeout(LONG, taken).await.unwrap().unwrap(), Some(2));
        go.send_replace(true);
        assert_eq!(timeout(LONG, ends.recv()).await.unwrap(), Some(()));
    }

    #[tokio::test]
    async fn a_version_that_waits_for_a_hook_is_not_kept() {
        let hooks = Arc::new(Hooks::default());
        let _stays = hooks.add(|_| pending());
        let secret = version(2);
        let kept = Arc::downgrade(&secret);
        let mut taken = pin!(hooks.begin(&secret));
        drop(secret);
        assert!(taken.as_mut().now_or_never().is_none());
        assert!(kept.upgrade().is_none());
    }

    #[tokio::test]
    async fn a_hook_that_fails_or_panics_took_nothing_over() {
        let hooks = Arc::new(Hooks::default());
        let fails = hooks.add(|_| async { Err("no".into()) });
        assert_eq!(hooks.begin(&version(2)).await, None);
        fails.remove();
        assert_eq!(hooks.begin(&version(3)).await, Some(3));
        hooks.add(|_| async { panic!("no") });
        assert_eq!(hooks.begin(&version(4)).await, None);
    }
}
