use messaging_core::{Error, ErrorKind, StreamName};

use crate::driver::NAME;

pub(crate) fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, "this connection was closed").at(NAME, operation)
}

pub(crate) fn stale() -> Error {
    let text = "the message was settled before, or its subscription has ended";
    Error::new(ErrorKind::Stale, text).at(NAME, "settle")
}

pub(crate) fn unknown_stream(stream: &StreamName, operation: &'static str) -> Error {
    let text = format!("stream {stream} is unknown; add it to the topology and provision it");
    Error::new(ErrorKind::UnknownStream, text).at(NAME, operation)
}
