//! The Kafka backend of the messaging layer.
