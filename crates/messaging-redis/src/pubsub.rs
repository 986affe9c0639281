//! The Pub/Sub backend: at most once.

mod admin;
mod buffer;
mod driver;
mod envelope;
mod publishing;
mod reading;
mod routes;
mod sender;
mod subscription;

pub use self::driver::PubSub;
