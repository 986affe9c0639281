use std::time::Duration;

use crate::capability::Feature;
use crate::error::Result;
use crate::name::StreamName;
use crate::subject::Subject;

/// Where a publisher sends and what it asks of the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendSpec {
    /// The stream.
    pub stream: StreamName,
    /// The subject of every message, where the payload does not bring a type of its own.
    pub subject: Option<Subject>,
    /// How long a publish may take until its outcome is reported as not sent or unknown.
    pub timeout: Duration,
    /// How typed payloads are written.
    pub codec: Codec,
    /// Features it can do without.
    pub waived: Vec<Feature>,
}

impl SendSpec {
    /// Sends to a stream; the subject is the stream and the payload's type.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidName`](crate::ErrorKind::InvalidName) for an illegal name.
    pub fn to(stream: &str) -> Result<Self> {
        Ok(Self::new(stream.parse()?, None))
    }

    /// Sends everything to one subject, whose first word is the stream.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidName`](crate::ErrorKind::InvalidName) for an illegal stream.
    pub fn subject(subject: Subject) -> Result<Self> {
        Ok(Self::new(subject.stream().parse()?, Some(subject)))
    }

    const fn new(stream: StreamName, subject: Option<Subject>) -> Self {
        Self {
            stream,
            subject,
            timeout: Duration::from_secs(10),
            codec: Codec::Json,
            waived: Vec::new(),
        }
    }

    /// Sets how long a publish may take; 10 s unless set.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how typed payloads are written; JSON unless set.
    #[must_use]
    pub const fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Goes without a feature where the backend does not offer it.
    #[must_use]
    pub fn waive(mut self, feature: Feature) -> Self {
        self.waived.push(feature);
        self
    }
}

/// How payloads that know both are written. What arrives is read by its content type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codec {
    /// `application/json`
    #[default]
    Json,
    /// `application/x-protobuf`
    Protobuf,
}
