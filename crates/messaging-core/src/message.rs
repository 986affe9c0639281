//! A message as it is published and delivered, whatever its payload type.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::headers::Headers;
use crate::id::MessageId;
use crate::subject::Subject;

/// A message: where it goes, what it carries, who it is.
///
/// Cloning is cheap: the body and every text are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// Where it goes; its first word is the stream.
    pub subject: Subject,
    /// Who it is, through every retry and copy.
    pub id: MessageId,
    /// What the body is.
    pub content_type: ContentType,
    /// Messages with the same key share a lane, and an ordered group keeps their order.
    pub key: Option<Bytes>,
    /// 0 to 9, higher is more urgent; it orders only groups that ask for it.
    pub priority: u8,
    /// Everything else that travels beside the body.
    pub headers: Headers,
    /// The body, byte for byte.
    pub body: Bytes,
}

impl Message {
    /// The highest priority.
    pub const MAX_PRIORITY: u8 = 9;
    /// The longest key, in bytes.
    pub const MAX_KEY_BYTES: usize = 1024;

    /// Makes a message with a fresh id, no key, no headers and priority 0.
    #[must_use]
    pub fn new(subject: Subject, body: impl Into<Bytes>) -> Self {
        Self::identified(subject, MessageId::generate(), body)
    }

    /// As [`Message::new`], with an id that is known: drivers make them of what arrives.
    #[must_use]
    pub fn identified(subject: Subject, id: MessageId, body: impl Into<Bytes>) -> Self {
        Self {
            subject,
            id,
            content_type: ContentType::OctetStream,
            key: None,
            priority: 0,
            headers: Headers::default(),
            body: body.into(),
        }
    }

    /// Sets the id.
    #[must_use]
    pub fn with_id(mut self, id: MessageId) -> Self {
        self.id = id;
        self
    }

    /// Sets the content type.
    #[must_use]
    pub fn with_content_type(mut self, content_type: ContentType) -> Self {
        self.content_type = content_type;
        self
    }

    /// Sets the key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the priority, 0 to 9.
    #[must_use]
    pub fn with_priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// Adds an application header.
    ///
    /// # Errors
    /// As [`Headers::insert`].
    pub fn with_header(mut self, name: &str, value: impl Into<Bytes>) -> Result<Self> {
        self.headers.insert(name, value)?;
        Ok(self)
    }

    /// The bytes that count against windows and limits: body, key and headers.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.body.len() + self.key.as_ref().map_or(0, Bytes::len) + self.headers.bytes()
    }

    /// Checks what the fields' own types do not.
    pub(crate) fn check(&self, max_body: usize) -> Result<()> {
        let too_large = |what, size, limit| {
            let text = format!("{what} of {}: {size} bytes, the limit is {limit}", self.subject);
            Err(Error::new(ErrorKind::TooLarge { size, limit }, text))
        };
        if self.body.len() > max_body {
            return too_large("body", self.body.len(), max_body);
        }
        if let Some(key) = &self.key
            && key.len() > Self::MAX_KEY_BYTES
        {
            return too_large("key", key.len(), Self::MAX_KEY_BYTES);
        }
        if self.priority > Self::MAX_PRIORITY {
            let value = self.priority.to_string();
            let reason = "it is too high";
            return Err(Error::invalid(
                ErrorKind::InvalidMessage,
                "priority",
                &value,
                reason,
                "0 to 9",
            ));
        }
        Ok(())
    }
}

/// What a body is, as a media type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ContentType {
    /// `application/json`
    Json,
    /// `application/x-protobuf`
    Protobuf,
    /// `application/octet-stream`
    OctetStream,
    /// Any other.
    Other(Arc<str>),
}

impl ContentType {
    /// The media type.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/x-protobuf",
            Self::OctetStream => "application/octet-stream",
            Self::Other(text) => text,
        }
    }
}

impl From<&str> for ContentType {
    /// Reads a media type; parameters such as `charset` do not change which of ours it is.
    fn from(text: &str) -> Self {
        // What we write ourselves needs no look at its parts.
        match text {
            "application/json" => return Self::Json,
            "application/octet-stream" => return Self::OctetStream,
            _ => {}
        }
        let essence = text.split(';').next().unwrap_or_default().trim();
        let is = |known: &str| essence.eq_ignore_ascii_case(known);
        if is("application/json") {
            Self::Json
        } else if is("application/octet-stream") {
            Self::OctetStream
        } else if is("application/x-protobuf") || is("application/protobuf") {
            Self::Protobuf
        } else {
            Self::Other(text.into())
        }
    }
}

impl fmt::Display for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
