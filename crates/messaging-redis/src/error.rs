//! What the client library and the server say, as errors of the layer.

use messaging_core::{Error, ErrorKind, Result, StreamName};
use redis::{RedisError, ServerError, ServerErrorKind};

/// An error of the client library. What it says of a failed call is definite only where the server
/// answered.
pub(crate) fn from_client(error: RedisError, address: &str) -> Error {
    use redis::ErrorKind as Theirs;
    let (kind, text) = match error.kind() {
        Theirs::AuthenticationFailed => (ErrorKind::Denied, "refuses these credentials"),
        Theirs::Server(ServerErrorKind::NoPerm) => (ErrorKind::Denied, "refuses the permission"),
        Theirs::RESP3NotSupported => {
            (ErrorKind::Unavailable, "is too old to listen at; Redis 6 or later is needed")
        }
        Theirs::InvalidClientConfig => (ErrorKind::InvalidConfig, "can't be used as configured"),
        _ if error.code() == Some("WRONGPASS") || error.code() == Some("NOAUTH") => {
            (ErrorKind::Denied, "refuses these credentials")
        }
        // A cluster's client tells only in words why it could not connect to any node.
        _ if error.detail().is_some_and(|detail| detail.contains("AuthenticationFailed")) => {
            (ErrorKind::Denied, "refuses these credentials")
        }
        _ if error.is_timeout() => (ErrorKind::Timeout, "did not answer in time"),
        Theirs::Server(_) | Theirs::Extension => (ErrorKind::Unavailable, "answers with an error"),
        _ => (
            ErrorKind::Unavailable,
            "can't be reached; `cargo xtask up redis` starts one on this machine",
        ),
    };
    // The library's text repeats no argument, so it holds no secret and no payload.
    Error::new(kind, format!("{address} {text}")).with_source(error)
}

/// An error that the server gave as the answer to one command: the command had no effect.
pub(crate) fn from_server(error: &ServerError, what: &str) -> Error {
    let kind = match error.code() {
        "NOPERM" | "NOAUTH" | "WRONGPASS" => ErrorKind::Denied,
        "NOGROUP" => ErrorKind::NotFound,
        _ => ErrorKind::Unavailable,
    };
    let details = error.details().unwrap_or_default();
    Error::new(kind, format!("{what}: the server answers {} {details}", error.code()))
}

/// Whether the server says that it does not serve this now or here, so that the same may succeed
/// later: nothing was done.
pub(crate) fn is_passing(error: &ServerError) -> bool {
    const PASSING: [&str; 10] = [
        "LOADING",
        "NOREPLICAS",
        "READONLY",
        "CLUSTERDOWN",
        "MASTERDOWN",
        "TRYAGAIN",
        "MOVED",
        "ASK",
        "BUSY",
        "MISCONF",
    ];
    PASSING.contains(&error.code())
}

pub(crate) fn closed(backend: &'static str, operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, "the connection was closed").at(backend, operation)
}

pub(crate) fn stale() -> Error {
    Error::new(ErrorKind::Stale, "the delivery is no longer ours")
}

/// Something of the server's answer that is not as its documentation says.
pub(crate) fn unexpected(what: &str) -> Error {
    Error::new(ErrorKind::Other, format!("{what}: the server's answer has another form"))
}

pub(crate) fn unknown_stream(stream: &StreamName) -> Error {
    let name = stream.to_string();
    let accepted = "one of the topology; provision creates more";
    Error::invalid(ErrorKind::UnknownStream, "stream", &name, "it is unknown", accepted)
}

/// The value itself, or the error that the server answered in its place.
pub(crate) fn checked(value: redis::Value, what: &str) -> Result<redis::Value> {
    match value {
        redis::Value::ServerError(error) => Err(from_server(&error, what)),
        value => Ok(value),
    }
}
