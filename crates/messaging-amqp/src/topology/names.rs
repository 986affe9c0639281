//! Names at the server. All but the exchange and the queues of groups begin with the prefix.

use std::sync::Arc;
use std::time::Duration;

use messaging_core::duration::format_duration;
use messaging_core::{GroupName, StreamName};

use super::sizes::Sizes;

/// Makes names, and knows what all declarations have in common.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    exchange: Arc<str>,
    prefix: Arc<str>,
    /// Whether exchanges outlive a restart of the server.
    pub(super) durable: bool,
    /// On how many nodes a quorum queue is kept; the server decides unless set.
    pub(crate) copies: Option<u32>,
    /// The queues that are kept otherwise.
    pub(super) sizes: Arc<Sizes>,
}

impl Names {
    pub(crate) fn new(exchange: &str, prefix: &str, durable: bool, copies: Option<u32>) -> Self {
        let (exchange, prefix) = (exchange.into(), prefix.into());
        Self { exchange, prefix, durable, copies, sizes: Arc::default() }
    }

    /// The topic exchange that everything is published to.
    pub(crate) fn exchange(&self) -> &str {
        &self.exchange
    }

    /// The topic exchange of dead letters.
    pub(crate) fn dead_letter_exchange(&self) -> String {
        format!("{}.dlx", self.prefix)
    }

    /// The queue of a stream's dead letters.
    pub(crate) fn dead_letters(&self, stream: &StreamName) -> String {
        format!("{}.dlq.{}", self.prefix, stream.name())
    }

    /// The queue without messages that keeps what the members of a group agree on.
    pub(crate) fn marker(&self, group: &GroupName) -> String {
        format!("{}.group.{group}", self.prefix)
    }

    /// What the markers of groups begin with.
    pub(crate) fn markers(&self) -> String {
        format!("{}.group.", self.prefix)
    }

    /// The queue without messages that keeps what a stream is.
    pub(crate) fn stream_marker(&self, stream: &StreamName) -> String {
        format!("{}{}", self.stream_markers(), stream.name())
    }

    /// What the markers of streams begin with.
    pub(crate) fn stream_markers(&self) -> String {
        format!("{}.stream.", self.prefix)
    }

    /// Whether this is an exchange or a queue through which copies of a group go.
    pub(crate) fn is_place_of(&self, group: &GroupName, name: &str) -> bool {
        let retry = format!("{}.retry.{group}.", self.prefix);
        name.starts_with(&retry) || name == self.returned(group) || name == self.suspects(group)
    }

    /// The exchange and the queue of retries that wait so long.
    pub(crate) fn retry(&self, group: &GroupName, tier: Duration) -> String {
        format!("{}.retry.{group}.{}", self.prefix, format_duration(tier))
    }

    /// The exchange through which copies come back to a group.
    pub(crate) fn returned(&self, group: &GroupName) -> String {
        format!("{}.return.{group}", self.prefix)
    }

    /// The exchange and the queue of messages that were twice in the hands of members that died.
    pub(crate) fn suspects(&self, group: &GroupName) -> String {
        format!("{}.suspects.{group}", self.prefix)
    }
}
