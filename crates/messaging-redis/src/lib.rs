//! The Redis backends of the messaging layer.
mod backoff;
pub mod config;
mod connection;
mod error;

pub use crate::config::RedisConfig;
