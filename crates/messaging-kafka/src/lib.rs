//! The Kafka backend of the messaging layer.

mod admin;
mod backoff;
mod cluster;
pub mod config;
mod connection;
mod driver;
mod error;
mod group;
mod offsets;
mod read;
mod sender;
mod settle;
mod subscription;
mod topics;
mod varint;
mod wire;
mod write;

pub use crate::config::KafkaConfig;
pub use crate::driver::Kafka;

/// The backend's name, as in `MESSAGING_BACKEND`.
const NAME: &str = "kafka";
