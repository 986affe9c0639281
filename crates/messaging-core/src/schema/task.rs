use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use super::document::{self, Object, field};
use super::json::{self, Strict, StrictObject};
use super::{Timestamp, protobuf};
use crate::error::{Error, ErrorKind, Result};
use crate::id::MessageId;
use crate::message::Message;

/// Work to be done by somebody.
///
/// `payload` is a JSON object, `priority` is 0 to 9 with higher more urgent; a document without
/// priority has 0. A document may lack `created_at`; what it names besides is kept in `extra`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Task {
    /// Who it is: 1 to 128 bytes. It becomes the id of the message.
    pub id: String,
    /// What is to be done: the words that follow `tasks.` in the subject (`type` in JSON).
    pub kind: String,
    /// 0 to 9, higher is more urgent.
    pub priority: u8,
    /// What it is to be done with; an object.
    pub payload: Value,
    /// When it was created, where the sender said so.
    pub created_at: Option<Timestamp>,
    /// The fields that this schema does not name.
    pub extra: Object,
}

impl Task {
    /// Makes a task of priority 0, created now, with a fresh id.
    #[must_use]
    pub fn new(kind: impl Into<String>, payload: Value) -> Self {
        Self {
            id: MessageId::generate().to_string(),
            kind: kind.into(),
            priority: 0,
            payload,
            created_at: Some(Timestamp::now()),
            extra: Object::new(),
        }
    }

    /// Sets the id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// Sets the priority.
    #[must_use]
    pub const fn with_priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// Writes it as JSON.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`] where the payload is no object or the priority too high,
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
        let task: Self = document::read_json("a task", bytes)?;
        document::received(task.check())?;
        Ok(task)
    }

    /// Writes it as protobuf.
    ///
    /// # Errors
    /// As [`Task::to_json`].
    pub fn to_protobuf(&self) -> Result<Vec<u8>> {
        let payload = self.check()?;
        let message = protobuf::Task {
            id: self.id.clone(),
            r#type: self.kind.clone(),
            priority: self.priority.into(),
            payload_json: document::object_text(payload)?,
            created_at: self.created_at.as_ref().map(ToString::to_string).unwrap_or_default(),
            extra_json: document::object_text(&self.extra)?,
        };
        Ok(prost::Message::encode_to_vec(&message))
    }

    /// Reads it from protobuf.
    ///
    /// # Errors
    /// [`ErrorKind::Undecodable`].
    pub fn from_protobuf(bytes: &[u8]) -> Result<Self> {
        let message: protobuf::Task = document::read_protobuf("a task", bytes)?;
        let time = Some(message.created_at).filter(|text| !text.is_empty());
        let task = Self {
            id: message.id,
            kind: message.r#type,
            priority: u8::try_from(message.priority).unwrap_or(u8::MAX),
            payload: Value::Object(document::object_from_text(
                "payload_json",
                &message.payload_json,
            )?),
            created_at: document::received(time.map(|text| text.parse()).transpose())?,
            extra: document::object_from_text("extra_json", &message.extra_json)?,
        };
        document::received(task.check())?;
        Ok(task)
    }

    fn check(&self) -> Result<&Object> {
        document::check_id(&self.id)?;
        let refuse = |field, value: &str, reason, accepted| {
            Err(Error::invalid(ErrorKind::InvalidMessage, field, value, reason, accepted))
        };
        if self.kind.is_empty() {
            return refuse("task type", "", "it is empty", "words, e.g. completion");
        }
        if self.priority > Message::MAX_PRIORITY {
            return refuse("task priority", &self.priority.to_string(), "it is too high", "0 to 9");
        }
        match &self.payload {
            Value::Object(payload) => Ok(payload),
            other => refuse("task payload", &other.to_string(), "it is no object", "{…}"),
        }
    }
}

impl Serialize for Task {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("type", &self.kind)?;
        map.serialize_entry("priority", &self.priority)?;
        map.serialize_entry("payload", &self.payload)?;
        if let Some(time) = &self.created_at {
            map.serialize_entry("created_at", time.as_str())?;
        }
        for (name, value) in &self.extra {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Task {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(TaskVisitor)
    }
}

struct TaskVisitor;

impl<'de> Visitor<'de> for TaskVisitor {
    type Value = Task;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a task: {\"id\", \"type\", \"priority\", \"payload\", \"created_at\"}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Task, A::Error> {
        let (mut id, mut kind, mut priority, mut payload, mut time) =
            (None, None, None, None, None);
        let mut extra = Object::new();
        while let Some(key) = entries.next_key::<String>()? {
            let first = match key.as_str() {
                "id" => id.replace(field::<String, _>(&key, &mut entries)?).is_none(),
                "type" => kind.replace(field::<String, _>(&key, &mut entries)?).is_none(),
                "priority" => priority.replace(field::<u8, _>(&key, &mut entries)?).is_none(),
                "payload" => {
                    payload.replace(field::<StrictObject, _>(&key, &mut entries)?).is_none()
                }
                "created_at" => time.replace(field::<String, _>(&key, &mut entries)?).is_none(),
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
        Ok(Task {
            id: id.ok_or_else(|| missing("id"))?,
            kind: kind.ok_or_else(|| missing("type"))?,
            priority: priority.unwrap_or_default(),
            payload: Value::Object(payload.ok_or_else(|| missing("payload"))?.0),
            created_at: time.map(|text| text.parse()).transpose().map_err(A::Error::custom)?,
            extra,
        })
    }
}
