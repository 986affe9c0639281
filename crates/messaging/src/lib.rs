//! One messaging API for Rust, the same on every broker.
//!
//! [`connect`] opens what `MESSAGING_BACKEND` names; unset, that is the memory backend, which needs
//! no configuration. Everything of [`messaging_core`] is here too, so an application needs no other
//! dependency.
//!
//! ```
//! use messaging::{Received, Result, Task, json};
//!
//! #[tokio::main]
//! async fn main() -> Result<()> {
//!     let broker = messaging::connect().await?;
//!     let worker = broker.worker("worker-1", ["tasks.#"]).spawn(handle).await?;
//!     let task = Task::new("completion", json!({ "model": "helix-ensemble" }));
//!     println!("confirmed: {}", broker.publish(&task).await?);
//!     worker.settled(1).await?;
//!     worker.stop().await?;
//!     broker.close().await
//! }
//!
//! async fn handle(task: Received<Task>) -> Result<()> {
//!     println!("{} attempt {}: {}", task.id, task.attempt(), task.payload["model"]);
//!     Ok(())
//! }
//! ```
//!
//! # Features
//! Each backend is a feature of its own; `memory` is always there. A backend that is not compiled in
//! is [`ErrorKind::UnknownBackend`], whose text lists those that are.

mod environment;
mod registry;
mod signal;
mod telemetry;

pub mod config;

/// The RabbitMQ backend.
#[cfg(feature = "rabbitmq")]
pub use messaging_amqp as rabbitmq;
pub use messaging_core::*;
/// The Kafka backend.
#[cfg(feature = "kafka")]
pub use messaging_kafka as kafka;
/// The memory backend.
pub use messaging_memory as memory;
/// The Redis backends.
#[cfg(feature = "redis")]
pub use messaging_redis as redis;

pub use crate::environment::Environment;
pub use crate::registry::{Opening, Registry};
pub use crate::signal::{run_until_signal, stop_signal};
pub use crate::telemetry::LogNotices;

/// Connects to the backend that the process environment names.
///
/// `MESSAGING_BACKEND` is the backend (unset: `memory`), `MESSAGING_TOPOLOGY` a TOML file with the
/// streams and groups (unset: the default topology).
///
/// # Errors
/// [`ErrorKind::UnknownBackend`], [`ErrorKind::InvalidConfig`], or why the broker could not be
/// reached.
pub async fn connect() -> Result<Broker> {
    Registry::compiled_in().connect(&Environment::of_process()).await
}
