use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use messaging_core::driver::{Outgoing, Sender};
use tokio::time::Instant;

use crate::driver::Connection;
use crate::error::closed;

/// Keeps messages within the call: there is no wire to wait for.
pub(crate) struct MemorySender {
    pub(crate) connection: Arc<Connection>,
    pub(crate) stream: u32,
}

impl Sender for MemorySender {
    fn send(&self, one: Outgoing) {
        if self.connection.closed.load(Ordering::Acquire) {
            return one.resolve(Err(closed("publish")));
        }
        let now = Instant::now();
        let connection = self.connection.id;
        self.connection.store.publish(|state| state.publish(self.stream, connection, one, now));
    }

    fn send_all(&self, many: &mut Vec<Outgoing>) {
        if self.connection.closed.load(Ordering::Acquire) {
            return many.drain(..).for_each(|one| one.resolve(Err(closed("publish"))));
        }
        let now = Instant::now();
        let connection = self.connection.id;
        self.connection.store.publish(|state| {
            for one in many.drain(..) {
                state.publish(self.stream, connection, one, now);
            }
        });
    }
}

impl fmt::Debug for MemorySender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySender").field("stream", &self.stream).finish_non_exhaustive()
    }
}
