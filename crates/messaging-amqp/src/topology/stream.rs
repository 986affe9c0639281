//! What streams are made of.

use std::time::Duration;

use messaging_core::StreamName;

use super::{Declaration, ExchangeKind, Names, Queue};

/// How often a dead letter may be returned by those who look at it. It is there to be looked at, so
/// this is no limit anybody meets; without one the server has its own.
const RETURNS_OF_DEAD_LETTERS: i64 = 1_000_000;

/// What all streams share.
pub(crate) fn exchanges(names: &Names) -> Vec<Declaration> {
    vec![
        Declaration::exchange(names.exchange(), ExchangeKind::Topic, names.durable),
        Declaration::exchange(names.dead_letter_exchange(), ExchangeKind::Topic, names.durable),
    ]
}

/// The dead letters of a stream, which are kept for `retention`.
pub(crate) fn dead_letters(
    names: &Names,
    stream: &StreamName,
    retention: Duration,
) -> Vec<Declaration> {
    let name = names.dead_letters(stream);
    let queue = Queue::quorum(&name, names.copies)
        .with_delivery_limit(RETURNS_OF_DEAD_LETTERS)
        .with_time_limit(retention);
    let pattern = format!("{}.#", stream.name());
    vec![queue.into(), Declaration::binding(names.dead_letter_exchange(), name, pattern)]
}
