//! The RabbitMQ backend of the messaging layer.

mod admin;
mod backoff;
pub mod config;
mod confirms;
mod connection;
mod driver;
mod error;
mod management;
mod sender;
mod settle;
mod subscription;
mod topology;
mod wire;

pub use crate::config::RabbitConfig;
pub use crate::driver::Rabbit;

/// The backend's name, as in `MESSAGING_BACKEND`.
const NAME: &str = "rabbitmq";
