//! Handles of the client library that may be dropped anywhere.

use tokio::runtime::Handle;

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

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        let _entered = self.runtime.enter();
        drop(self.inner.take());
    }
}
