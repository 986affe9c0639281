//! The RabbitMQ backend of the messaging layer.

mod backoff;
pub mod config;
mod connection;
mod error;
mod subscription;
mod topology;

pub use crate::config::RabbitConfig;

/// The backend's name, as in `MESSAGING_BACKEND`.
const NAME: &str = "rabbitmq";
