//! The one error type of the layer.

use std::error::Error as StdError;
use std::fmt;

use crate::capability::Feature;

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, where, and on which backend.
///
/// The text is one line: backend, operation, what it was about. Values that came from outside are
/// shortened and escaped, and secrets never appear. Match on [`Error::kind`], not on the text.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    backend: Option<&'static str>,
    operation: Option<&'static str>,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The kinds of [`Error`] an application can tell apart.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The backend does not offer what was asked for; nothing was sent or created.
    Unsupported(Feature),
    /// A subject is not dot-separated words.
    InvalidSubject,
    /// A pattern is not dot-separated words, `*` and `#`.
    InvalidPattern,
    /// A name of a stream or group, a message id or a key has an illegal form.
    InvalidName,
    /// A header's name or value has an illegal form.
    InvalidHeader,
    /// A delay is longer than the longest retry tier.
    InvalidDelay,
    /// A message body or document can't be encoded or has an illegal form.
    InvalidMessage,
    /// An option, variable or file of the configuration has an illegal value.
    InvalidConfig,
    /// No backend of this name is compiled in.
    UnknownBackend,
    /// The topology has no such stream.
    UnknownStream,
    /// The group exists with other patterns or another shape.
    GroupConflict {
        /// The group's name.
        group: String,
        /// What the group has, where it is known.
        theirs: Option<String>,
        /// What was asked for.
        ours: String,
    },
    /// A body or header is larger than allowed; nothing was sent.
    TooLarge {
        /// The size found, in bytes.
        size: usize,
        /// The largest size allowed, in bytes.
        limit: usize,
    },
    /// Nobody receives the subject, on a stream where that is a failure.
    Unroutable,
    /// A received message is not what its type says.
    Undecodable,
    /// The deadline passed before the message was on the wire; it was not and will not be sent.
    NotSent,
    /// Whether the broker has the message is not known; repeating it may duplicate it.
    OutcomeUnknown,
    /// The settlement came after its delivery had been taken back.
    Stale,
    /// The broker refuses these credentials or this permission.
    Denied,
    /// The broker can't be reached, or can't serve this now.
    Unavailable,
    /// What was named does not exist.
    NotFound,
    /// The call did not end by its deadline.
    Timeout,
    /// The broker, publisher or subscription is closed.
    Closed,
    /// A failure of none of the other kinds.
    Other,
}

impl ErrorKind {
    /// A stable name in kebab case, for logs and labels.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Unsupported(_) => "unsupported",
            Self::InvalidSubject => "invalid-subject",
            Self::InvalidPattern => "invalid-pattern",
            Self::InvalidName => "invalid-name",
            Self::InvalidHeader => "invalid-header",
            Self::InvalidDelay => "invalid-delay",
            Self::InvalidMessage => "invalid-message",
            Self::InvalidConfig => "invalid-config",
            Self::UnknownBackend => "unknown-backend",
            Self::UnknownStream => "unknown-stream",
            Self::GroupConflict { .. } => "group-conflict",
            Self::TooLarge { .. } => "too-large",
            Self::Unroutable => "unroutable",
            Self::Undecodable => "undecodable",
            Self::NotSent => "not-sent",
            Self::OutcomeUnknown => "outcome-unknown",
            Self::Stale => "stale",
            Self::Denied => "denied",
            Self::Unavailable => "unavailable",
            Self::NotFound => "not-found",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Other => "other",
        }
    }
}

impl Error {
    /// Makes an error of `kind` with a lower-case message that names the thing it is about.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            backend: None,
            operation: None,
            message: message.into(),
            source: None,
        }))
    }

    /// Makes an error about a value that is not of the accepted form.
    ///
    /// The value is shortened and escaped: `subject "a b": a word has … (accepted: …)`.
    #[must_use]
    pub fn invalid(kind: ErrorKind, what: &str, value: &str, reason: &str, accepted: &str) -> Self {
        Self::new(kind, format!("{what} {}: {reason} (accepted: {accepted})", excerpt(value)))
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Adds the backend and the operation, unless they are known already.
    #[must_use]
    pub fn at(mut self, backend: &'static str, operation: &'static str) -> Self {
        self.0.backend.get_or_insert(backend);
        self.0.operation.get_or_insert(operation);
        self
    }

    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The backend it happened on, where one was involved.
    #[must_use]
    pub fn backend(&self) -> Option<&'static str> {
        self.0.backend
    }

    /// The operation that failed, where it is known.
    #[must_use]
    pub fn operation(&self) -> Option<&'static str> {
        self.0.operation
    }

    /// Whether the same call may succeed later without being changed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.0.kind,
            ErrorKind::NotSent
                | ErrorKind::OutcomeUnknown
                | ErrorKind::Timeout
                | ErrorKind::Unavailable
        )
    }

    /// Whether the broker may have done what was asked although this is an error.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self.0.kind, ErrorKind::OutcomeUnknown)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(backend) = self.0.backend {
            write!(f, "{backend}: ")?;
        }
        if let Some(operation) = self.0.operation {
            write!(f, "{operation}: ")?;
        }
        f.write_str(&self.0.message)?;
        match &self.0.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {self}", self.0.kind.name())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        // The text of the source is part of ours, so a report that prints the whole chain must
        // continue below it.
        self.0.source.as_ref().and_then(|source| source.source())
    }
}

/// A value from outside as it may appear in a message: quoted, escaped, at most 80 characters.
#[must_use]
pub fn excerpt(value: &str) -> String {
    const SHOWN: usize = 80;
    let mut shown: String = value.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if value.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    format!("\"{shown}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_stays_one_word() {
        assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
    }

    #[test]
    fn the_text_names_backend_operation_and_thing() {
        let error = Error::invalid(
            ErrorKind::InvalidSubject,
            "subject",
            "a\nb",
            "a word has an illegal character",
            "dot-separated words of [A-Za-z0-9_-]",
        )
        .at("memory", "publish");
        assert_eq!(
            error.to_string(),
            "memory: publish: subject \"a\\nb\": a word has an illegal character \
             (accepted: dot-separated words of [A-Za-z0-9_-])"
        );
    }

    #[test]
    fn long_values_are_shortened() {
        assert_eq!(excerpt(&"x".repeat(500)).chars().count(), 83);
    }
}
