use std::fmt;
use std::sync::Arc;

use messaging_core::driver::{Settle, Settler};

use crate::driver::Connection;
use crate::store::Key;

/// Settles what one group handed out. It outlives its subscription, as deliveries do.
pub(crate) struct MemorySettler {
    pub(crate) connection: Arc<Connection>,
    pub(crate) group: Key,
}

impl Settler for MemorySettler {
    fn settle(&self, one: Settle) {
        self.connection.store.with(|state| state.settle(self.group, one));
    }

    /// The last comes first: messages that are put back go to the front, so their order stays.
    fn settle_all(&self, many: &mut Vec<Settle>) {
        self.connection.store.with(|state| {
            for one in many.drain(..).rev() {
                state.settle(self.group, one);
            }
        });
    }
}

impl fmt::Debug for MemorySettler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySettler").field("group", &self.group).finish_non_exhaustive()
    }
}
