//! A message as it travels: its JSON alone, or everything in an envelope.

use std::borrow::Cow;
use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use messaging_core::headers::ours;
use messaging_core::{
    ContentType, Error, ErrorKind, Feature, Headers, Message, MessageId, Result, Subject,
};
use prost::Message as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer as _};

use crate::config::Format;

/// What an envelope begins with: no JSON and no UTF-8 does, and the last byte is the version.
const MAGIC: [u8; 4] = *b"\xf7HX\x01";

/// The names under which trace context travels. It is no reason for an envelope.
const TRACE: [&str; 2] = ["traceparent", "tracestate"];

/// `proto/helixagent/messaging/redis/v1/envelope.proto`
#[derive(Clone, PartialEq, prost::Message)]
struct Envelope {
    #[prost(string, tag = "1")]
    subject: String,
    #[prost(string, tag = "2")]
    id: String,
    #[prost(string, tag = "3")]
    content_type: String,
    #[prost(bytes = "bytes", optional, tag = "4")]
    key: Option<Bytes>,
    #[prost(uint32, tag = "5")]
    priority: u32,
    #[prost(message, repeated, tag = "6")]
    headers: Vec<Header>,
    #[prost(bytes = "bytes", tag = "7")]
    body: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

/// The field of [`Envelope`] that can be there many times.
const HEADERS: u64 = 6;

/// Writes a message.
///
/// # Errors
/// [`ErrorKind::Unsupported`] where the format has no place for something of it.
pub(super) fn write(message: &Message, format: Format) -> Result<Bytes> {
    match format {
        Format::Auto if is_bare(message) => Ok(message.body.clone()),
        Format::Auto | Format::Envelope => Ok(wrap(message)),
        Format::Raw if is_bare(message) => Ok(message.body.clone()),
        Format::Raw => {
            let text = format!(
                "message {} to {}: REDIS_PUBSUB_FORMAT=raw has no place for headers, keys and \
                 content types other than application/json (accepted: auto, envelope)",
                message.id, message.subject
            );
            Err(Error::new(ErrorKind::Unsupported(Feature::Headers), text))
        }
    }
}

/// Whether its body alone says everything.
fn is_bare(message: &Message) -> bool {
    message.content_type == ContentType::Json
        && message.key.is_none()
        && message.headers.iter().all(|(name, _)| TRACE.contains(&name))
        && !message.body.starts_with(&MAGIC)
}

fn wrap(message: &Message) -> Bytes {
    let header =
        |(name, value): (&str, &Bytes)| Header { name: name.to_owned(), value: value.clone() };
    let envelope = Envelope {
        subject: message.subject.to_string(),
        id: message.id.to_string(),
        content_type: message.content_type.as_str().to_owned(),
        key: message.key.clone(),
        priority: u32::from(message.priority),
        headers: message.headers.iter().map(header).collect(),
        body: message.body.clone(),
    };
    let mut bytes = BytesMut::with_capacity(MAGIC.len() + envelope.encoded_len());
    bytes.put_slice(&MAGIC);
    envelope.encode_raw(&mut bytes);
    bytes.freeze()
}

/// Reads what arrived on the channel of a subject; the text says why it can't be read.
pub(super) fn read(subject: Subject, payload: Bytes) -> Result<Message, String> {
    if payload.starts_with(&MAGIC) {
        let unreadable = |why| format!("an envelope to {subject} can't be read: {why}");
        unwrap(subject.clone(), payload.slice(MAGIC.len()..)).map_err(unreadable)
    } else {
        Ok(bare(subject, payload))
    }
}

/// A body alone: JSON where it is JSON, with the id that it brings.
fn bare(subject: Subject, payload: Bytes) -> Message {
    let id = id_of_object(&payload);
    let is_json = || {
        let text = std::str::from_utf8(&payload).ok();
        text.is_some_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
    };
    let content_type =
        if id.is_some() || is_json() { ContentType::Json } else { ContentType::OctetStream };
    // An empty one is illegal, as one that is not there.
    let id = id.and_then(|id| id.0.parse().ok()).unwrap_or_else(MessageId::generate);
    Message::identified(subject, id, payload).with_content_type(content_type)
}

/// A text of JSON, in place where nothing in it is escaped.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The text of an object's `id`, where it has one. Nothing behind it is read: whoever decodes the
/// body sees what is wrong there, and reading all of it twice is most of what a message costs here.
fn id_of_object(payload: &[u8]) -> Option<Text<'_>> {
    let mut found = None;
    let mut object = serde_json::Deserializer::from_slice(payload);
    // It fails as soon as the id is found, as the object does not end there.
    object.deserialize_map(UntilId(&mut found)).ok();
    found
}

