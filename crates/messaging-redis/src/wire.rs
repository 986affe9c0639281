//! Messages as the fields of a stream entry.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use messaging_core::headers::ours;
use messaging_core::{ContentType, Headers, Message, MessageId, Position, StreamName, Subject};
use redis::{Cmd, RedisWrite, Value};

const SUBJECT: &str = "subject";
const ID: &str = "id";
const CONTENT_TYPE: &str = "content-type";
const KEY: &str = "key";
const BODY: &str = "body";
/// What the name of an application header follows.
const HEADER: &str = "h:";
/// Ours: the priority, where it is not 0.
const PRIORITY: &str = "helixagent-priority";

/// The id of a stream entry: milliseconds of the server's clock, and a number within them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct EntryId {
    pub(crate) millis: u64,
    pub(crate) number: u64,
}

impl EntryId {
    pub(crate) const ZERO: Self = Self { millis: 0, number: 0 };

    pub(crate) const fn from_bits(bits: u128) -> Self {
        Self { millis: (bits >> 64) as u64, number: bits as u64 }
    }

    pub(crate) const fn to_bits(self) -> u128 {
        ((self.millis as u128) << 64) | self.number as u128
    }

    /// The id directly before, as reading begins after an id.
    pub(crate) const fn before(self) -> Self {
        Self::from_bits(self.to_bits().saturating_sub(1))
    }

    pub(crate) const fn position(self, backend: &'static str, lane: u32) -> Position {
        Position::new(backend, lane, self.to_bits())
    }

    /// Reads it from an answer of the server.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        text(value)?.parse().ok()
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.number)
    }
}

impl redis::ToRedisArgs for EntryId {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        out.write_arg_fmt(self);
    }
}

impl FromStr for EntryId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (millis, number) = text.split_once('-').ok_or(())?;
        let parse = |part: &str| part.parse().map_err(|_| ());
        Ok(Self { millis: parse(millis)?, number: parse(number)? })
    }
}

/// The command that appends a message to a lane.
pub(crate) fn append(key: &str, message: &Message) -> Cmd {
    // Names and what has few bytes fit into what is added here, so it grows for long headers only.
    let mut command = Cmd::with_capacity(16, key.len() + message.bytes() + 256);
    command.arg("XADD").arg(key).arg("*");
    command.arg(SUBJECT).arg(&message.subject[..]);
    command.arg(ID).write_arg_fmt(&message.id);
    command.arg(CONTENT_TYPE).arg(message.content_type.as_str());
    if let Some(key) = &message.key {
        command.arg(KEY).arg(&key[..]);
    }
    if message.priority > 0 {
        command.arg(PRIORITY).arg(message.priority);
    }
    for (name, value) in message.headers.iter() {
        if name.starts_with(ours::PREFIX) {
            command.arg(name).arg(&value[..]);
        } else {
            command.arg(format!("{HEADER}{name}")).arg(&value[..]);
        }
    }
    command.arg(BODY).arg(&message.body[..]);
    command
}

/// Reads the entries of one lane, whoever wrote them.
#[derive(Debug)]
pub(crate) struct LaneReader<'a> {
    stream: &'a StreamName,
    lane: &'a str,
    /// That of the entry before: most have the same, which they share then.
    subject: Option<Subject>,
}

impl<'a> LaneReader<'a> {
    pub(crate) const fn new(stream: &'a StreamName, lane: &'a str) -> Self {
        Self { stream, lane, subject: None }
    }

    /// The message that the fields of an entry are. `None` if they are no pairs.
    pub(crate) fn message(&mut self, id: EntryId, fields: Value) -> Option<Message> {
        let Value::Array(fields) = fields else { return None };
        let mut fields = fields.into_iter();
        let mut subject = None;
        let mut message_id = None;
        let mut content_type = ContentType::OctetStream;
        let mut key = None;
        let mut priority = 0;
        let mut headers = Headers::default();
        let mut body = Bytes::new();
        while let Some(name) = fields.next() {
            let value = bytes(fields.next()?)?;
            match raw(&name)? {
                b"body" => body = value,
                b"subject" => subject = utf8(&value).and_then(|text| self.subject(text)),
                b"id" => message_id = MessageId::read(&value),
                b"content-type" => {
                    content_type = utf8(&value).map_or(content_type, ContentType::from);
                }
                b"key" => key = Some(value),
                b"helixagent-priority" => {
                    let number = utf8(&value).and_then(|text| text.parse::<u8>().ok());
                    priority = number.unwrap_or_default().min(Message::MAX_PRIORITY);
                }
                // Any other field is a header; one whose name is no text has no name here.
                other => {
                    if let Some(name) = utf8(other) {
                        headers.stamp(name.strip_prefix(HEADER).unwrap_or(name), value);
                    }
                }
            }
        }
        // A foreign client may leave out all but the body.
        let subject = subject.unwrap_or_else(|| Subject::of_foreign(self.stream, &body));
        let lane = self.lane;
        let derived = || format!("{lane}@{id}").parse().unwrap_or_else(|_| MessageId::generate());
        let mut message = Message::identified(subject, message_id.unwrap_or_else(derived), body)
            .with_content_type(content_type)
            .with_priority(priority);
        message.key = key;
        message.headers = headers;
        Some(message)
    }

