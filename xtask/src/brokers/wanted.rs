//! The options of every command that starts brokers.

use clap::Args;

use super::{Kind, Options, RedisMode};

/// Which brokers a command starts.
#[derive(Debug, Clone, Default, Args)]
pub struct Wanted {
    /// RabbitMQ or Kafka nodes in one cluster
    #[arg(long, value_name = "N")]
    pub nodes: Option<usize>,
    /// How the Redis servers stand to each other
    #[arg(long, value_enum, value_name = "MODE")]
    pub redis_mode: Option<RedisMode>,
    /// Kafka of that version (unset: 4.1.0)
    #[arg(long, value_name = "VERSION")]
    pub kafka_version: Option<String>,
    /// Kafka 3.5.1 with a ZooKeeper
    #[arg(long)]
    pub zookeeper: bool,
}

impl Wanted {
    /// What is wanted of one kind.
    #[must_use]
    pub fn options(&self, kind: Kind) -> Options {
        let mut options = Options::new(kind).with_nodes(self.nodes.unwrap_or(1));
        if self.zookeeper {
            options = options.with_zookeeper();
        }
        if let Some(version) = &self.kafka_version {
            options = options.with_kafka_version(version);
        }
        options.with_redis_mode(self.redis_mode.unwrap_or(RedisMode::Single))
    }

    /// Refuses options that mean nothing to any of these kinds.
    ///
    /// # Errors
    ///
    /// When there is one.
    pub fn check(&self, kinds: &[Kind]) -> Result<(), String> {
        let is_asked = |kind| kinds.contains(&kind);
        if self.nodes.is_some() && !is_asked(Kind::RabbitMq) && !is_asked(Kind::Kafka) {
            return Err("--nodes is for rabbitmq and kafka; redis has --redis-mode".to_owned());
        }
        if self.redis_mode.is_some() && !is_asked(Kind::Redis) {
            return Err("--redis-mode is for redis".to_owned());
        }
        if (self.kafka_version.is_some() || self.zookeeper) && !is_asked(Kind::Kafka) {
            return Err("--kafka-version and --zookeeper are for kafka".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_would_be_ignored_is_refused() {
        let wanted = Wanted { nodes: Some(3), ..Wanted::default() };
        assert!(wanted.check(&[Kind::Redis]).is_err());
        assert!(wanted.check(&Kind::ALL).is_ok());
        let wanted = Wanted { zookeeper: true, ..Wanted::default() };
        assert!(wanted.check(&[Kind::RabbitMq]).is_err());
    }
}
