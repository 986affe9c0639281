use std::fmt;
use std::sync::Arc;

use crate::driver::Settlement;
use crate::message::Message;

/// What became of one message in a worker's hands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// The message.
    pub message: Arc<Message>,
    /// Which attempt this was.
    pub attempt: u32,
    /// How it was settled; `Release` where the worker stopped before its handler had ended.
    pub settlement: Settlement,
}

impl Outcome {
    pub(super) const fn new(message: Arc<Message>, attempt: u32, settlement: Settlement) -> Self {
        Self { message, attempt, settlement }
    }
}

/// What a worker has done: hand-overs, counted by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerReport {
    /// Done.
    pub acked: u64,
    /// Failed, to come again.
    pub retried: u64,
    /// Dead-lettered.
    pub rejected: u64,
    /// Given back because the worker stopped or lost the lane while the handler ran.
    pub released: u64,
}

impl WorkerReport {
    /// Messages that are settled for good: acked or dead-lettered.
    #[must_use]
    pub const fn settled(&self) -> u64 {
        self.acked + self.rejected
    }

    pub(super) const fn count(&mut self, settlement: &Settlement) {
        let counter = match settlement {
            Settlement::Ack => &mut self.acked,
            Settlement::Retry { .. } | Settlement::Abandon => &mut self.retried,
            Settlement::Reject { .. } => &mut self.rejected,
            Settlement::Release => &mut self.released,
        };
        *counter += 1;
    }
}

impl fmt::Display for WorkerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acked, retried, rejected, released } = self;
        write!(f, "{acked} acked, {retried} retried, {rejected} dead-lettered, {released} released")
    }
}
