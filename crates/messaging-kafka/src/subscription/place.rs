//! The partitions that a subscription reads, and what is in them.

use std::sync::Arc;

use messaging_core::StreamName;

use crate::group::Partition;

/// A partition, and what its records are.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) partition: Partition,
    pub(super) content: Content,
}

/// What the records of a topic are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Messages of a stream, or its dead letters.
    Stream(Arc<StreamName>),
    /// Messages that come again, each when its time has come.
    Retry,
}
