//! Names of streams and groups.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::subject;

/// The name of a stream, or of the stream of its dead letters.
///
/// A stream's name is the first word of its subjects. Dead letters live outside the subject space:
/// no subject and no pattern leads there. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamName {
    name: Arc<str>,
    dead_letters: bool,
}

impl StreamName {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 100;

    /// The stream that keeps the dead letters of `stream`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidName`].
    pub fn dead_letters(stream: &str) -> Result<Self> {
        Ok(Self { dead_letters: true, ..stream.parse()? })
    }

    /// The stream that keeps the dead letters of this one.
    #[must_use]
    pub fn to_dead_letters(&self) -> Self {
        Self { dead_letters: true, ..self.clone() }
    }

    /// The name without saying whether it is of dead letters: the first word of the subjects.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it keeps dead letters.
    #[must_use]
    pub const fn is_dead_letters(&self) -> bool {
        self.dead_letters
    }
}

impl FromStr for StreamName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let reason = if name.len() > Self::MAX_BYTES {
            Some("it is too long")
        } else if name.contains('.') {
            Some("it is more than one word")
        } else {
            subject::fault(name)
        };
        match reason {
            None => Ok(Self { name: name.into(), dead_letters: false }),
            Some(reason) => {
                let accepted = "one word of [A-Za-z0-9_-]{1,100}, not dlq, retry or _…";
                Err(Error::invalid(ErrorKind::InvalidName, "stream", name, reason, accepted))
            }
        }
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if self.dead_letters { "dlq." } else { "" };
        write!(f, "{prefix}{}", self.name)
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// The name of a group: `[A-Za-z0-9_-]{1,100}`. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupName(Arc<str>);

impl GroupName {
    /// The group of a program that names none.
    pub const DEFAULT: &'static str = "helixagent-worker";
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 100;

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GroupName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let reason = match name.len() {
            0 => "it is empty",
            1..=Self::MAX_BYTES if name.bytes().all(subject::is_word_byte) => {
                return Ok(Self(name.into()));
            }
            1..=Self::MAX_BYTES => "it has an illegal character",
            _ => "it is too long",
        };
        let accepted = "[A-Za-z0-9_-]{1,100}";
        Err(Error::invalid(ErrorKind::InvalidName, "group", name, reason, accepted))
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_letters_are_another_stream_of_the_same_name() {
        let tasks: StreamName = "tasks".parse().unwrap();
        let dead = StreamName::dead_letters("tasks").unwrap();
        assert_ne!(tasks, dead);
        assert_eq!((dead.name(), dead.to_string().as_str()), ("tasks", "dlq.tasks"));
        assert!("dlq.tasks".parse::<StreamName>().is_err());
    }

    #[test]
    fn illegal_names_are_refused() {
        let long = "g".repeat(101);
        for name in ["", "a.b", "a b", "ü", long.as_str()] {
            assert_eq!(*name.parse::<GroupName>().unwrap_err().kind(), ErrorKind::InvalidName);
            assert_eq!(*name.parse::<StreamName>().unwrap_err().kind(), ErrorKind::InvalidName);
        }
    }
}
