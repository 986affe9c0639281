//! The vocabulary of the messaging layer, and the portable handles over it.
//!
//! An application opens a [`Broker`] over a backend's driver and works with what it makes:
//! [`Publisher`], [`Consumer`], [`Listener`], [`Worker`]. They behave the same on every backend;
//! what a backend can't do is refused before anything is sent, with an error that names the
//! [`Feature`]. A backend's author starts at [`driver`].
//!
//! In reading order: what is said ([`Subject`], [`Pattern`], [`Message`], [`Payload`], [`Task`],
//! [`EventMessage`](schema::Event)), where ([`topology`]), by whom ([`Broker`] and its handles), and
//! over what ([`driver`]).

pub mod capability;
pub mod confirm;
pub mod driver;
pub mod duration;
pub mod error;
pub mod headers;
pub mod id;
pub mod lane;
pub mod message;
pub mod name;
pub mod observe;
pub mod pattern;
pub mod payload;
pub mod position;
pub mod schema;
pub mod secret;
pub mod spec;
pub mod subject;
pub mod topology;

mod broker;
mod consumer;
mod delivery;
mod intake;
mod listener;
mod publisher;
mod window;
mod worker;

pub use bytes::Bytes;
pub use serde_json::json;

pub use crate::broker::{Broker, BrokerBuilder};
pub use crate::capability::{Capabilities, Feature, Support};
pub use crate::confirm::{Confirm, Pending, PendingAll};
pub use crate::consumer::Consumer;
pub use crate::delivery::{DeadLetter, Delivery, Received, Ticket};
pub use crate::driver::{Assurance, Gap, Receipt, Settled, Settlement};
pub use crate::error::{Error, ErrorKind, Result};
pub use crate::headers::Headers;
pub use crate::id::MessageId;
pub use crate::listener::{Heard, Listener};
pub use crate::message::{ContentType, Message};
pub use crate::name::{GroupName, StreamName};
pub use crate::pattern::{Pattern, Patterns};
pub use crate::payload::{Encoded, Json, Payload, Proto};
pub use crate::position::{Position, Start};
pub use crate::publisher::Publisher;
pub use crate::schema::{Event, Task, Timestamp};
pub use crate::secret::Secret;
pub use crate::spec::{Codec, SendSpec, SubscribeSpec};
pub use crate::subject::Subject;
pub use crate::topology::Topology;
pub use crate::worker::{
    IntoVerdict, Outcome, RetryPolicy, Verdict, Worker, WorkerBuilder, WorkerReport,
};