    /// The subject of a field, if it is one of this stream.
    fn subject(&mut self, text: &str) -> Option<Subject> {
        if self.subject.as_deref() != Some(text) {
            let subject: Subject = text.parse().ok()?;
            if subject.stream() != self.stream.name() {
                return None;
            }
            self.subject = Some(subject);
        }
        self.subject.clone()
    }
}

/// The bytes of a string answer, without a copy.
pub(crate) fn bytes(value: Value) -> Option<Bytes> {
    match value {
        Value::BulkString(bytes) => Some(bytes.into()),
        Value::SimpleString(text) => Some(text.into()),
        _ => None,
    }
}

pub(crate) fn text(value: &Value) -> Option<&str> {
    utf8(raw(value)?)
}

fn raw(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

/// A number, which scripts and old servers give as text.
pub(crate) fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        other => text(other)?.parse().ok(),
    }
}

/// The elements of an array answer.
pub(crate) fn array(value: Value) -> Vec<Value> {
    match value {
        Value::Array(all) => all,
        _ => Vec::new(),
    }
}

/// As [`array`], without taking them.
pub(crate) fn elements(value: &Value) -> &[Value] {
    match value {
        Value::Array(all) => all,
        _ => &[],
    }
}

/// The value of a name in an answer that lists names and values, as XINFO gives it.
pub(crate) fn field<'a>(values: &'a [Value], name: &str) -> Option<&'a Value> {
    values.chunks_exact(2).find_map(|pair| match pair {
        [known, value] if text(known) == Some(name) => Some(value),
        _ => None,
    })
}

fn utf8(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> StreamName {
        "tasks".parse().unwrap()
    }

    fn fields(command: &Cmd) -> Value {
        let args = command.args_iter().skip(3).map(|arg| match arg {
            redis::Arg::Simple(bytes) => Value::BulkString(bytes.to_vec()),
            _ => panic!(),
        });
        Value::Array(args.collect())
    }

    #[test]
    fn every_field_survives() {
        let mut message = Message::new(Subject::from_static("tasks.x"), vec![0, 255])
            .with_content_type(ContentType::Other("text/plain".into()))
            .with_key("k")
            .with_priority(7)
            .with_header("trace", "t")
            .unwrap();
        message.headers.stamp(ours::DEAD_LETTER_REASON, "no");
        let id = EntryId { millis: 5, number: 1 };
        let stream = stream();
        let mut reader = LaneReader::new(&stream, "P.tasks");
        let read = reader.message(id, fields(&append("P.tasks", &message))).unwrap();
        assert_eq!(read, message);
        message.subject = Subject::from_static("tasks.y");
        let read = reader.message(id, fields(&append("P.tasks", &message))).unwrap();
        assert_eq!(read.subject, message.subject);
    }

    #[test]
    fn a_foreign_entry_of_a_body_alone_is_a_message_with_a_stable_id() {
        let body = br#"{"type":"completion"}"#;
        let pair = vec![Value::BulkString(b"body".to_vec()), Value::BulkString(body.to_vec())];
        let id = EntryId { millis: 5, number: 1 };
        let stream = stream();
        let mut reader = LaneReader::new(&stream, "P.tasks");
        let message = reader.message(id, Value::Array(pair.clone())).unwrap();
        assert_eq!(&message.subject[..], "tasks.completion");
        assert_eq!(message.id.to_string(), "P.tasks@5-1");
        assert!(reader.message(id, Value::Array(pair[..1].to_vec())).is_none());
        assert!(reader.message(id, Value::Nil).is_none());
    }

    #[test]
    fn an_id_is_a_position_and_back() {
        let id: EntryId = "1700000000000-7".parse().unwrap();
        assert_eq!(EntryId::from_bits(id.to_bits()), id);
        assert_eq!(id.before().to_string(), "1700000000000-6");
        let first = EntryId { millis: 2, number: 0 };
        assert_eq!(first.before(), EntryId { millis: 1, number: u64::MAX });
        assert!("7".parse::<EntryId>().is_err());
    }
}
