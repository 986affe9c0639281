//! The Redis backends of the messaging layer.
mod backoff;
pub mod config;
mod connection;
mod error;
mod pubsub;

pub use crate::config::RedisConfig;
pub use crate::pubsub::PubSub;
