//! The RabbitMQ backend of the messaging layer.

mod subscription;
mod topology;
