mod burst;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use messaging_core::observe::{Notice, Observer};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};

use self::burst::Burst;

/// Writes what happens beside the data path to the `tracing` log.
///
/// It writes at most one line a second. What comes faster is put together: how often each kind of
/// thing happened, and the last of it; losses are added up.
#[derive(Debug)]
pub struct LogNotices {
    backend: &'static str,
    burst: Mutex<Burst>,
    own: Weak<Self>,
}

impl LogNotices {
    /// An observer for a connection to `backend`.
    #[must_use]
    pub fn new(backend: &'static str) -> Arc<Self> {
        Arc::new_cyclic(|own| Self { backend, burst: Mutex::default(), own: Weak::clone(own) })
    }

    fn write(&self, line: &str) {
        tracing::warn!(backend = self.backend, "{line}");
    }

    /// Writes what was held back, when its time comes.
    fn write_later(&self, at: Instant) {
        let own = Weak::clone(&self.own);
        let later = async move {
            sleep_until(at).await;
            if let Some(own) = own.upgrade() {
                let line = own.lock().end();
                line.into_iter().for_each(|line| own.write(&line));
            }
        };
        // Where there is no runtime, it is written with the next notice, or at the end.
        if let Ok(runtime) = Handle::try_current() {
            drop(runtime.spawn(later));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Burst> {
        self.burst.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for LogNotices {
    fn notice(&self, notice: &Notice) {
        if let Notice::Assigned(_) | Notice::Revoked(_) = notice {
            tracing::info!(backend = self.backend, "{notice}");
            return;
        }
        let mut burst = self.lock();
        let taken = burst.take(notice, Instant::now());
        drop(burst);
        taken.line.into_iter().for_each(|line| self.write(&line));
        taken.held_until.into_iter().for_each(|at| self.write_later(at));
    }
}

impl Drop for LogNotices {
    fn drop(&mut self) {
        let line = self.lock().end();
        line.into_iter().for_each(|line| self.write(&line));
    }
}
