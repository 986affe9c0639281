//! The schemas of the original system: [`Task`] and [`Event`], as JSON and as protobuf.
//!
//! JSON is exactly the original's, so that any foreign client can read it. Fields that a schema does
//! not name are kept. Duplicate keys are refused anywhere, as two readers could disagree on them.

mod document;
mod event;
mod json;
mod task;
mod timestamp;

/// The generated protobuf types; `proto/helixagent/messaging/v1/messages.proto` is their source.
#[allow(clippy::use_self, unreachable_pub, reason = "generated code")]
#[rustfmt::skip]
pub mod protobuf {
    include!("schema/helixagent.messaging.v1.rs");
}

pub use self::event::Event;
pub use self::json::parse as parse_json;
pub use self::task::Task;
pub use self::timestamp::Timestamp;
