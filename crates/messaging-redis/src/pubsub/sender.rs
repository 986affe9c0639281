use std::fmt;

use messaging_core::driver::{Outgoing, Sender};
use tokio::sync::mpsc::UnboundedSender;

use super::driver::NAME;
use crate::error::closed;

/// Hands messages to the task that publishes. All streams share one connection, and so one order.
pub(super) struct PubSubSender {
    pub(super) queue: UnboundedSender<Outgoing>,
}

impl Sender for PubSubSender {
    fn send(&self, one: Outgoing) {
        if let Err(refused) = self.queue.send(one) {
            refused.0.resolve(Err(closed(NAME, "publish")));
        }
    }

    fn send_all(&self, many: &mut Vec<Outgoing>) {
        many.drain(..).for_each(|one| self.send(one));
    }
}

impl fmt::Debug for PubSubSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PubSubSender").finish_non_exhaustive()
    }
}
