//! The backends under test, each with the broker it needs.

mod memory;
mod redis;

pub use self::memory::MemoryHarness;
pub use self::redis::RedisHarness;
use futures::FutureExt;
use messaging::{Error, ErrorKind};
use xtask::brokers::{Kind, RedisMode, Wanted};

use super::{Connecting, Harness};

/// The harness of a backend, by its name in `MESSAGING_BACKEND`, on the brokers that are wanted;
/// nothing for a name that is unknown.
///
/// # Errors
/// When something is wanted that means nothing to that backend.
pub fn harness_of(backend: &str, wanted: &Wanted) -> Result<Option<Box<dyn Harness>>, String> {
    Ok(match backend {
        "memory" => {
            wanted.check(&[])?;
            Some(Box::new(MemoryHarness))
        }
        "redis" => {
            wanted.check(&[Kind::Redis])?;
            let mode = wanted.redis_mode.unwrap_or(RedisMode::Single);
            Some(Box::new(RedisHarness::pubsub_on(mode)))
        }
        "redis-streams" => {
            wanted.check(&[Kind::Redis])?;
            let mode = wanted.redis_mode.unwrap_or(RedisMode::Single);
            Some(Box::new(RedisHarness::streams_on(mode)))
        }
        _ => None,
    })
}

/// Connects a process that was started as a member of a group on that backend.
pub(super) fn member_of(backend: &str) -> Connecting {
    match backend {
        "redis-streams" => redis::member(),
        _ => {
            let text = format!("{backend} has no members in other processes");
            async { Err(Error::new(ErrorKind::UnknownBackend, text)) }.boxed()
        }
    }
}
