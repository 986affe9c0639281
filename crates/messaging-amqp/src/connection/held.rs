//! Handles of the client library that may be dropped anywhere.

use std::future::Future;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// A handle whose drop spawns a task, and would panic outside of the runtime.
pub(crate) struct Held<T> {
    inner: Option<T>,
    runtime: Handle,
}

impl<T> Held<T> {
    /// Remembers the runtime that this is called in.
    pub(crate) fn new(inner: T) -> Self {
        Self { inner: Some(inner), runtime: Handle::current() }
    }

    pub(crate) const fn get(&self) -> Option<&T> {
        self.inner.as_ref()
    }

    pub(crate) const fn take(&mut self) -> Option<T> {
        self.inner.take()
    }
}

impl<T: Send + 'static> Held<T> {
    /// Drops it, as one of these tasks, when this has come about.
    pub(crate) fn drop_after(
        &mut self,
        event: impl Future<Output = ()> + Send + 'static,
        tasks: &TaskTracker,
    ) {
        // A runtime that is over drops the task at once, and what it holds with it.
        let _entered = self.runtime.enter();
        if let Some(inner) = self.inner.take() {
            tasks.spawn(async move {
                event.await;
                drop(inner);
            });
        }
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        let _entered = self.runtime.enter();
        drop(self.inner.take());
    }
}
