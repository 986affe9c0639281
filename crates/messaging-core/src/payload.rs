//! What can be published and received: raw bytes, JSON, protobuf, and the schemas.

use std::borrow::Cow;
use std::ops::{Deref, DerefMut};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};
use crate::id::MessageId;
use crate::message::{ContentType, Message};
use crate::schema::{Event, Task};
use crate::spec::Codec;

/// A type that travels as a message.
pub trait Payload: Sized + Send + 'static {
    /// The stream it goes to unless its publisher says otherwise.
    const STREAM: Option<&'static str>;

    /// Writes it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`] for a value that has no legal written form.
    fn encode(&self, codec: Codec) -> Result<Encoded<'_>>;

    /// Reads it from a message, by its content type where the type knows several.
    ///
    /// # Errors
    /// [`ErrorKind::Undecodable`]; the message is then dead-lettered.
    fn decode(message: &Message) -> Result<Self>;
}

/// A written payload, and what of it concerns the message around it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Encoded<'a> {
    /// The body.
    pub body: Bytes,
    /// What the body is.
    pub content_type: ContentType,
    /// The payload's type, which follows the stream in the subject.
    pub kind: Option<Cow<'a, str>>,
    /// The payload's own id.
    pub id: Option<MessageId>,
    /// The payload's priority.
    pub priority: u8,
}

impl<'a> Encoded<'a> {
    /// A body without type, id and priority.
    #[must_use]
    pub const fn new(body: Bytes, content_type: ContentType) -> Self {
        Self { body, content_type, kind: None, id: None, priority: 0 }
    }

    /// Sets the type.
    #[must_use]
    pub fn with_kind(mut self, kind: impl Into<Cow<'a, str>>) -> Self {
        self.kind = Some(kind.into());
        self
    }

    /// Sets the id.
    #[must_use]
    pub fn with_id(mut self, id: MessageId) -> Self {
        self.id = Some(id);
        self
    }

    /// Sets the priority.
    #[must_use]
    pub const fn with_priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }
}

impl Payload for Bytes {
    const STREAM: Option<&'static str> = None;

    fn encode(&self, _: Codec) -> Result<Encoded<'_>> {
        Ok(Encoded::new(self.clone(), ContentType::OctetStream))
    }

    fn decode(message: &Message) -> Result<Self> {
        Ok(message.body.clone())
    }
}

/// Any serde type, as JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: Serialize + DeserializeOwned + Send + 'static> Payload for Json<T> {
    const STREAM: Option<&'static str> = None;

    fn encode(&self, _: Codec) -> Result<Encoded<'_>> {
        let body = serde_json::to_vec(&self.0).map_err(|error| {
            Error::new(ErrorKind::InvalidMessage, "the value has no JSON form").with_source(error)
        })?;
        Ok(Encoded::new(body.into(), ContentType::Json))
    }

    fn decode(message: &Message) -> Result<Self> {
        serde_json::from_slice(&message.body)
            .map(Self)
            .map_err(|error| undecodable(message, "JSON of the expected shape").with_source(error))
    }
}

/// Any prost message, as protobuf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proto<M>(pub M);

impl<M: prost::Message + Default + 'static> Payload for Proto<M> {
    const STREAM: Option<&'static str> = None;

    fn encode(&self, _: Codec) -> Result<Encoded<'_>> {
        Ok(Encoded::new(self.0.encode_to_vec().into(), ContentType::Protobuf))
    }

    fn decode(message: &Message) -> Result<Self> {
        M::decode(&*message.body)
            .map(Self)
            .map_err(|error| undecodable(message, "a protobuf message").with_source(error))
    }
}

impl Payload for Task {
    const STREAM: Option<&'static str> = Some("tasks");

    fn encode(&self, codec: Codec) -> Result<Encoded<'_>> {
        let (body, content_type) = match codec {
            Codec::Json => (self.to_json()?, ContentType::Json),
            Codec::Protobuf => (self.to_protobuf()?, ContentType::Protobuf),
        };
        Ok(Encoded::new(body.into(), content_type)
            .with_kind(&*self.kind)
            .with_id(self.id.parse()?)
            .with_priority(self.priority))
    }

    fn decode(message: &Message) -> Result<Self> {
        match message.content_type {
            ContentType::Protobuf => Self::from_protobuf(&message.body),
            ContentType::Json | ContentType::OctetStream | ContentType::Other(_) => {
                Self::from_json(&message.body)
            }
        }
    }
}

impl Payload for Event {
    const STREAM: Option<&'static str> = Some("events");

    fn encode(&self, codec: Codec) -> Result<Encoded<'_>> {
        let (body, content_type) = match codec {
            Codec::Json => (self.to_json()?, ContentType::Json),
            Codec::Protobuf => (self.to_protobuf()?, ContentType::Protobuf),
        };
        Ok(Encoded::new(body.into(), content_type).with_kind(&*self.kind).with_id(self.id.parse()?))
    }

    fn decode(message: &Message) -> Result<Self> {
        match message.content_type {
            ContentType::Protobuf => Self::from_protobuf(&message.body),
            ContentType::Json | ContentType::OctetStream | ContentType::Other(_) => {
                Self::from_json(&message.body)
            }
        }
    }
}

impl<T> Deref for Json<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Json<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

fn undecodable(message: &Message, accepted: &str) -> Error {
    Error::new(
        ErrorKind::Undecodable,
        format!("body of message {} to {} is not {accepted}", message.id, message.subject),
    )
}
