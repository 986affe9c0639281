//! Where the messages go: one queue, the same for every client.

/// What kind of queue it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueueKind {
    Quorum,
    Classic,
}

/// A node and the queue there.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) url: String,
    pub(super) kind: QueueKind,
}

/// The exchange, the routing key and the queue that it leads to, which is a group's too.
pub(super) const EXCHANGE: &str = "helixagent";
pub(super) const KEY: &str = "tasks";
pub(super) const QUEUE: &str = "bench";
