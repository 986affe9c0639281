//! How a batch gets to the broker that leads its partition.

use std::sync::Arc;
use std::time::Duration;

use messaging_core::Result;
use messaging_core::driver::Outgoing;
use tokio::time::Instant;

use super::failure::Failure;
use super::{Shared, ours, theirs};
use crate::config::WritePath;

/// A batch that the brokers have.
#[derive(Debug)]
pub(super) struct Written {
    /// The offset of its first message; the others follow.
    pub(super) first: i64,
    /// How long the broker wants nothing more.
    pub(super) throttled: Duration,
}

/// The way to one partition.
#[derive(Debug)]
pub(super) enum Link {
    Ours(ours::Link),
    Theirs(theirs::Link),
}

impl Link {
    pub(super) fn new(shared: &Arc<Shared>, topic: String, partition: i32) -> Self {
        match shared.config.write_path {
            WritePath::Direct => Self::Ours(ours::Link::new(shared, topic, partition)),
            WritePath::Rskafka => Self::Theirs(theirs::Link::new(shared, topic, partition)),
        }
    }

    /// Sees that the leader of the partition can be asked, before anything counts as sent.
    pub(super) async fn prepare(&mut self) -> Result<()> {
        match self {
            Self::Ours(link) => link.prepare().await,
            Self::Theirs(link) => link.prepare().await,
        }
    }

    /// Writes a batch, in one try.
    ///
    /// # Cancellation
    /// Dropping it leaves open what becomes of the batch.
    pub(super) async fn produce(
        &mut self,
        batch: &[Outgoing],
        deadline: Instant,
    ) -> Result<Written, Failure> {
        match self {
            Self::Ours(link) => link.produce(batch, deadline).await,
            Self::Theirs(link) => {
                let outcome = link.produce(batch, deadline).await;
                if outcome.is_err() && link.is_throttled().await {
                    *self = Self::Ours(link.to_ours());
                }
                outcome
            }
        }
    }

    /// Forgets what it is connected to.
    pub(super) fn reset(&mut self) {
        match self {
            Self::Ours(link) => link.reset(),
            Self::Theirs(link) => link.reset(),
        }
    }
}
