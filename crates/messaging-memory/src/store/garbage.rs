//! Messages that nobody needs, until a publisher drops them.

use std::sync::Arc;

use messaging_core::Message;
use smallvec::SmallVec;

use super::log::Entry;

/// Forgotten messages, few of them.
///
/// A publisher's thread allocated them, and it frees them without contending for another thread's
/// part of the heap, which costs more than everything else that is done for a message.
#[derive(Debug, Default)]
pub(super) struct Garbage {
    messages: SmallVec<[Arc<Message>; 4]>,
    bytes: usize,
}

const MOST_MESSAGES: usize = 8_192;
const MOST_BYTES: usize = 4 * 1024 * 1024;

impl Garbage {
    pub(super) fn extend(&mut self, entry: Option<Entry>) {
        if let Some(Entry { message, bytes, .. }) = entry {
            self.bytes += bytes;
            self.messages.push(message);
        }
    }

    /// Everything, if it is more than may wait for the next publisher.
    pub(super) fn surplus(&mut self) -> Option<Self> {
        let is_much = self.messages.len() > MOST_MESSAGES || self.bytes > MOST_BYTES;
        is_much.then(|| std::mem::take(self))
    }
}
