//! JSON in which every key of an object stands once.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::error::{Error, ErrorKind, Result};

/// Reads one JSON value. Duplicate keys and a depth beyond 128 are refused; integers of 64 bits are
/// exact.
///
/// # Errors
/// [`ErrorKind::Undecodable`], naming line and column.
pub fn parse(bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes).map(|Strict(value)| value).map_err(|error| {
        let text = "not one JSON value of at most 128 levels without duplicate keys";
        Error::new(ErrorKind::Undecodable, text).with_source(error)
    })
}

/// A value whose objects have every key once.
pub(super) struct Strict(pub(super) Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            all.push(item);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let Strict(value) = entries.next_value()?;
            insert(&mut all, key, value)?;
        }
        Ok(Value::Object(all))
    }
}

/// Adds an entry whose key must be new.
pub(super) fn insert<E: serde::de::Error>(
    all: &mut Map<String, Value>,
    key: String,
    value: Value,
) -> Result<(), E> {
    match all.entry(key) {
        serde_json::map::Entry::Vacant(place) => {
            place.insert(value);
            Ok(())
        }
        serde_json::map::Entry::Occupied(place) => {
            Err(E::custom(format_args!("duplicate key {:?}", place.key())))
        }
    }
}

/// An object, as the free-form part of a document must be one.
pub(super) struct StrictObject(pub(super) Map<String, Value>);

impl<'de> Deserialize<'de> for StrictObject {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Strict::deserialize(from)?.0 {
            Value::Object(object) => Ok(Self(object)),
            Value::String(_) => Err(D::Error::custom("a JSON object is wanted here, not text")),
            _ => Err(D::Error::custom("a JSON object is wanted here")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_documents_are_errors() {
        let deep = "[".repeat(100_000);
        for bytes in [
            &b""[..],
            b"{",
            b"{} {}",
            b"nul",
            b"\"\xff\"",
            b"{\"a\":1,\"a\":2}",
            b"{\"a\":{\"b\":1,\"b\":1}}",
            deep.as_bytes(),
        ] {
            assert_eq!(*parse(bytes).unwrap_err().kind(), ErrorKind::Undecodable);
        }
    }

    #[test]
    fn integers_of_64_bits_are_exact() {
        let text = "[18446744073709551615,-9223372036854775808,9007199254740993]";
        assert_eq!(parse(text.as_bytes()).unwrap().to_string(), text);
    }
}
