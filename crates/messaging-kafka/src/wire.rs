//! Messages as records: body as value, key as key, everything else as headers.

use bytes::Bytes;
use messaging_core::{ContentType, Headers, Message, MessageId, StreamName, Subject};

const SUBJECT: &str = "subject";
const ID: &str = "message-id";
const CONTENT_TYPE: &str = "content-type";
/// Ours: the priority, where it is not 0.
const PRIORITY: &str = "helixagent-priority";

/// Where a record was read, for what its sender left out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin<'a> {
    pub(crate) stream: &'a StreamName,
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// The subject of another record, which is often the same: then it is shared.
    pub(crate) recent: Option<&'a Subject>,
}

/// The headers of a message's record, in order; `each` gets a name and its value.
pub(crate) fn headers(message: &Message, mut each: impl FnMut(&str, &[u8])) {
    each(SUBJECT, message.subject.as_bytes());
    each(ID, message.id.text(&mut [0; 36]).as_bytes());
    each(CONTENT_TYPE, message.content_type.as_str().as_bytes());
    if message.priority > 0 {
        each(PRIORITY, &[b'0' + message.priority.min(Message::MAX_PRIORITY)]);
    }
    others(message).for_each(|(name, value)| each(name, value));
}

/// How many headers the record of a message has.
pub(crate) fn header_count(message: &Message) -> usize {
    3 + usize::from(message.priority > 0) + others(message).count()
}

/// The headers that are no fields of a message: an application may give one the name of a field,
/// and the field goes before it.
fn others(message: &Message) -> impl Iterator<Item = (&str, &Bytes)> {
    let is_field = |name: &str| [SUBJECT, ID, CONTENT_TYPE, PRIORITY].contains(&name);
    message.headers.iter().filter(move |(name, _)| !is_field(name))
}

/// About how many bytes the record of a message has.
pub(crate) fn size(message: &Message) -> usize {
    /// The framing of a record, and the id.
    const FRAME: usize = 96;
    let names = message.subject.len() + message.content_type.as_str().len();
    FRAME + names + message.bytes() + 4 * message.headers.len()
}

/// The message that a record is, whoever wrote it. The last of duplicate headers counts, and one
/// without a value is empty.
pub(crate) fn read<'a>(
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    origin: Origin<'_>,
) -> Message {
    let mut subject = None;
    let mut id = None;
    let mut content_type = ContentType::OctetStream;
    let mut priority = 0;
    let mut others = Headers::default();
    for (name, value) in headers {
        let value = value.unwrap_or_default();
        match name {
            b"subject" => {
                let same = origin.recent.filter(|recent| recent.as_bytes() == value);
                let parsed = || utf8(value)?.parse::<Subject>().ok();
                subject = same.cloned().or_else(parsed);
            }
            b"message-id" => id = MessageId::read(value),
            b"content-type" => content_type = utf8(value).map_or(content_type, ContentType::from),
            b"helixagent-priority" => {
                let number = utf8(value).and_then(|text| text.parse::<u8>().ok());
                priority = number.unwrap_or_default().min(Message::MAX_PRIORITY);
            }
            // One whose name is no text has no name here.
            other => {
                if let Some(name) = utf8(other) {
                    others.stamp(name, value.to_vec());
                }
            }
        }
    }
    let body = value.unwrap_or_default();
    let Origin { stream, topic, partition, offset, .. } = origin;
    let subject = subject.filter(|subject| subject.stream() == stream.name());
    let subject = subject.unwrap_or_else(|| Subject::of_foreign(stream, &body));
    // The topic goes first where the id would be too long: what is left is still stable.
    let derived = || {
        let long = format!("{topic}:{partition}@{offset}");
        let short = format!("{partition}@{offset}");
        long.parse().or_else(|_| short.parse()).unwrap_or_else(|_| MessageId::generate())
    };
    let mut message = Message::identified(subject, id.unwrap_or_else(derived), body);
    message.content_type = content_type;
    message.priority = priority;
    message.key = key;
    message.headers = others;
    message
}

fn utf8(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use messaging_core::headers::ours;

    use super::*;

    fn through(message: &Message, stream: &StreamName) -> Message {
        let mut written = Vec::new();
        headers(message, |name, value| {
            written.push((name.as_bytes().to_vec(), Some(Bytes::copy_from_slice(value))));
        });
        let headers = written.iter().map(|(name, value)| (&name[..], value.as_deref()));
        read(message.key.clone(), Some(message.body.clone()), headers, at(stream))
    }

    fn at(stream: &StreamName) -> Origin<'_> {
        Origin { stream, topic: "helixagent.tasks", partition: 3, offset: 42, recent: None }
    }

    #[test]
    fn every_field_survives() {
        let stream = "tasks".parse().unwrap();
        let mut message = Message::new(Subject::from_static("tasks.x"), vec![0, 255])
            .with_content_type(ContentType::Other("text/plain".into()))
            .with_key("k")
            .with_priority(7)
            .with_header("trace", "t")
            .unwrap();
        message.headers.stamp(ours::DEAD_LETTER_REASON, "no");
        assert_eq!(through(&message, &stream), message);
        let long = message.with_id("x".repeat(MessageId::MAX_BYTES).parse().unwrap());
        assert_eq!(through(&long, &stream), long);
    }

    #[test]
    fn a_foreign_record_is_a_message_with_a_stable_id() {
        let stream: StreamName = "tasks".parse().unwrap();
        let body = Bytes::from_static(br#"{"type":"completion"}"#);
        let none = std::iter::empty::<(&[u8], Option<&[u8]>)>();
        let message = read(None, Some(body), none, at(&stream));
        assert_eq!(&message.subject[..], "tasks.completion");
        assert_eq!(message.id.to_string(), "helixagent.tasks:3@42");
        let none = std::iter::empty::<(&[u8], Option<&[u8]>)>();
        let tombstone = read(Some("k".into()), None, none, at(&stream));
        assert_eq!((&tombstone.subject[..], tombstone.body.len()), ("tasks", 0));
    }

    #[test]
    fn the_last_of_duplicate_headers_counts_and_an_absent_value_is_empty() {
        let stream: StreamName = "tasks".parse().unwrap();
        let headers: [(&[u8], Option<&[u8]>); 5] = [
            (b"a", Some(b"1")),
            (b"b", None),
            (b"a", Some(b"2")),
            (b"\xff", Some(b"no name")),
            (b"subject", Some(b"events.other-stream")),
        ];
        let message = read(None, None, headers.into_iter(), at(&stream));
        let all: Vec<_> = message.headers.iter().map(|(name, value)| (name, &value[..])).collect();
        assert_eq!(all, [("a", &b"2"[..]), ("b", b"")]);
        assert_eq!(&message.subject[..], "tasks");
    }
}
