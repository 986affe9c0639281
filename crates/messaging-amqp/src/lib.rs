//! The RabbitMQ backend of the messaging layer.

mod backoff;
pub mod config;
mod confirms;
mod connection;
mod error;
mod wire;

pub use crate::config::RabbitConfig;

/// The backend's name, as in `MESSAGING_BACKEND`.
const NAME: &str = "rabbitmq";
