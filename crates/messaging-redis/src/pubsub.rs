//! The Pub/Sub backend: at most once.

mod admin;
mod buffer;
mod driver;
mod envelope;
mod inbox;
mod outage;
mod publishing;
mod reading;
mod routes;
mod sender;
mod subscription;

pub use self::driver::PubSub;
