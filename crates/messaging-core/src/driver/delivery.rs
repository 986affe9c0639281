use std::sync::Arc;
use std::time::{Duration, SystemTime};

use smallvec::SmallVec;

use crate::confirm::Confirm;
use crate::message::Message;
use crate::position::Position;

/// A message as the driver hands it over.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Incoming {
    /// What was published.
    pub message: Arc<Message>,
    /// What settles this hand-over.
    pub token: Token,
    /// 1 + the hand-overs known to have failed.
    pub attempt: u32,
    /// Where the stream keeps it, where the backend has positions.
    pub position: Option<Position>,
    /// When the broker stored it, where it says so.
    pub stored_at: Option<SystemTime>,
}

impl Incoming {
    /// A first hand-over of a message without position or time.
    #[must_use]
    pub fn new(message: impl Into<Arc<Message>>, token: Token) -> Self {
        Self { message: message.into(), token, attempt: 1, position: None, stored_at: None }
    }

    /// Sets the attempt.
    #[must_use]
    pub const fn with_attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// Sets the position and the time of storing.
    #[must_use]
    pub const fn stored(mut self, position: Option<Position>, at: Option<SystemTime>) -> Self {
        self.position = position;
        self.stored_at = at;
        self
    }
}

/// Messages that arrived together. One alone needs no allocation.
pub type Arrivals = SmallVec<[Incoming; 1]>;

/// Names one hand-over of one message. It is worth nothing outside its subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// The lane; the top 8 bits belong to wrappers that merge subscriptions.
    pub lane: u32,
    /// The lane's epoch, which grows when the lane is lost.
    pub epoch: u32,
    /// The hand-over, unique in lane and epoch.
    pub id: u128,
}

/// What becomes of one hand-over.
#[derive(Debug)]
#[non_exhaustive]
pub struct Settle {
    /// Which hand-over.
    pub token: Token,
    /// What becomes of it.
    pub how: Settlement,
    /// Where the answer goes; `None` costs nothing.
    pub confirm: Option<Confirm<Settled>>,
}

impl Settle {
    /// Settles without asking for an answer.
    #[must_use]
    pub const fn new(token: Token, how: Settlement) -> Self {
        Self { token, how, confirm: None }
    }

    /// Asks for an answer.
    #[must_use]
    pub fn confirmed(mut self, confirm: Confirm<Settled>) -> Self {
        self.confirm = Some(confirm);
        self
    }
}

/// The ways a hand-over can end. Exhaustive, as a driver has to know every case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// The work is done.
    Ack,
    /// It failed; hand it over again, not before `after` has passed. Counts as an attempt.
    Retry {
        /// The shortest time until the next hand-over.
        after: Duration,
    },
    /// It can't be handled; keep it as a dead letter.
    Reject {
        /// Why, for whoever reads the dead letter.
        reason: String,
    },
    /// It was dropped; hand it over again. Counts as an attempt.
    Abandon,
    /// It never reached a handler; hand it over again. Does not count.
    Release,
}

/// What the answer to a settlement promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settled {
    /// The driver has it; the broker has no answer to give.
    HandedOver,
    /// The broker has recorded it.
    Durable,
}
