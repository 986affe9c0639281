//! Message ids: the sender's own text, or a UUIDv7 from a thread-local generator.

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};

/// Identifies a message through every retry, copy and repeated publish.
///
/// It is the payload's own `id` where it has one, so that repeating a publish whose outcome is
/// unknown can be recognised; else a UUIDv7. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(Repr);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Repr {
    Uuid(Uuid),
    Text(Arc<str>),
}

impl MessageId {
    /// The longest id, in bytes.
    pub const MAX_BYTES: usize = 128;

    /// Makes an id that no other call returns; ids of one thread grow.
    #[must_use]
    pub fn generate() -> Self {
        Self::generate_at(SystemTime::now())
    }

    /// The id that these bytes spell; `None` if they spell none.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let text = || std::str::from_utf8(bytes).ok()?.parse().ok();
        canonical(bytes).or_else(text)
    }

    /// Its text, which is written into `room` unless it is kept as text.
    pub fn text<'a>(&'a self, room: &'a mut [u8; 36]) -> &'a str {
        match &self.0 {
            Repr::Uuid(uuid) => uuid.hyphenated().encode_lower(room),
            Repr::Text(text) => text,
        }
    }

    /// As [`MessageId::generate`], where one reading of the clock serves many.
    pub(crate) fn generate_at(now: SystemTime) -> Self {
        Self(Repr::Uuid(next_uuid(now)))
    }
}

impl FromStr for MessageId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let accepted = "1 to 128 bytes without control characters";
        let refuse =
            |reason| Error::invalid(ErrorKind::InvalidName, "message id", text, reason, accepted);
        if let Some(id) = canonical(text.as_bytes()) {
            return Ok(id);
        }
        if text.is_empty() {
            return Err(refuse("it is empty"));
        }
        if text.len() > Self::MAX_BYTES {
            return Err(refuse("it is too long"));
        }
        if text.chars().any(char::is_control) {
            return Err(refuse("it has a control character"));
        }
        Ok(Self(Repr::Text(text.into())))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text(&mut [0; 36]))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

/// Only the canonical spelling is stored as a number, so the text always survives: of this length all
/// have hyphens and no braces.
fn canonical(bytes: &[u8]) -> Option<MessageId> {
    if bytes.len() != 36 || bytes.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    Uuid::try_parse_ascii(bytes).ok().map(|uuid| MessageId(Repr::Uuid(uuid)))
}

/// A UUIDv7 whose random bits come from a generator seeded once a thread by the system.
fn next_uuid(now: SystemTime) -> Uuid {
    thread_local! {
        static STATE: Cell<(u64, u64)> = Cell::new((RandomState::new().build_hasher().finish(), 0));
    }
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let (seed, last) = STATE.get();
    // `last` is milliseconds and a counter of 12 bits; it grows even when the clock does not.
    let ticks = (now << 12).max(last + 1);
    let seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.set((seed, ticks));
    let high = ((ticks >> 12) << 16) | 0x7000 | (ticks & 0xfff);
    let low = (splitmix(seed) >> 2) | (1 << 63);
    Uuid::from_u64_pair(high, low)
}

/// The output function of SplitMix64.
const fn splitmix(seed: u64) -> u64 {
    let z = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_ids_are_version_7_and_grow() {
        let ids: Vec<Uuid> = (0..10_000).map(|_| next_uuid(SystemTime::now())).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(ids.iter().all(|id| id.get_version_num() == 7));
        assert!(ids.iter().all(|id| id.get_variant() == uuid::Variant::RFC4122));
    }

    #[test]
    fn the_text_of_an_id_survives() {
        for text in ["task-123", "0199B2F0-1111-7222-8333-444455556666", "ключ"] {
            let id = text.parse::<MessageId>().unwrap();
            assert_eq!(id.to_string(), text);
            assert_eq!(MessageId::read(text.as_bytes()), Some(id));
        }
        let id = MessageId::generate();
        assert_eq!(id.to_string().parse::<MessageId>().unwrap(), id);
    }

    #[test]
    fn illegal_ids_are_refused_by_name() {
        assert_eq!(MessageId::read(b"\xff"), None);
        for text in ["", "a\nb", &"x".repeat(129)] {
            assert_eq!(MessageId::read(text.as_bytes()), None);
            let error = text.parse::<MessageId>().unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::InvalidName);
            assert!(error.to_string().contains("message id"));
        }
    }
}
