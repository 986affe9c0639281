use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;

use crate::confirm::Confirm;
use crate::error::{Error, Result};
use crate::message::Message;
use crate::position::Position;

/// A message on its way to the broker.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outgoing {
    /// What is sent.
    pub message: Arc<Message>,
    /// When its caller stops waiting.
    pub deadline: Instant,
    /// Where the outcome goes; it holds the message's room in the publishing window.
    pub confirm: Confirm<Receipt>,
}

impl Outgoing {
    /// Puts the three together.
    #[must_use]
    pub const fn new(message: Arc<Message>, deadline: Instant, confirm: Confirm<Receipt>) -> Self {
        Self { message, deadline, confirm }
    }

    /// Asks, directly before the wire, whether the message may still be sent.
    ///
    /// `false`: it has been or is hereby reported as not sent; drop it. After `true` an expiry
    /// reads as unknown. One reading of the clock serves a batch.
    pub fn begin(&mut self, now: Instant) -> bool {
        self.confirm.begin(now, self.deadline)
    }

    /// Takes [`Outgoing::begin`] back: the broker has not written the message and may do so later.
    ///
    /// It may be sent again after another `begin`; an expiry until then reads as not sent, because of
    /// `refused`.
    pub fn withdraw(&mut self, refused: Error) {
        self.confirm.withdraw(refused);
    }

    /// Says what became of it.
    pub fn resolve(self, outcome: Result<Receipt>) {
        self.confirm.resolve(outcome);
    }
}

/// The broker's answer to a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// Where the message is kept, where the broker says so.
    pub position: Option<Position>,
    /// What the answer promises.
    pub assurance: Assurance,
}

impl Receipt {
    /// Makes a receipt.
    #[must_use]
    pub const fn new(assurance: Assurance, position: Option<Position>) -> Self {
        Self { position, assurance }
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some(position) => write!(f, "{} at {position}", self.assurance),
            None => write!(f, "{}", self.assurance),
        }
    }
}

/// What a confirmed publish promises, from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Assurance {
    /// It was written to the connection; nobody answered.
    Sent,
    /// The broker has it and nobody receives the subject yet.
    NoReceiver,
    /// The broker has it in memory.
    Accepted,
    /// The broker has it as durably as it is configured to.
    Persisted,
}

impl fmt::Display for Assurance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sent => "sent",
            Self::NoReceiver => "accepted, no receiver",
            Self::Accepted => "accepted",
            Self::Persisted => "persisted",
        })
    }
}
