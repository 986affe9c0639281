//! What the two schemas share: required fields, their checks, and their two written forms.

use prost::Message;
use serde::Serialize;
use serde::de::{Deserialize, DeserializeOwned, Error as _, MapAccess};
use serde_json::{Map, Value};

use super::json;
use crate::error::{Error, ErrorKind, Result};
use crate::id::MessageId;

pub(super) type Object = Map<String, Value>;

/// Checks the id of a document, which becomes the id of its message.
pub(super) fn check_id(id: &str) -> Result<()> {
    id.parse::<MessageId>().map(drop)
}

pub(super) fn write_json(document: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(document).map_err(|error| {
        Error::new(ErrorKind::InvalidMessage, "the document has no JSON form").with_source(error)
    })
}

pub(super) fn read_json<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        let text = format!("not {what} in JSON");
        Error::new(ErrorKind::Undecodable, text).with_source(error)
    })
}

pub(super) fn read_protobuf<M: Message + Default>(what: &str, bytes: &[u8]) -> Result<M> {
    M::decode(bytes).map_err(|error| {
        let text = format!("not {what} in protobuf");
        Error::new(ErrorKind::Undecodable, text).with_source(error)
    })
}

/// Reads the value of a field; an error names the field.
pub(super) fn field<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    name: &str,
    entries: &mut A,
) -> Result<T, A::Error> {
    entries.next_value().map_err(|error| A::Error::custom(format_args!("{name}: {error}")))
}

/// Writes the free-form part of a document as JSON text; nothing for an empty `extra`.
pub(super) fn object_text(object: &Object) -> Result<String> {
    serde_json::to_string(object).map_err(|error| {
        Error::new(ErrorKind::InvalidMessage, "the object has no JSON form").with_source(error)
    })
}

/// Reads JSON text of a protobuf field back; empty text is an empty object.
pub(super) fn object_from_text(field: &str, text: &str) -> Result<Object> {
    if text.is_empty() {
        return Ok(Object::new());
    }
    match json::parse(text.as_bytes())? {
        Value::Object(object) => Ok(object),
        _ => {
            let reason = "it is not a JSON object";
            Err(Error::invalid(ErrorKind::Undecodable, field, text, reason, "{…}"))
        }
    }
}

/// Makes a check's failure on received data what it is there: an undecodable message.
pub(super) fn received<T>(checked: Result<T>) -> Result<T> {
    checked.map_err(|error| Error::new(ErrorKind::Undecodable, error.to_string()))
}
