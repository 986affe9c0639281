//! The backends under test, each with the broker it needs.

mod memory;
mod redis;

pub use self::memory::MemoryHarness;
pub use self::redis::RedisHarness;
use super::Harness;

/// The harness of a backend, by its name in `MESSAGING_BACKEND`.
#[must_use]
pub fn harness_of(backend: &str) -> Option<Box<dyn Harness>> {
    match backend {
        "memory" => Some(Box::new(MemoryHarness)),
        "redis-streams" => Some(Box::new(RedisHarness::streams())),
        _ => None,
    }
}