struct UntilId<'f, 'de>(&'f mut Option<Text<'de>>);

impl<'de> Visitor<'de> for UntilId<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        while let Some(Text(name)) = object.next_key()? {
            if name == "id" {
                *self.0 = Some(object.next_value()?);
                break;
            }
            object.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

fn unwrap(subject: Subject, bytes: Bytes) -> Result<Message, &'static str> {
    // An empty header takes two bytes there and many times as much here, so they are counted
    // before anything is allocated for them.
    match count_headers(&bytes) {
        None => return Err("it is no protobuf"),
        Some(count) if count > Headers::MAX_ENTRIES => return Err("it has too many headers"),
        Some(_) => {}
    }
    let envelope = Envelope::decode(bytes).map_err(|_| "it is of another form")?;
    let key_is_legal = |key: &Bytes| key.len() <= Message::MAX_KEY_BYTES;
    if !envelope.key.as_ref().is_none_or(key_is_legal) {
        return Err("its key is too long");
    }
    let id = match &*envelope.id {
        "" => MessageId::generate(),
        id => id.parse().map_err(|_| "its id is illegal")?,
    };
    let content_type = match &*envelope.content_type {
        "" => ContentType::OctetStream,
        text if text.len() > Headers::MAX_NAME_BYTES => return Err("its content type is too long"),
        text => text.into(),
    };
    let mut message = Message::identified(subject, id, envelope.body)
        .with_content_type(content_type)
        .with_priority(envelope.priority.min(u32::from(Message::MAX_PRIORITY)) as u8);
    message.key = envelope.key;
    message.headers = headers(envelope.headers)?;
    Ok(message)
}

/// What the sender wrote, apart from what only the layer may write.
fn headers(all: Vec<Header>) -> Result<Headers, &'static str> {
    let size = |header: &Header| header.name.len() + header.value.len();
    if all.iter().map(size).sum::<usize>() > Headers::MAX_TOTAL_BYTES {
        return Err("its headers are too large");
    }
    let mut headers = Headers::default();
    for Header { name, value } in all {
        if !name.starts_with(ours::PREFIX) {
            headers.stamp(&name, value);
        }
    }
    Ok(headers)
}

