//! Properties and headers go in one frame, whatever the server's limit for frames is: the client
//! library splits bodies only, and the server ends the connection over a frame that is larger.

use amqprs::{BasicProperties, FieldValue};
use messaging_core::{Error, ErrorKind, Result};

/// What the application's messages leave free of a frame, at most half of it, so that every copy of one
/// fits where frames are not small: a reason of 1,000 characters in UTF-8, names, and marks.
const LEFT_FOR_COPIES: usize = 8 * 1_024;

/// What a frame has beside its payload, and the payload beside properties: class, weight, size of the
/// body, flags (AMQP 0-9-1, 2.3.5).
const FIXED: usize = 8 + 14;

/// Who publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    Application,
    /// The layer, which adds to what was received.
    Layer,
}

/// Checks that properties and headers fit into a frame.
///
/// # Errors
/// [`ErrorKind::TooLarge`].
pub(crate) fn fit(properties: &BasicProperties, frame_max: usize, sender: Sender) -> Result<()> {
    let limit = match sender {
        Sender::Application => frame_max.saturating_sub(LEFT_FOR_COPIES.min(frame_max / 2)),
        Sender::Layer => frame_max,
    };
    let size = size(properties);
    if size <= limit {
        return Ok(());
    }
    let text = format!(
        "headers, with key and other properties: {size} bytes on the wire, the limit is {limit}, \
         which comes from the server's frame_max"
    );
    Err(Error::new(ErrorKind::TooLarge { size, limit }, text))
}

/// The bytes of the frame, with those properties that the layer writes.
fn size(properties: &BasicProperties) -> usize {
    let short = |text: Option<&String>| text.map_or(0, |text| 1 + text.len());
    let headers = properties.headers().map_or(0, |fields| {
        let sizes = fields.as_ref().iter();
        4 + sizes.map(|(name, field)| 1 + name.as_ref().len() + 1 + value(field)).sum::<usize>()
    });
    FIXED
        + short(properties.content_type())
        + headers
        + usize::from(properties.delivery_mode().is_some())
        + usize::from(properties.priority().is_some())
        + short(properties.message_id())
}

/// The bytes of a value; the layer writes no other kinds.
fn value(field: &FieldValue) -> usize {
    match field {
        FieldValue::S(text) => 4 + text.as_ref().len(),
        FieldValue::x(bytes) => 4 + Vec::<u8>::from(bytes.clone()).len(),
        FieldValue::t(_) => 1,
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use messaging_core::headers::ours;
    use messaging_core::{ContentType, Headers, Message, Subject};

    use super::super::{Marks, outgoing};
    use super::*;

    const FRAME_MAX: usize = 131_072;

    #[test]
    fn small_frames_take_small_headers() {
        let outbound =
            outgoing(&Message::new(Subject::from_static("tasks.n"), ""), Marks::default());
        // The least that a server may ask for (AMQP 0-9-1, 4.2.3).
        fit(&outbound.unwrap().properties, 4_096, Sender::Application).unwrap();
    }

    #[test]
    fn what_the_application_sends_fits_as_a_dead_letter_too() {
        let longest = |length: usize| {
            let mut message = Message::new(Subject::from_static("tasks.n"), "")
                .with_content_type(ContentType::Other("x".repeat(255).into()))
                .with_priority(9);
            for n in 0..2 {
                message.headers.insert(&n.to_string(), vec![b'x'; length]).unwrap();
            }
            outgoing(&message, Marks::default()).map(|outbound| (message, outbound))
        };
        let fits = |length: &usize| {
            let (_, outbound) = longest(*length).unwrap();
            fit(&outbound.properties, FRAME_MAX, Sender::Application).is_ok()
        };
        let length = (0..=Headers::MAX_VALUE_BYTES).rfind(fits).unwrap();
        assert!(length > 60_000);
        let (mut message, _) = longest(length).unwrap();
        // The longest in UTF-8.
        let reason = "\u{10ffff}".repeat(1_001);
        message.headers.stamp(ours::DEAD_LETTER_REASON, reason);
        message.headers.stamp(ours::DEAD_LETTER_ORIGIN, "o".repeat(310));
        message.headers.stamp(ours::DEAD_LETTER_GROUP, "g".repeat(100));
        message.headers.stamp(ours::DEAD_LETTER_ATTEMPTS, u32::MAX.to_string());
        let marks = Marks { attempts: u32::MAX, is_suspect: true, copy: u64::MAX };
        let copy = outgoing(&message, marks).unwrap();
        fit(&copy.properties, FRAME_MAX, Sender::Layer).unwrap();
        let (_, over) = longest(length + 1).unwrap();
        let error = fit(&over.properties, FRAME_MAX, Sender::Application).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::TooLarge { size, limit } if size > limit));
    }
}
