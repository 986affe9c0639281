//! What the server keeps of a stream.

use messaging_core::duration::format_duration;
use messaging_core::topology::{StreamConfig, StreamKind};

use crate::topology::{self, Declaration, Names, Queue};

/// The queue without messages that keeps what a stream is, where everybody sees it.
pub(super) fn marker(names: &Names, config: &StreamConfig) -> Queue {
    Queue::quorum(names.stream_marker(&config.name), names.copies)
        .with_text("x-dead-letter-exchange", "")
        .with_text("x-dead-letter-routing-key", describe(config))
}

/// Everything that a stream consists of beside the exchanges, its marker last.
pub(super) fn declarations(names: &Names, config: &StreamConfig) -> Vec<Declaration> {
    let mut all = topology::dead_letters(names, &config.name, config.dead_letter_retention);
    all.push(marker(names, config).into());
    all
}

/// What a stream is. A queue has what its group still needs and nothing else, so a retention is
/// remembered for others and removes nothing here.
pub(super) fn describe(config: &StreamConfig) -> String {
    let kind = match config.kind {
        StreamKind::Log => "log",
        StreamKind::Work => "work",
    };
    match config.retention {
        Some(kept) => format!("{kind}, kept {}", format_duration(kept)),
        None => kind.to_owned(),
    }
}