/// Walks over the top level of an envelope; `None` for what is no protobuf.
fn count_headers(mut bytes: &[u8]) -> Option<usize> {
    let mut count = 0;
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let length = match key & 7 {
            0 => varint(&mut bytes).map(|_| 0)?,
            1 => 8,
            2 => usize::try_from(varint(&mut bytes)?).ok()?,
            5 => 4,
            _ => return None,
        };
        count += usize::from(key >> 3 == HEADERS);
        bytes = bytes.get(length..)?;
    }
    Some(count)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: Subject = Subject::from_static("events.note");

    fn full() -> Message {
        Message::new(SUBJECT, "Grüße")
            .with_id("note-1".parse().unwrap())
            .with_content_type(ContentType::from("text/plain"))
            .with_key(&b"user\x00\xff"[..])
            .with_priority(7)
            .with_header("tenant", "acme")
            .unwrap()
            .with_header("empty", "")
            .unwrap()
    }

    fn json(text: &'static str) -> Message {
        Message::new(SUBJECT, text).with_content_type(ContentType::Json)
    }

    fn envelope_of(fields: &[u8]) -> Bytes {
        [&MAGIC, fields].concat().into()
    }

    #[test]
    fn everything_travels_in_an_envelope() {
        for message in [full(), Message::new(SUBJECT, Bytes::new())] {
            let wire = write(&message, Format::Auto).unwrap();
            assert!(wire.starts_with(&MAGIC));
            assert_eq!(read(SUBJECT, wire).unwrap(), message);
        }
    }

    #[test]
    fn json_without_headers_and_key_is_exactly_its_json() {
        let mut message = json(r#"{"id": "task-1", "n": 1}"#);
        message.headers.stamp("traceparent", "00-…");
        let wire = write(&message, Format::Auto).unwrap();
        assert_eq!(wire, message.body);
        let read = read(SUBJECT, wire).unwrap();
        assert_eq!((read.content_type, &*read.id.to_string()), (ContentType::Json, "task-1"));
        assert!(write(&message, Format::Envelope).unwrap().starts_with(&MAGIC));
    }

    #[test]
    fn the_id_of_an_object_is_found_wherever_it_is() {
        for (body, id) in [
            (r#"{"n": {"id": "inner"}, "id": "outer"}"#, "outer"),
            (r#" {"a": [1, "}"], "\u0069d": "t\u0061sk"}"#, "task"),
        ] {
            assert_eq!(&*read(SUBJECT, body.into()).unwrap().id.to_string(), id);
        }
    }

    #[test]
    fn raw_refuses_what_it_has_no_place_for() {
        assert_eq!(write(&json("[1]"), Format::Raw).unwrap(), "[1]");
        for message in [full(), json("1").with_key("k"), Message::new(SUBJECT, "text")] {
            let error = write(&message, Format::Raw).unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::Unsupported(Feature::Headers));
        }
    }

    #[test]
    fn a_body_that_looks_like_an_envelope_travels_in_one() {
        let message = Message::new(SUBJECT, &MAGIC[..]).with_content_type(ContentType::Json);
        let wire = write(&message, Format::Auto).unwrap();
        assert_eq!(read(SUBJECT, wire).unwrap().body, message.body);
        assert!(write(&message, Format::Raw).is_err());
    }

    #[test]
    fn what_is_no_envelope_is_a_body_alone() {
        for (body, content_type) in [
            ("", ContentType::OctetStream),
            ("hello", ContentType::OctetStream),
            ("{\"id\": ", ContentType::OctetStream),
            (r#"{"no-id": 1, "#, ContentType::OctetStream),
            ("\u{fffd}", ContentType::OctetStream),
            (" [1, 2] ", ContentType::Json),
            (r#"["no-id"]"#, ContentType::Json),
            (r#"{"id": 1}"#, ContentType::Json),
            (r#"{"id": "a", "id": "b"}"#, ContentType::Json),
        ] {
            let message = read(SUBJECT, body.into()).unwrap();
            assert_eq!((message.content_type, &*message.body), (content_type, body.as_bytes()));
            assert_ne!(message.id.to_string(), "no-id");
        }
    }

    #[test]
    fn the_fields_have_the_numbers_of_the_schema() {
        let fields = b"\x0a\x0bevents.note\x12\x06note-1\x1a\x0atext/plain\x22\x06user\x00\xff\
            \x28\x07\x32\x0e\x0a\x06tenant\x12\x04acme\x32\x07\x0a\x05empty\x3a\x07Gr\xc3\xbc\xc3\x9fe";
        assert_eq!(write(&full(), Format::Auto).unwrap(), envelope_of(fields));
    }

    #[test]
    fn fields_of_a_later_version_are_skipped() {
        let fields = b"\x3a\x01x\xf8\x06\x01\xfd\x06abcd\xf9\x06abcdefgh\xfa\x06\x02ab";
        assert_eq!(read(SUBJECT, envelope_of(fields)).unwrap().body, "x");
    }

    #[test]
    fn what_only_the_layer_may_write_is_left_out() {
        let header = b"\x32\x15\x0a\x10helixagent-grade\x12\x013\x32\x06\x0a\x01a\x12\x01b";
        let message = read(SUBJECT, envelope_of(header)).unwrap();
        assert_eq!(message.headers.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn an_illegal_envelope_is_refused_before_it_takes_memory() {
        let long = |tag: u8, length: usize| {
            let mut fields = vec![tag];
            prost::encode_length_delimiter(length, &mut fields).unwrap();
            fields.resize(fields.len() + length, b'x');
            fields
        };
        for fields in [
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01".to_vec(),
            b"\x0a\x05abc".to_vec(),
            b"\x0b".to_vec(),
            b"\x0a\x02\xff\xff".to_vec(),
            b"\x32\x00".repeat(Headers::MAX_ENTRIES + 1),
            [&b"\x32\x85\x80\x10"[..], &long(0x12, Headers::MAX_TOTAL_BYTES + 1)].concat(),
            long(0x12, 129),
            long(0x22, Message::MAX_KEY_BYTES + 1),
            long(0x1a, 129),
        ] {
            let start = &fields[..fields.len().min(12)];
            assert!(read(SUBJECT, envelope_of(&fields)).is_err(), "{start:?}");
        }
    }
}
