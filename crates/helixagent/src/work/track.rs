//! What the feed tells about its lines, and how a message is known to come from one.

use messaging::{Bytes, Message, Result};
use tokio::sync::Semaphore;

/// Keeps account of the lines of one run.
pub(super) trait Track: Send + Sync {
    /// A line is about to be sent; gives its message back, marked where that is how it is known.
    fn add(&self, line: u64, message: Message) -> Result<Message>;

    /// A line was handed to the broker.
    fn sent(&self, line: u64);

    /// A line was not published, as `text` says.
    fn bad(&self, line: u64, text: &str);

    /// There are no more lines.
    fn end_of_input(&self);

    /// What a line takes a permit of before it is read, where lines may not be read freely.
    fn room(&self) -> Option<&Semaphore>;
}

/// A line that was read and not finished.
#[derive(Debug)]
pub(super) struct Unfinished {
    pub(super) line: u64,
    pub(super) bytes: Bytes,
    /// What became of it.
    pub(super) state: &'static str,
}
