//! What is kept of a delivery: its message until it is done, then what it is known again by.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::quality::FixedState;
use messaging_core::Message;

#[derive(Debug)]
pub(super) enum Content {
    /// Nobody here was to see it.
    Unseen,
    Message(Arc<Message>),
    Done(Print),
}

/// Id, subject and body of a message in one number: the same id alone may be another message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Print(u64);

impl Print {
    pub(super) fn of(message: &Message) -> Self {
        let Message { id, subject, body, .. } = message;
        Self(FixedState::default().hash_one((id, subject, body)))
    }
}

impl Content {
    pub(super) fn message(&self) -> Option<&Arc<Message>> {
        match self {
            Self::Message(message) => Some(message),
            Self::Unseen | Self::Done(_) => None,
        }
    }

    pub(super) fn print(&self) -> Option<Print> {
        match self {
            Self::Unseen => None,
            Self::Message(message) => Some(Print::of(message)),
            Self::Done(print) => Some(*print),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.message().map_or(0, |message| message.bytes())
    }

    /// Lets its message go, while that is still at hand: freed long after its ack, it would cost the
    /// processor more than everything else that is done for it here.
    pub(super) fn finish(&mut self) {
        if let Self::Message(message) = self {
            *self = Self::Done(Print::of(message));
        }
    }
}
