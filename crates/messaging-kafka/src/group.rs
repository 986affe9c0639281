//! Membership of a consumer group, as pure code: events in, actions out, and the time is passed.
//!
//! * [`member`] is the state machine of one member: it joins, syncs, stays alive and leaves, and
//!   says which partitions became ours, are asked back or are lost.
//! * [`claim`] is what a member tells the others, and [`assignment`] what it is told.
//! * [`assign`] is what the leader computes from the claims.
//! * [`codes`] is what each error of the coordinator means.
//!
//! The protocol is cooperative and our own: a partition goes to a new owner only after no member
//! claims it any more, and a member claims what it hands over until its last handler has ended.

pub(crate) mod assign;
pub(crate) mod assignment;
pub(crate) mod claim;
pub(crate) mod codes;
pub(crate) mod member;
mod reader;

#[cfg(test)]
mod model;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// The name of our assignment protocol. The broker lets no member into a group that does not offer
/// what all others offer, so foreign members stay out.
pub(crate) const PROTOCOL: &str = "messaging-cooperative-1";

/// The type of group under which Kafka's own tools show members and their partitions.
pub(crate) const PROTOCOL_TYPE: &str = "consumer";

/// One partition of one topic.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Partition {
    pub(crate) topic: Arc<str>,
    pub(crate) number: i32,
}

impl Partition {
    pub(crate) fn new(topic: impl Into<Arc<str>>, number: i32) -> Self {
        Self { topic: topic.into(), number }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.number)
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Partitions in order.
pub(crate) type Partitions = BTreeSet<Partition>;
