//! The Kafka backend of the messaging layer.

mod admin;
mod backoff;
mod cluster;
pub mod config;
mod connection;
mod driver;
mod error;
mod sender;
mod topics;
#[allow(dead_code, reason = "the reading half reads with it")]
mod wire;
mod write;

pub use crate::config::KafkaConfig;
pub use crate::driver::Kafka;

/// The backend's name, as in `MESSAGING_BACKEND`.
const NAME: &str = "kafka";
