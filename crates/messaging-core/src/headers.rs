//! Headers: unique names, bytes as values, ours apart from the application's.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};

/// Names of headers that the layer itself writes. A sender can't set them.
pub mod ours {
    /// What every name of ours begins with.
    pub const PREFIX: &str = "helixagent-";
    /// The group that gave a dead letter up.
    pub const DEAD_LETTER_GROUP: &str = "helixagent-dead-letter-group";
    /// Why a message became a dead letter.
    pub const DEAD_LETTER_REASON: &str = "helixagent-dead-letter-reason";
    /// How many attempts had been made by then.
    pub const DEAD_LETTER_ATTEMPTS: &str = "helixagent-dead-letter-attempts";
    /// Where the dead letter came from: stream, and position where there is one.
    pub const DEAD_LETTER_ORIGIN: &str = "helixagent-dead-letter-origin";
}

/// The headers of a message: at most one value a name, in the order they were set.
///
/// Cloning is cheap; an empty set allocates nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Option<Arc<Vec<Entry>>>);

type Entry = (Box<str>, Bytes);

impl Headers {
    /// The longest name, in bytes.
    pub const MAX_NAME_BYTES: usize = 128;
    /// The longest value, in bytes.
    pub const MAX_VALUE_BYTES: usize = 64 * 1024;
    /// The most headers of one message.
    pub const MAX_ENTRIES: usize = 128;
    /// The most bytes of all names and values of one message.
    pub const MAX_TOTAL_BYTES: usize = 256 * 1024;

    /// Sets an application header, replacing an earlier value.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidHeader`] for a name that is not `[A-Za-z0-9_.-]{1,128}`, that begins
    /// with `helixagent-` or `x-`, or where there are too many;
    /// [`ErrorKind::TooLarge`] above the limits of size.
    pub fn insert(&mut self, name: &str, value: impl Into<Bytes>) -> Result<()> {
        let value = value.into();
        check_name(name)?;
        let too_large = |size, limit, what: &str| {
            Error::new(
                ErrorKind::TooLarge { size, limit },
                format!("header {name}: {what} {size} bytes, the limit is {limit}"),
            )
        };
        if value.len() > Self::MAX_VALUE_BYTES {
            return Err(too_large(value.len(), Self::MAX_VALUE_BYTES, "its value has"));
        }
        let total = self.bytes() + name.len() + value.len();
        if total > Self::MAX_TOTAL_BYTES {
            return Err(too_large(total, Self::MAX_TOTAL_BYTES, "all headers together have"));
        }
        if self.len() == Self::MAX_ENTRIES && self.get(name).is_none() {
            return Err(Error::invalid(
                ErrorKind::InvalidHeader,
                "header",
                name,
                "the message has too many headers",
                "at most 128",
            ));
        }
        self.stamp(name, value);
        Ok(())
    }

    /// Sets a header without checking its name: for drivers, who write ours and pass on what
    /// foreign senders wrote. The last of duplicate names stays.
    pub fn stamp(&mut self, name: &str, value: impl Into<Bytes>) {
        let entries = Arc::make_mut(self.0.get_or_insert_default());
        match entries.iter_mut().find(|(known, _)| **known == *name) {
            Some((_, old)) => *old = value.into(),
            None => entries.push((name.into(), value.into())),
        }
    }

    /// The value of a header.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        self.iter().find_map(|(known, value)| (known == name).then_some(value))
    }

    /// The value of a header, where it is UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// All headers in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.0.iter().flat_map(|entries| entries.iter()).map(|(name, value)| (&**name, value))
    }

    /// The application's headers: all but those that the layer wrote.
    pub fn application(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.iter().filter(|(name, _)| !name.starts_with(ours::PREFIX))
    }

    /// How many headers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |entries| entries.len())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of all names and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// Removes everything that only the layer may write, as a message enters it.
    pub(crate) fn strip_ours(&mut self) {
        if self.iter().any(|(name, _)| name.starts_with(ours::PREFIX))
            && let Some(entries) = &mut self.0
        {
            Arc::make_mut(entries).retain(|(name, _)| !name.starts_with(ours::PREFIX));
        }
    }
}

fn check_name(name: &str) -> Result<()> {
    let refuse = |reason| {
        let accepted = "[A-Za-z0-9_.-]{1,128}, not beginning with helixagent- or x-";
        Err(Error::invalid(ErrorKind::InvalidHeader, "header", name, reason, accepted))
    };
    if name.is_empty() || name.len() > Headers::MAX_NAME_BYTES {
        return refuse("its name is empty or too long");
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)) {
        return refuse("its name has an illegal character");
    }
    let reserved = |prefix: &str| {
        name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    if reserved(ours::PREFIX) || reserved("x-") {
        return refuse("its name is reserved");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_value_and_keeps_its_place() {
        let mut headers = Headers::default();
        headers.insert("a", "1").unwrap();
        headers.insert("b", "2").unwrap();
        headers.insert("a", "3").unwrap();
        let all: Vec<_> = headers.iter().map(|(name, value)| (name, &value[..])).collect();
        assert_eq!(all, [("a", &b"3"[..]), ("b", b"2")]);
    }

    #[test]
    fn reserved_and_illegal_names_are_refused() {
        for name in ["", "a b", "x-delay", "X-Death", "helixagent-attempt", &"n".repeat(129)] {
            let error = Headers::default().insert(name, "v").unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::InvalidHeader, "{name}");
        }
    }

    #[test]
    fn sizes_are_limited() {
        let mut headers = Headers::default();
        let error = headers.insert("a", vec![0; Headers::MAX_VALUE_BYTES + 1]).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::TooLarge { .. }));
        for number in 0..Headers::MAX_ENTRIES {
            headers.insert(&format!("h{number}"), "v").unwrap();
        }
        assert_eq!(*headers.insert("one-more", "v").unwrap_err().kind(), ErrorKind::InvalidHeader);
    }
}
