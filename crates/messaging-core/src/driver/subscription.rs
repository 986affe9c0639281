use std::fmt;
use std::sync::Arc;

use futures::stream::BoxStream;

use super::{Arrivals, Settler, Token};
use crate::error::Result;

/// An open subscription: what arrives, and what settles it.
#[non_exhaustive]
pub struct Subscription {
    /// Polled for the next event; dropping it leaves the group. An `Err` is the last item.
    ///
    /// Not polling it means not fetching: that is the back-pressure.
    pub events: BoxStream<'static, Result<Event>>,
    /// Settles what was delivered; `None` where delivery is at most once.
    pub settler: Option<Arc<dyn Settler>>,
}

impl Subscription {
    /// An at-least-once subscription.
    #[must_use]
    pub fn settled(events: BoxStream<'static, Result<Event>>, settler: Arc<dyn Settler>) -> Self {
        Self { events, settler: Some(settler) }
    }

    /// An at-most-once subscription.
    #[must_use]
    pub fn at_most_once(events: BoxStream<'static, Result<Event>>) -> Self {
        Self { events, settler: None }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("settler", &self.settler).finish_non_exhaustive()
    }
}

/// What a subscription reports.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// Messages arrived.
    Messages(Arrivals),
    /// Messages were lost to this subscription.
    Gap(Gap),
    /// These lanes are ours from now on.
    Assigned(Lanes),
    /// These lanes are asked back; they stay ours until nothing of them is unsettled.
    Revoked(Lanes),
    /// These lanes are no longer ours; their unsettled messages are handled by others.
    Lost(Lanes),
    /// These deliveries were taken back from their handlers; what those settle is stale.
    Expired(Expired),
    /// A message the driver itself could not read was put aside.
    Parked(Parked),
    /// The connection was lost and is back.
    Reconnected,
}

/// Messages that a subscription will not see.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// How many, where that is known.
    pub missed: Option<u64>,
    /// Why.
    pub reason: String,
}

impl Gap {
    /// Makes a gap.
    #[must_use]
    pub fn new(missed: Option<u64>, reason: impl Into<String>) -> Self {
        Self { missed, reason: reason.into() }
    }
}

/// Deliveries to which the broker gives no more time. They come again, as a further attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Expired {
    /// Which.
    pub tokens: Vec<Token>,
    /// Why.
    pub reason: String,
}

impl Expired {
    /// Makes a report of deliveries that were taken back.
    #[must_use]
    pub fn new(tokens: Vec<Token>, reason: impl Into<String>) -> Self {
        Self { tokens, reason: reason.into() }
    }
}

/// A message that was put aside without being delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parked {
    /// Why.
    pub reason: String,
}

impl Parked {
    /// Makes a report of a parked message.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// A set of lanes of one subscription, as [`Token::lane`](super::Token) numbers them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lanes(Vec<u32>);

impl Lanes {
    /// Whether `lane` is among them.
    #[must_use]
    pub fn contains(&self, lane: u32) -> bool {
        self.0.contains(&lane)
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }
}

impl FromIterator<u32> for Lanes {
    fn from_iter<I: IntoIterator<Item = u32>>(lanes: I) -> Self {
        Self(lanes.into_iter().collect())
    }
}
