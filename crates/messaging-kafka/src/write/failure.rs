//! What became of a batch that was not confirmed.

use messaging_core::{Error, ErrorKind};

use crate::error::from_code;

/// What became of a batch that was not confirmed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing of it was written; a newer view of the cluster, or time, may cure it.
    NotWritten(Error),
    /// Nothing of it was written: it is too large for the topic.
    TooLarge(Error),
    /// Nothing of it was written, nor will it be.
    Refused(Error),
    /// It may have been written, or some of it may still be.
    Unknown(Error),
}

impl Failure {
    /// Judges an error code of an answer to Produce.
    ///
    /// `appended` says whether the broker had stored the batch before the error: it then tells where.
    /// `None` where we can't know, which counts as stored.
    pub(super) fn of_code(code: i16, appended: Option<bool>, what: &str) -> Self {
        let error = from_code(code, what);
        match code {
            MESSAGE_TOO_LARGE | RECORD_LIST_TOO_LARGE => Self::TooLarge(error),
            _ if appended == Some(true) => Self::Unknown(error),
            // The leader has it, and too few others may: a new leader may know nothing of it.
            NOT_ENOUGH_REPLICAS_AFTER_APPEND | REQUEST_TIMED_OUT => Self::Unknown(error),
            NOT_ENOUGH_REPLICAS | UNKNOWN_TOPIC | LEADER_NOT_AVAILABLE | FENCED_LEADER_EPOCH
            | UNKNOWN_LEADER_EPOCH | UNKNOWN_TOPIC_ID => Self::NotWritten(error),
            // One that lost its leadership while others copied the batch says the same as one that
            // was no leader to begin with.
            NOT_LEADER if appended == Some(false) => Self::NotWritten(error),
            NOT_LEADER | NETWORK_EXCEPTION | STORAGE_ERROR | UNKNOWN_SERVER_ERROR => {
                Self::Unknown(error)
            }
            _ => Self::Refused(error),
        }
    }

    /// Judges a call that failed on our own connection.
    pub(super) fn of_call(error: Error) -> Self {
        match error.kind() {
            ErrorKind::NotSent => Self::NotWritten(error),
            ErrorKind::TooLarge { .. } => Self::TooLarge(error),
            _ => Self::Unknown(error),
        }
    }
}

/// The error of a message whose fate is not known.
pub(super) fn unknown(cause: &Error) -> Error {
    Error::new(ErrorKind::OutcomeUnknown, format!("whether it was written is not known: {cause}"))
}

/// The error of a message that was not written and whose time is over.
pub(super) fn not_sent(cause: &Error) -> Error {
    Error::new(ErrorKind::NotSent, format!("it was not written in time: {cause}"))
}

pub(super) fn cannot_encode(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::InvalidMessage, "the batch can't be written").with_source(cause)
}

const UNKNOWN_SERVER_ERROR: i16 = -1;
const UNKNOWN_TOPIC: i16 = 3;
const LEADER_NOT_AVAILABLE: i16 = 5;
const NOT_LEADER: i16 = 6;
const REQUEST_TIMED_OUT: i16 = 7;
const MESSAGE_TOO_LARGE: i16 = 10;
const NETWORK_EXCEPTION: i16 = 13;
const RECORD_LIST_TOO_LARGE: i16 = 18;
const NOT_ENOUGH_REPLICAS: i16 = 19;
const NOT_ENOUGH_REPLICAS_AFTER_APPEND: i16 = 20;
const STORAGE_ERROR: i16 = 56;
const FENCED_LEADER_EPOCH: i16 = 74;
const UNKNOWN_LEADER_EPOCH: i16 = 75;
const UNKNOWN_TOPIC_ID: i16 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(code: i16, appended: Option<bool>) -> &'static str {
        match Failure::of_code(code, appended, "t") {
            Failure::NotWritten(_) => "not written",
            Failure::TooLarge(_) => "too large",
            Failure::Refused(_) => "refused",
            Failure::Unknown(_) => "unknown",
        }
    }

    #[test]
    fn only_what_is_known_to_be_not_written_is_repeated() {
        for code in [19, 3, 5, 74, 75, 100] {
            assert_eq!(judged(code, None), "not written", "{code}");
        }
        for code in [20, 7, 13, 56, -1] {
            assert_eq!(judged(code, Some(false)), "unknown", "{code}");
        }
        assert_eq!(judged(10, None), "too large");
        assert_eq!(judged(18, None), "too large");
        assert_eq!(judged(29, None), "refused");
    }

    #[test]
    fn a_leader_that_stepped_down_after_storing_does_not_count_as_not_written() {
        assert_eq!(judged(6, Some(false)), "not written");
        assert_eq!(judged(6, Some(true)), "unknown");
        assert_eq!(judged(6, None), "unknown");
        assert_eq!(judged(87, Some(true)), "unknown");
    }
}
