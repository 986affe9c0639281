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
        write!(f, "{} {}@", self.backend, self.lane)?;
        // One that needs more bits than a number has is of two numbers, as the entry ids of Redis.
        match self.id >> 64 {
            0 => write!(f, "{}", self.id),
            high => write!(f, "{high}-{}", self.id as u64),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_shown_as_its_broker_shows_it() {
        assert_eq!(Position::new("kafka", 3, 17).to_string(), "kafka 3@17");
        let entry = Position::new("redis-streams", 0, 1_700_000_000_000 << 64 | 2);
        assert_eq!(entry.to_string(), "redis-streams 0@1700000000000-2");
    }
}
