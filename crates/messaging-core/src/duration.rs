//! Durations as people write them: `250ms`, `30s`, `5m`, `1h`, `7d`.

use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use crate::error::{Error, ErrorKind, Result};

const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads a whole number with one of the units `ms`, `s`, `m`, `h`, `d`.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`] for anything else, or more than fits.
pub fn parse_duration(text: &str) -> Result<Duration> {
    let refuse = |reason| {
        let accepted = "a whole number with a unit: 250ms, 30s, 5m, 1h, 7d";
        Error::invalid(ErrorKind::InvalidConfig, "duration", text, reason, accepted)
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(refuse("it does not begin with a number"));
    }
    let (_, millis) = UNITS
        .into_iter()
        .find(|(known, _)| *known == unit)
        .ok_or_else(|| refuse("it has no known unit"))?;
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(millis))
        .map(Duration::from_millis)
        .ok_or_else(|| refuse("it is too long"))
}

/// Writes a duration with the largest unit that keeps it a whole number.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let (unit, size) = UNITS
        .into_iter()
        .rev()
        .find(|(_, size)| millis != 0 && millis.is_multiple_of(u128::from(*size)))
        .unwrap_or(("s", 1_000));
    format!("{}{unit}", millis / u128::from(size))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(from)?).map_err(D::Error::custom)
}

pub(crate) fn deserialize_some<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Duration>, D::Error> {
    deserialize(from).map(Some)
}

pub(crate) fn deserialize_all<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Vec<Duration>, D::Error> {
    let all = Vec::<String>::deserialize(from)?;
    all.iter().map(|text| parse_duration(text)).collect::<Result<_>>().map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["250ms", "1s", "30s", "5m", "1h", "7d", "90s"] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), text);
        }
    }

    #[test]
    fn other_forms_are_refused() {
        for text in ["", "5", "s", "-1s", "1.5s", "NaN", "1 s", "1w", "99999999999999999999s"] {
            let error = parse_duration(text).unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::InvalidConfig, "{text}");
        }
    }
}
