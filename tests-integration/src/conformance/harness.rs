//! The backends under test, each with the broker it needs.

mod kafka;
mod memory;
mod nodes;
mod python;
mod rabbitmq;
mod redis;

use std::process::Command;

pub use self::kafka::KafkaHarness;
pub use self::memory::MemoryHarness;
pub use self::rabbitmq::RabbitHarness;
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
        "rabbitmq" => {
            wanted.check(&[Kind::RabbitMq])?;
            Some(Box::new(RabbitHarness::on(wanted.options(Kind::RabbitMq))))
        }
        "kafka" => {
            wanted.check(&[Kind::Kafka])?;
            Some(Box::new(KafkaHarness::on(wanted.options(Kind::Kafka))))
        }
        _ => None,
    })
}

/// Connects a process that was started as a member of a group on that backend.
pub(super) fn member_of(backend: &str) -> Connecting {
    match backend {
        "redis-streams" => redis::member(),
        "rabbitmq" => rabbitmq::member(),
        "kafka" => kafka::member(),
        _ => {
            let text = format!("{backend} has no members in other processes");
            async { Err(Error::new(ErrorKind::UnknownBackend, text)) }.boxed()
        }
    }
}

/// What a foreign program prints, or why they failed.
fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    // redis-cli ends with 0 where the server answers with an error.
    let failed =
        !output.status.success() || text.starts_with("ERR ") || text.starts_with("(error)");
    match failed {
        false => Ok(text),
        true => Err(format!("{text} {}", String::from_utf8_lossy(&output.stderr).trim_end())),
    }
}
