//! What a broker says, as errors of the layer.

use kafka_protocol::error::ResponseError;
use messaging_core::{Error, ErrorKind};

use crate::config::Address;

/// An error code of an answer, `what` being what was asked: `topic helixagent.tasks`.
pub(crate) fn from_code(code: i16, what: &str) -> Error {
    use ResponseError as Theirs;
    let theirs = ResponseError::try_from_code(code).unwrap_or(Theirs::Unknown(code));
    let kind = match theirs {
        Theirs::TopicAuthorizationFailed
        | Theirs::GroupAuthorizationFailed
        | Theirs::ClusterAuthorizationFailed
        | Theirs::TransactionalIdAuthorizationFailed
        | Theirs::SaslAuthenticationFailed
        | Theirs::PolicyViolation => ErrorKind::Denied,
        Theirs::UnknownTopicOrPartition
        | Theirs::UnknownTopicId
        | Theirs::GroupIdNotFound
        | Theirs::OffsetOutOfRange => ErrorKind::NotFound,
        Theirs::InvalidTopicException | Theirs::InvalidGroupId => ErrorKind::InvalidName,
        Theirs::InvalidConfig
        | Theirs::InvalidReplicationFactor
        | Theirs::InvalidPartitions
        | Theirs::InvalidSessionTimeout => ErrorKind::InvalidConfig,
        Theirs::RequestTimedOut => ErrorKind::Timeout,
        Theirs::UnsupportedVersion
        | Theirs::InvalidRequest
        | Theirs::CorruptMessage
        | Theirs::UnknownServerError => ErrorKind::Other,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("{what}: the broker answers {theirs:?} ({code})"))
}

/// What is denied, if this code says so.
pub(crate) fn denied(code: i16, what: &str) -> Option<Error> {
    Some(from_code(code, what)).filter(|error| *error.kind() == ErrorKind::Denied)
}

/// A broker that can't be reached.
pub(crate) fn unreachable(address: &Address, source: std::io::Error) -> Error {
    let text = format!("{address} can't be reached; `cargo xtask up kafka` starts one here");
    Error::new(ErrorKind::Unavailable, text).with_source(source)
}

/// A broker, or whatever listens there, that did not answer in time.
pub(crate) fn late(address: &Address, what: &str) -> Error {
    Error::new(ErrorKind::Timeout, format!("{address} did not answer {what} in time"))
}

/// Something of a broker's answer that is not as the protocol says.
pub(crate) fn unexpected(address: &Address, what: &str) -> Error {
    Error::new(ErrorKind::Other, format!("{address}: the answer to {what} has another form"))
}

pub(crate) fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, "the connection was closed").at(crate::NAME, operation)
}
