use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use crate::error::{Error, ErrorKind, Result};

/// An instant as RFC 3339 text, kept as it was written.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Timestamp(Box<str>);

impl Timestamp {
    /// This moment, in UTC, to the millisecond.
    #[must_use]
    pub fn now() -> Self {
        Self::of(jiff::Timestamp::now())
    }

    fn of(instant: jiff::Timestamp) -> Self {
        let millis = jiff::Timestamp::from_millisecond(instant.as_millisecond()).unwrap_or(instant);
        Self(format!("{millis:.3}").into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The instant.
    #[must_use]
    pub fn to_system_time(&self) -> SystemTime {
        // The text was read once when this was made, so the epoch stands for no real failure.
        let instant = self.0.parse::<jiff::Timestamp>().unwrap_or_default();
        instant.try_into().unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// In UTC, to the millisecond; a time outside the years of RFC 3339 becomes the epoch.
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Self::of(time.try_into().unwrap_or_default())
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // jiff reads more than RFC 3339: a space or a lower-case `t`, annotations in brackets.
        let is_plain = text.as_bytes().get(10) == Some(&b'T') && !text.contains('[');
        if is_plain && text.parse::<jiff::Timestamp>().is_ok() {
            return Ok(Self(text.into()));
        }
        let accepted = "RFC 3339, e.g. 2026-01-16T10:00:00Z";
        let reason = "it is not a legal instant";
        Err(Error::invalid(ErrorKind::InvalidMessage, "time", text, reason, accepted))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_text_survives_and_the_instant_is_right() {
        for (text, seconds) in [("1970-01-01T00:00:01Z", 1), ("1970-01-01T01:00:02.000+01:00", 2)] {
            let time: Timestamp = text.parse().unwrap();
            assert_eq!(time.as_str(), text);
            assert_eq!(
                time.to_system_time(),
                SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
            );
        }
        let now = Timestamp::now();
        assert_eq!(now.as_str().parse::<Timestamp>().unwrap(), now);
        assert_eq!(now.as_str().len(), "2026-01-16T10:00:00.000Z".len());
        let later = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500);
        assert_eq!(Timestamp::from(later).as_str(), "1970-01-01T00:00:01.500Z");
    }

    #[test]
    fn other_forms_are_refused() {
        for text in ["", "now", "2026-13-01T00:00:00Z", "2026-01-16", "2026-01-16 10:00:00Z"] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }
}
