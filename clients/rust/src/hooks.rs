//! What an application does when a version changes.
//!
//! All hooks of a change begin at once and in the order of the changes; they end in their own time. A change is
//! taken over once all of them ended well.

use std::{
    error::Error,
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use futures_util::{FutureExt, future::join_all};

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
    all: Vec<(u64, Arc<Run>)>,
}

/// A registered hook. It stays when this is dropped.
pub struct Hook {
    hooks: Weak<Hooks>,
    id: u64,
}

impl Hook {
    /// The hook is not called any more; what it began goes on.
    pub fn remove(self) {
        if let Some(hooks) = self.hooks.upgrade() {
            let mut registered = hooks.0.lock().unwrap_or_else(PoisonError::into_inner);
            registered.all.retain(|(id, _)| *id != self.id);
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
        registered.all.push((id, run));
        Hook { hooks: Arc::downgrade(self), id }
    }

    /// Begins all hooks; the future tells whether all of them took the version over.
    pub(crate) fn begin(&self, secret: &Arc<Secret>) -> impl Future<Output = bool> + Send + use<> {
        let registered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let hooks: Vec<_> = registered.all.iter().map(|(_, run)| Arc::clone(run)).collect();
        drop(registered);
        let begun: Vec<_> = hooks
            .iter()
            // A hook that panics has taken nothing over; the other hooks and the secret go on.
            .map(|run| catch_unwind(AssertUnwindSafe(|| run(Arc::clone(secret)))))
            .collect();
        async move {
            let ended = join_all(begun.into_iter().map(|taking| async {
                match taking {
                    Ok(taking) => AssertUnwindSafe(taking).catch_unwind().await,
                    Err(panic) => Err(panic),
                }
            }));
            ended.await.iter().all(|ended| matches!(ended, Ok(Ok(()))))
        }
    }
}
