//! The Kafka backend of the messaging layer.
#![allow(dead_code, reason = "the parts are built one by one")]

mod group;
mod offsets;
mod read;
mod varint;
