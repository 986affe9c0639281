use std::sync::Arc;

use messaging_core::observe::{Notice, Observer};

/// Writes what happens beside the data path to the `tracing` log.
#[derive(Debug)]
pub struct LogNotices {
    backend: &'static str,
}

impl LogNotices {
    /// An observer for a connection to `backend`.
    #[must_use]
    pub fn new(backend: &'static str) -> Arc<Self> {
        Arc::new(Self { backend })
    }
}

impl Observer for LogNotices {
    fn notice(&self, notice: &Notice) {
        let backend = self.backend;
        match notice {
            Notice::Assigned(_) | Notice::Revoked(_) => tracing::info!(backend, "{notice}"),
            _ => tracing::warn!(backend, "{notice}"),
        }
    }
}
