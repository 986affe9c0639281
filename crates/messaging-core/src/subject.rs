//! Subjects: where a message goes.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::name::StreamName;

/// Dot-separated words of `[A-Za-z0-9_-]`, at most 200 bytes; the first word is the stream.
///
/// `dlq`, `retry` and words that begin with `_` are refused as first word. Cloning is cheap.
#[derive(Clone)]
pub struct Subject(Repr);

#[derive(Clone)]
enum Repr {
    Static(&'static str),
    Shared(Arc<str>),
}

impl Subject {
    /// The longest subject, in bytes.
    pub const MAX_BYTES: usize = 200;

    /// A subject known when the program is written; an illegal one does not compile in a `const`.
    ///
    /// # Panics
    /// For an illegal subject.
    #[must_use]
    #[expect(clippy::panic, reason = "in a const context the panic is a compile error")]
    pub const fn from_static(text: &'static str) -> Self {
        match fault(text) {
            None => Self(Repr::Static(text)),
            Some(reason) => panic!("{}", reason),
        }
    }

    /// The subject of a payload of type `kind` on a stream; dots in the type are words.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSubject`]; nothing is escaped.
    pub fn of(stream: &StreamName, kind: &str) -> Result<Self> {
        let mut text = String::with_capacity(stream.name().len() + 1 + kind.len());
        text.push_str(stream.name());
        text.push('.');
        text.push_str(kind);
        text.parse()
    }

    /// The subject of a message that a foreign client left without one: the stream and the `type`
    /// of its JSON object where that is legal, else the stream alone.
    #[must_use]
    pub fn of_foreign(stream: &StreamName, body: &[u8]) -> Self {
        #[derive(serde::Deserialize)]
        struct Typed {
            r#type: String,
        }
        let typed = serde_json::from_slice(body).ok();
        let subject = typed.and_then(|Typed { r#type: kind }| Self::of(stream, &kind).ok());
        // A stream's name is a legal first word.
        subject.unwrap_or_else(|| Self(Repr::Shared(stream.name().into())))
    }

    /// The first word: the stream.
    #[must_use]
    pub fn stream(&self) -> &str {
        self.split_once('.').map_or(self, |(first, _)| first)
    }

    /// The words.
    #[must_use]
    pub fn words(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.split('.')
    }
}

impl Deref for Subject {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            Repr::Static(text) => text,
            Repr::Shared(text) => text,
        }
    }
}

impl FromStr for Subject {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match fault(text) {
            None => Ok(Self(Repr::Shared(text.into()))),
            Some(reason) => {
                let accepted = "dot-separated words of [A-Za-z0-9_-], at most 200 bytes, \
                                e.g. tasks.completion";
                Err(Error::invalid(ErrorKind::InvalidSubject, "subject", text, reason, accepted))
            }
        }
    }
}

impl AsRef<str> for Subject {
    fn as_ref(&self) -> &str {
        self
    }
}

impl Borrow<str> for Subject {
    fn borrow(&self) -> &str {
        self
    }
}

impl PartialEq for Subject {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Subject {}

impl std::hash::Hash for Subject {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// Whether a byte may stand in a word of a subject or a name.
pub(crate) const fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// What is wrong with a subject, if anything. Names of streams obey it too, without dots.
#[expect(clippy::indexing_slicing, reason = "const code can't iterate; the bounds are the loop's")]
pub(crate) const fn fault(text: &str) -> Option<&'static str> {
    let bytes = text.as_bytes();
    if bytes.is_empty() {
        return Some("it is empty");
    }
    if bytes.len() > Subject::MAX_BYTES {
        return Some("it is too long");
    }
    if bytes[0] == b'_' {
        return Some("a first word that begins with _ is reserved");
    }
    let mut at = 0;
    let mut word = 0;
    while at < bytes.len() {
        if bytes[at] == b'.' {
            if at == word {
                return Some("it has an empty word");
            }
            word = at + 1;
        } else if !is_word_byte(bytes[at]) {
            return Some("it has an illegal character");
        }
        at += 1;
    }
    if word == bytes.len() {
        return Some("it has an empty word");
    }
    if starts_with_word(bytes, b"dlq") || starts_with_word(bytes, b"retry") {
        return Some("the first word is reserved for dead letters and retries");
    }
    None
}

#[expect(clippy::indexing_slicing, reason = "const code can't iterate; the bounds are checked")]
const fn starts_with_word(bytes: &[u8], word: &[u8]) -> bool {
    if bytes.len() < word.len() || (bytes.len() > word.len() && bytes[word.len()] != b'.') {
        return false;
    }
    let mut at = 0;
    while at < word.len() {
        if bytes[at] != word[at] {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_message_gets_the_subject_of_its_type_where_that_is_legal() {
        let stream: StreamName = "tasks".parse().unwrap();
        let of = |body: &str| Subject::of_foreign(&stream, body.as_bytes()).to_string();
        assert_eq!(of(r#"{"type": "debate.round", "id": 1}"#), "tasks.debate.round");
        assert_eq!(of(r#"{"type": "a b"}"#), "tasks");
        assert_eq!(of("no JSON"), "tasks");
    }

    #[test]
    fn a_subject_is_words_and_the_first_is_the_stream() {
        const SUBJECT: Subject = Subject::from_static("tasks.debate.round-2");
        assert_eq!(SUBJECT.stream(), "tasks");
        assert_eq!(SUBJECT.words().collect::<Vec<_>>(), ["tasks", "debate", "round-2"]);
        assert_eq!("tasks".parse::<Subject>().unwrap().stream(), "tasks");
        assert_eq!(
            Subject::of(&"tasks".parse().unwrap(), "a.b").unwrap(),
            "tasks.a.b".parse().unwrap()
        );
    }

    #[test]
    fn illegal_subjects_are_refused_with_the_accepted_form() {
        let long = "x".repeat(201);
        for text in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "a b",
            "tasks.*",
            "tasks.é",
            "dlq.tasks",
            "retry",
            "_x.y",
            &long,
        ] {
            let error = text.parse::<Subject>().unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::InvalidSubject, "{text}");
            assert!(error.to_string().contains("dot-separated words"));
        }
        assert!("dlqx.tasks".parse::<Subject>().is_ok());
    }
}
