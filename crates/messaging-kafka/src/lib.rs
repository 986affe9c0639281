//! The Kafka backend of the messaging layer.

mod backoff;
mod cluster;
pub mod config;
mod connection;
mod error;

pub use crate::config::KafkaConfig;

/// The backend's name, as in `MESSAGING_BACKEND`.
const NAME: &str = "kafka";
