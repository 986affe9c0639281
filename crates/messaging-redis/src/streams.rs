//! The backend over Redis Streams: at least once, with groups, retries, dead letters and order.

mod admin;
mod alarm;
mod desk;
mod driver;
mod groups;
mod keeper;
mod keys;
mod leases;
mod listener;
mod member;
mod reader;
mod replay;
mod scripts;
mod sender;
mod settle;
mod subscription;

pub use self::driver::Streams;

/// The backend's name, as in `MESSAGING_BACKEND`.
const NAME: &str = "redis-streams";
