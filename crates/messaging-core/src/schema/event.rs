use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use super::document::{self, Object, field};
use super::json::{self, Strict, StrictObject};
use super::{Timestamp, protobuf};
use crate::error::{Error, ErrorKind, Result};
use crate::id::MessageId;

/// Something that happened.
///
/// `data` is a JSON object; a document without source has an empty one. A document may lack
/// `timestamp`; what it names besides is kept in `extra`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// Who it is: 1 to 128 bytes. It becomes the id of the message.
    pub id: String,
    /// What happened: the words that follow `events.` in the subject (`type` in JSON).
    pub kind: String,
    /// Where it happened.
    pub source: String,
    /// What is known about it; an object.
    pub data: Value,
    /// When it happened, where the sender said so.
    pub timestamp: Option<Timestamp>,
    /// The fields that this schema does not name.
    pub extra: Object,
}

impl Event {
    /// Makes an event that happens now, with a fresh id.
    #[must_use]
    pub fn new(kind: impl Into<String>, source: impl Into<String>, data: Value) -> Self {
        Self {
            id: MessageId::generate().to_string(),
            kind: kind.into(),
            source: source.into(),
            data,
            timestamp: Some(Timestamp::now()),
            extra: Object::new(),
        }
    }

    /// Sets the id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// Writes it as JSON.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`] where the data is no object,
    /// [`ErrorKind::InvalidName`] for an illegal id.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        self.check()?;
        document::write_json(self)
    }

    /// Reads it from JSON.
    ///
    /// # Errors
    /// [`ErrorKind::Undecodable`].
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let event: Self = document::read_json("an event", bytes)?;
        document::received(event.check())?;
        Ok(event)
    }

    /// Writes it as protobuf.
    ///
    /// # Errors
    /// As [`Event::to_json`].
    pub fn to_protobuf(&self) -> Result<Vec<u8>> {
        let data = self.check()?;
        let message = protobuf::Event {
            id: self.id.clone(),
            r#type: self.kind.clone(),
            source: self.source.clone(),
            data_json: document::object_text(data)?,
            timestamp: self.timestamp.as_ref().map(ToString::to_string).unwrap_or_default(),
            extra_json: document::object_text(&self.extra)?,
        };
        Ok(prost::Message::encode_to_vec(&message))
    }

    /// Reads it from protobuf.
    ///
    /// # Errors
    /// [`ErrorKind::Undecodable`].
    pub fn from_protobuf(bytes: &[u8]) -> Result<Self> {
        let message: protobuf::Event = document::read_protobuf("an event", bytes)?;
        let time = Some(message.timestamp).filter(|text| !text.is_empty());
        let event = Self {
            id: message.id,
            kind: message.r#type,
            source: message.source,
            data: Value::Object(document::object_from_text("data_json", &message.data_json)?),
            timestamp: document::received(time.map(|text| text.parse()).transpose())?,
            extra: document::object_from_text("extra_json", &message.extra_json)?,
        };
        document::received(event.check())?;
        Ok(event)
    }

    fn check(&self) -> Result<&Object> {
        document::check_id(&self.id)?;
        let refuse = |field, value: &str, reason, accepted| {
            Err(Error::invalid(ErrorKind::InvalidMessage, field, value, reason, accepted))
        };
        if self.kind.is_empty() {
            return refuse("event type", "", "it is empty", "words, e.g. debate.round.completed");
        }
        match &self.data {
            Value::Object(data) => Ok(data),
            other => refuse("event data", &other.to_string(), "it is no object", "{…}"),
        }
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("type", &self.kind)?;
        map.serialize_entry("source", &self.source)?;
        map.serialize_entry("data", &self.data)?;
        if let Some(time) = &self.timestamp {
            map.serialize_entry("timestamp", time.as_str())?;
        }
        for (name, value) in &self.extra {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(EventVisitor)
    }
}

struct EventVisitor;

impl<'de> Visitor<'de> for EventVisitor {
    type Value = Event;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event: {\"id\", \"type\", \"source\", \"data\", \"timestamp\"}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Event, A::Error> {
        let (mut id, mut kind, mut source, mut data, mut time) = (None, None, None, None, None);
        let mut extra = Object::new();
        while let Some(key) = entries.next_key::<String>()? {
            let first = match key.as_str() {
                "id" => id.replace(field::<String, _>(&key, &mut entries)?).is_none(),
                "type" => kind.replace(field::<String, _>(&key, &mut entries)?).is_none(),
                "source" => source.replace(field::<String, _>(&key, &mut entries)?).is_none(),
                "data" => data.replace(field::<StrictObject, _>(&key, &mut entries)?).is_none(),
                "timestamp" => time.replace(field::<String, _>(&key, &mut entries)?).is_none(),
                _ => {
                    let Strict(value) = entries.next_value()?;
                    json::insert(&mut extra, key, value)?;
                    continue;
                }
            };
            if !first {
                return Err(A::Error::custom(format_args!("duplicate key {key:?}")));
            }
        }
        let missing = A::Error::missing_field;
        Ok(Event {
            id: id.ok_or_else(|| missing("id"))?,
            kind: kind.ok_or_else(|| missing("type"))?,
            source: source.unwrap_or_default(),
            data: Value::Object(data.ok_or_else(|| missing("data"))?.0),
            timestamp: time.map(|text| text.parse()).transpose().map_err(A::Error::custom)?,
            extra,
        })
    }
}
