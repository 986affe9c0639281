//! Messages as properties, headers and a body, and back.

mod frame;
mod headers;

use amqprs::BasicProperties;
use messaging_core::{ContentType, Error, ErrorKind, Message, MessageId, Result, Subject};

pub(crate) use self::frame::{Sender, fit};
pub(crate) use self::headers::Trust;
use self::headers::{field, read, table};

/// What one publish carries. The names have been checked.
#[derive(Debug)]
pub(crate) struct Outbound {
    /// Id, content type, priority and headers; always persistent.
    pub(crate) properties: BasicProperties,
    /// The subject.
    pub(crate) routing_key: String,
    pub(crate) body: Vec<u8>,
}

/// What a delivery carries.
#[derive(Debug)]
pub(crate) struct Inbound {
    pub(crate) message: Message,
    /// What the layer itself wrote beside the message, where that is to be trusted.
    pub(crate) marks: Marks,
    /// How often the server has handed it out before, where it counts (a quorum queue).
    pub(crate) delivery_count: u64,
}

/// What the layer writes beside a copy of a message. A sender can't: marks count only where the
/// delivery came through an exchange that only the layer publishes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// Hand-overs known to have failed.
    pub(crate) attempts: u32,
    /// Whether it has been in the hands of a member that died.
    pub(crate) is_suspect: bool,
    /// Which copy it is, as copies share an id; 0 is none.
    pub(crate) copy: u64,
}

/// A message for the wire. Headers of ours that the message has, such as those of a dead letter,
/// go out as they are.
///
/// # Errors
/// [`ErrorKind::InvalidMessage`] for a content type that does not fit.
#[inline]
pub(crate) fn outgoing(message: &Message, ours: Marks) -> Result<Outbound> {
    let content_type = message.content_type.as_str();
    if content_type.len() > 255 {
        let (reason, accepted) = ("it is too long", "at most 255 bytes");
        let kind = ErrorKind::InvalidMessage;
        return Err(Error::invalid(kind, "content type", content_type, reason, accepted));
    }
    let mut properties = BasicProperties::default();
    properties
        .with_content_type(content_type)
        .with_message_id(message.id.text(&mut [0; 36]))
        .with_persistence(true);
    if message.priority > 0 {
        properties.with_priority(message.priority);
    }
    let is_plain = message.headers.is_empty() && message.key.is_none() && ours == Marks::default();
    if !is_plain {
        properties.with_headers(table(message, ours)?);
    }
    Ok(Outbound {
        properties,
        routing_key: (*message.subject).to_owned(),
        body: message.body.to_vec(),
    })
}

/// The message of a delivery, whoever sent it; the subject is its routing key.
pub(crate) fn incoming(
    subject: Subject,
    properties: &BasicProperties,
    body: Vec<u8>,
    trust: Trust,
) -> Inbound {
    // A foreign sender may leave out everything; without a position an id can only be made up.
    let id = properties.message_id().and_then(|id| id.parse().ok());
    let content_type =
        properties.content_type().map_or(ContentType::OctetStream, |text| text.as_str().into());
    let mut message = Message::identified(subject, id.unwrap_or_else(MessageId::generate), body)
        .with_content_type(content_type)
        .with_priority(properties.priority().unwrap_or_default().min(Message::MAX_PRIORITY));
    let mut marks = Marks::default();
    let mut delivery_count = 0;
    if let Some(fields) = properties.headers() {
        delivery_count = field(fields, "x-delivery-count").unwrap_or_default();
        marks = read(fields, trust, &mut message);
    }
    Inbound { message, marks, delivery_count }
}

#[cfg(test)]
mod tests {
    use amqprs::{FieldTable, FieldValue};
    use messaging_core::headers::ours;

    use super::*;

    fn message() -> Message {
        let mut message = Message::new(Subject::from_static("tasks.x"), vec![0, 255])
            .with_content_type(ContentType::Other("text/plain".into()))
            .with_key(vec![1, 200])
            .with_priority(7)
            .with_header("traceparent", "t")
            .unwrap()
            .with_header("a", vec![255])
            .unwrap();
        message.headers.stamp(ours::DEAD_LETTER_REASON, "no");
        message
    }

    /// Headers are a set on the wire: sorted by name.
    fn sorted(message: &Message) -> Vec<(String, Vec<u8>)> {
        let all = message.headers.iter().map(|(name, value)| (name.to_owned(), value.to_vec()));
        let mut all: Vec<_> = all.collect();
        all.sort();
        all
    }

    fn back(outbound: Outbound, trust: Trust) -> Inbound {
        let subject = outbound.routing_key.parse().unwrap();
        incoming(subject, &outbound.properties, outbound.body, trust)
    }

    #[test]
    fn every_field_survives_among_ourselves() {
        let sent = message();
        let ours = Marks { attempts: 3, is_suspect: true, copy: 5 };
        let read = back(outgoing(&sent, ours).unwrap(), Trust::Ours);
        assert_eq!(read.marks, ours);
        assert_eq!(sorted(&read.message), sorted(&sent));
        let mut read = read.message;
        read.headers = sent.headers.clone();
        assert_eq!(read, sent);
    }

    #[test]
    fn what_others_write_in_our_names_is_ignored() {
        let forged =
            outgoing(&message(), Marks { attempts: 3, is_suspect: true, copy: 5 }).unwrap();
        let read = back(forged, Trust::Others);
        assert_eq!(read.marks, Marks::default());
        assert_eq!(read.message.headers.get(ours::DEAD_LETTER_REASON), None);
        assert_eq!(read.message.headers.text("traceparent"), Some("t"));
        assert_eq!(read.message.key.as_deref(), Some(&[1, 200][..]));
    }

    #[test]
    fn a_plain_message_has_no_headers_and_is_persistent() {
        let plain = Message::new(Subject::from_static("tasks.x"), "{}");
        let outbound = outgoing(&plain, Marks::default()).unwrap();
        assert!(outbound.properties.headers().is_none());
        assert_eq!(outbound.properties.delivery_mode(), Some(2));
        assert_eq!(outbound.properties.message_id(), Some(&plain.id.to_string()));
    }

    #[test]
    fn values_of_foreign_headers_are_text_and_those_of_the_server_are_left_out() {
        let mut fields = FieldTable::new();
        let mut add = |name: &str, value| fields.insert(name.try_into().unwrap(), value);
        add("number", FieldValue::l(-5));
        add("truth", true.into());
        add("nothing", FieldValue::V);
        add("x-death", "forged".into());
        add("x-delivery-count", FieldValue::l(2));
        let mut properties = BasicProperties::default();
        properties.with_headers(fields).with_priority(200);
        let subject = Subject::from_static("events.y");
        let read = incoming(subject, &properties, b"{}".to_vec(), Trust::Others);
        let headers = &read.message.headers;
        assert_eq!(headers.text("number"), Some("-5"));
        assert_eq!(headers.text("truth"), Some("true"));
        assert_eq!(headers.text("nothing"), Some(""));
        assert_eq!((headers.len(), read.delivery_count, read.message.priority), (3, 2, 9));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let long = ContentType::Other("x".repeat(256).into());
        let message = Message::new(Subject::from_static("a"), "").with_content_type(long);
        let error = outgoing(&message, Marks::default()).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidMessage);
    }
}
