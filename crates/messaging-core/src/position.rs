//! Where a message is kept, and where a subscription starts.

use std::fmt;
use std::time::SystemTime;

/// Where a stream keeps a message. Opaque: only its own backend can read it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    backend: &'static str,
    lane: u32,
    id: u128,
}

impl Position {
    /// Makes a position of `backend`; positions of one lane grow with `id`.
    #[must_use]
    pub const fn new(backend: &'static str, lane: u32, id: u128) -> Self {
        Self { backend, lane, id }
    }

    /// The backend that keeps the message.
    #[must_use]
    pub const fn backend(&self) -> &'static str {
        self.backend
    }

    /// The lane of the stream.
    #[must_use]
    pub const fn lane(&self) -> u32 {
        self.lane
    }

    /// The place in the lane.
    #[must_use]
    pub const fn id(&self) -> u128 {
        self.id
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}@{}", self.backend, self.lane, self.id)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Where a subscription starts that has no place of its own yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// At the oldest message kept.
    Earliest,
    /// With the next message published.
    Latest,
    /// At this position; the subscription must be to one stream.
    Position(Position),
    /// At the first message stored at this time or later.
    Time(SystemTime),
}
