//! The RabbitMQ backend of the messaging layer.
