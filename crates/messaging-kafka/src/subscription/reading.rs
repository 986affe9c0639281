//! Records as messages of a subscription.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use messaging_core::{Message, StreamName, Subject};
use tokio::time::Instant;

use super::lane::Fetched;
use super::place::{Content, Place};
use crate::group::Partition;
use crate::offsets::resume::Standing;
use crate::read::record::{Record, RecordRef};
use crate::wire::{self, Origin};

/// Headers of a copy in a retry topic. They count nowhere else.
pub(super) const ATTEMPT: &str = "helixagent-retry-attempt";
pub(super) const DUE: &str = "helixagent-retry-due";
pub(super) const ORIGIN: &str = "helixagent-retry-origin";

/// The message that a record is; `None` for one in a retry topic that is not ours.
/// `recent` is the subject of another one, which is often the same.
pub(super) fn message(
    record: RecordRef<'_>,
    place: &Place,
    recent: Option<&Subject>,
) -> Option<Fetched> {
    let RecordRef { offset, .. } = record;
    let (stream, retry) = match &place.content {
        Content::Stream(stream) => (Cow::Borrowed(&**stream), Retry::default()),
        Content::Retry => {
            let (stream, retry) = of_retry(record.headers());
            (Cow::Owned(stream?), retry)
        }
    };
    let Partition { topic, number } = &place.partition;
    let origin = Origin { stream: &stream, topic, partition: *number, offset, recent };
    let message = wire::read(record.key(), record.value(), of_sender(record.headers()), origin);
    let attempt = retry.attempt.unwrap_or(1);
    Some(Fetched {
        offset,
        attempt,
        standing: Standing::Open { attempt, suspect: false },
        message: Arc::new(message),
        stored_at: record.stored_at(),
        origin: retry.origin,
        not_before: retry.due.map(instant),
        handed: None,
    })
}

/// The message of a stream that a record is.
pub(crate) fn read_message(
    record: Record,
    topic: &str,
    partition: i32,
    stream: &StreamName,
) -> Message {
    let Record { offset, key, value, headers, .. } = record;
    let origin = Origin { stream, topic, partition, offset, recent: None };
    wire::read(key, value, of_sender(headers.iter()), origin)
}

/// The headers that its sender gave a message.
fn of_sender<'a>(
    all: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
    all.filter(|(name, _)| !is_of_retry(name))
}

fn is_of_retry(name: &[u8]) -> bool {
    name.starts_with(b"helixagent-retry-")
}

#[derive(Default)]
struct Retry {
    attempt: Option<u32>,
    due: Option<u64>,
    origin: Option<(i32, i64)>,
}

/// The stream of a message that waits for its retry.
pub(crate) fn stream_of_retry(record: &Record) -> Option<StreamName> {
    of_retry(record.headers.iter()).0
}

fn of_retry<'a>(
    headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) -> (Option<StreamName>, Retry) {
    let mut retry = Retry::default();
    let mut stream = None;
    for (name, value) in headers {
        let value = value.unwrap_or_default();
        let text = std::str::from_utf8(value).unwrap_or_default();
        match name {
            b"subject" => {
                let subject = text.parse::<Subject>().ok();
                stream = subject.and_then(|subject| subject.stream().parse().ok());
            }
            _ if name == ATTEMPT.as_bytes() => retry.attempt = text.parse().ok(),
            _ if name == DUE.as_bytes() => retry.due = text.parse().ok(),
            _ if name == ORIGIN.as_bytes() => {
                retry.origin = text.split_once('@').and_then(|(partition, offset)| {
                    Some((partition.parse().ok()?, offset.parse().ok()?))
                });
            }
            _ => {}
        }
    }
    (stream, retry)
}

/// A time of the calendar by our clock that only goes forward.
fn instant(millis: u64) -> Instant {
    let at = UNIX_EPOCH + Duration::from_millis(millis.min(u64::MAX / 4));
    let wait = at.duration_since(SystemTime::now()).unwrap_or_default();
    // A clock that is far off does not keep a message for ever.
    Instant::now() + wait.min(Duration::from_secs(2 * 3_600))
}

/// The headers of a copy for a retry.
pub(super) fn stamp(message: &mut Message, attempt: u32, due: SystemTime, origin: (i32, i64)) {
    // Whole milliseconds, rounded up: it is never early.
    let due = due.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().div_ceil(1_000_000);
    message.headers.stamp(ATTEMPT, attempt.to_string());
    message.headers.stamp(DUE, due.to_string());
    message.headers.stamp(ORIGIN, format!("{}@{}", origin.0, origin.1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_is_never_due_early() {
        let mut message = Message::new("tasks.a".parse().unwrap(), "");
        let due = UNIX_EPOCH + Duration::from_micros(5_000_001);
        stamp(&mut message, 2, due, (0, 7));
        assert_eq!(message.headers.get(DUE).unwrap(), "5001");
    }
}
