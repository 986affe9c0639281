//! The headers table.

use amqprs::{ByteArray, FieldTable, FieldValue, ShortStr};
use bytes::Bytes;
use messaging_core::headers::ours;
use messaging_core::{Error, ErrorKind, Message, Result};

use super::Marks;

/// Names of headers that the layer writes beside a copy.
pub(crate) mod marks {
    /// How many hand-overs are known to have failed.
    pub(crate) const ATTEMPTS: &str = "helixagent-attempts";
    /// Whether the message has been in the hands of a member that died.
    pub(crate) const SUSPECT: &str = "helixagent-suspect";
    /// Which copy it is.
    pub(crate) const COPY: &str = "helixagent-copy";
}

const KEY: &str = "message-key";
/// What the server's own headers begin with. On 3.x it believes them of any sender.
const OF_THE_SERVER: &str = "x-";

/// Whether headers in the layer's names are the layer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// The delivery came through an exchange that only the layer publishes to.
    Ours,
    /// Anybody may have sent it.
    Others,
}

/// The headers of a message, its key and the marks among them.
pub(super) fn table(message: &Message, ours: Marks) -> Result<FieldTable> {
    let mut fields = FieldTable::new();
    let mut add = |name: &str, value: FieldValue| {
        let name: ShortStr = name.try_into().map_err(|_| {
            let (reason, accepted) = ("its name is too long", "at most 255 bytes");
            Error::invalid(ErrorKind::InvalidHeader, "header", name, reason, accepted)
        })?;
        fields.insert(name, value);
        Ok::<_, Error>(())
    };
    for (name, value) in message.headers.iter() {
        if !name.starts_with(OF_THE_SERVER) {
            add(name, written(name, value)?)?;
        }
    }
    if let Some(key) = &message.key {
        add(KEY, written(KEY, key)?)?;
    }
    if ours.attempts > 0 {
        add(marks::ATTEMPTS, FieldValue::l(ours.attempts.into()))?;
    }
    if ours.is_suspect {
        add(marks::SUSPECT, true.into())?;
    }
    if ours.copy > 0 {
        add(marks::COPY, FieldValue::l(ours.copy.cast_signed()))?;
    }
    Ok(fields)
}

/// Text where it is text, so that other clients can read it. Anything else as bytes: a string that
/// is not UTF-8 would end the connection of whoever receives it with this client library.
fn written(name: &str, value: &Bytes) -> Result<FieldValue> {
    let too_large = |_| {
        let limit = u32::MAX as usize;
        let kind = ErrorKind::TooLarge { size: value.len(), limit };
        Error::new(kind, format!("header {name}: its value does not fit"))
    };
    Ok(match std::str::from_utf8(value) {
        Ok(text) => FieldValue::S(text.try_into().map_err(too_large)?),
        Err(_) => FieldValue::x(ByteArray::try_from(value.to_vec()).map_err(too_large)?),
    })
}

/// Reads headers and key into the message, and the marks apart.
pub(super) fn read(fields: &FieldTable, trust: Trust, message: &mut Message) -> Marks {
    let mut found = Marks::default();
    let mut headers: Vec<_> = fields.as_ref().iter().collect();
    // The client library keeps a table without its order.
    headers.sort_unstable_by(|(a, _), (b, _)| a.as_ref().cmp(b.as_ref()));
    for (name, value) in headers {
        match name.as_ref().as_str() {
            KEY => message.key = Some(text(value)),
            name if name.starts_with(OF_THE_SERVER) => {}
            name if name.starts_with(ours::PREFIX) && trust == Trust::Others => {}
            marks::ATTEMPTS => found.attempts = number(value).unwrap_or_default(),
            marks::COPY => found.copy = number(value).unwrap_or_default(),
            marks::SUSPECT => found.is_suspect = matches!(value, FieldValue::t(true)),
            name => message.headers.stamp(name, text(value)),
        }
    }
    found
}

/// The number in a field.
pub(super) fn field<T: TryFrom<i64>>(fields: &FieldTable, name: &str) -> Option<T> {
    let name: ShortStr = name.try_into().ok()?;
    number(fields.get(&name)?)
}

fn number<T: TryFrom<i64>>(value: &FieldValue) -> Option<T> {
    let number = match value {
        FieldValue::b(number) => i64::from(*number),
        FieldValue::B(number) => i64::from(*number),
        FieldValue::s(number) => i64::from(*number),
        FieldValue::u(number) => i64::from(*number),
        FieldValue::I(number) => i64::from(*number),
        FieldValue::i(number) => i64::from(*number),
        FieldValue::l(number) => *number,
        _ => return None,
    };
    T::try_from(number).ok()
}

/// A value as bytes; nothing becomes empty.
fn text(value: &FieldValue) -> Bytes {
    match value {
        FieldValue::S(text) => Bytes::copy_from_slice(text.as_ref().as_bytes()),
        FieldValue::x(bytes) => Vec::from(bytes.clone()).into(),
        FieldValue::V => Bytes::new(),
        other => other.to_string().into(),
    }
}
