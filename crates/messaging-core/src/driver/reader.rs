use std::fmt::Debug;
use std::time::SystemTime;

use futures::stream::BoxStream;

use crate::error::Result;
use crate::message::Message;
use crate::name::StreamName;
use crate::position::{Position, Start};

/// Reads a stream without a group: replay, dead letters.
pub trait Reader: Debug + Send + Sync {
    /// Reads what the stream keeps, in order, and ends at the end of the range.
    fn read(&self, spec: ReadSpec) -> BoxStream<'static, Result<Vec<Record>>>;
}

/// Which part of a stream is read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadSpec {
    /// The stream.
    pub stream: StreamName,
    /// Where it begins.
    pub from: Start,
    /// Messages stored at this time or later are left out.
    pub until: Option<SystemTime>,
    /// The most records read.
    pub limit: Option<usize>,
}

impl ReadSpec {
    /// Reads everything the stream keeps when reading begins.
    #[must_use]
    pub const fn new(stream: StreamName) -> Self {
        Self { stream, from: Start::Earliest, until: None, limit: None }
    }

    /// Begins elsewhere.
    #[must_use]
    pub const fn from(mut self, from: Start) -> Self {
        self.from = from;
        self
    }

    /// Ends before this time.
    #[must_use]
    pub const fn until(mut self, until: SystemTime) -> Self {
        self.until = Some(until);
        self
    }

    /// Reads at most so many.
    #[must_use]
    pub const fn limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }
}

/// A message as the stream keeps it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Record {
    /// The message.
    pub message: Message,
    /// Where it is kept.
    pub position: Position,
    /// When it was stored, where the broker says so.
    pub stored_at: Option<SystemTime>,
}

impl Record {
    /// Makes a record.
    #[must_use]
    pub const fn new(message: Message, position: Position, stored_at: Option<SystemTime>) -> Self {
        Self { message, position, stored_at }
    }
}
