//! The Kafka backend of the messaging layer.
#![allow(dead_code, reason = "the parts are built one by one")]

mod backoff;
mod cluster;
pub mod config;
mod connection;
mod error;
mod group;
mod offsets;
mod read;
mod varint;

pub use crate::config::KafkaConfig;

/// The backend's name, as in `MESSAGING_BACKEND`.
const NAME: &str = "kafka";
