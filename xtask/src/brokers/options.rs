//! Which brokers are wanted.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A kind of broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[value(rename_all = "lower")]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Redis 7.
    Redis,
    /// RabbitMQ with its management plugin.
    RabbitMq,
    /// Apache Kafka.
    Kafka,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Redis, Self::RabbitMq, Self::Kafka];

    /// Its name on the command line and in directories.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::RabbitMq => "rabbitmq",
            Self::Kafka => "kafka",
        }
    }
}

/// How the Redis servers stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[value(rename_all = "lower")]
#[serde(rename_all = "lowercase")]
pub enum RedisMode {
    /// One server.
    Single,
    /// A primary, two replicas and three Sentinels.
    Sentinel,
    /// A cluster of three primaries with a replica each.
    Cluster,
}

/// What [`Brokers::start`](super::Brokers::start) starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    pub(super) kind: Kind,
    pub(super) nodes: usize,
    pub(super) redis_mode: RedisMode,
    pub(super) kafka_version: String,
    pub(super) zookeeper: bool,
    pub(super) usual_ports: bool,
    pub(super) advertised: Vec<u16>,
    pub(super) settings: Vec<(String, String)>,
}

impl Options {
    /// The version of Kafka unless another is asked for.
    pub const KAFKA: &'static str = "4.1.0";

    /// The version of Kafka that runs with ZooKeeper.
    pub const KAFKA_WITH_ZOOKEEPER: &'static str = "3.5.1";

    /// One node of `kind` on free ports, with settings under which nothing confirmed is lost.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            nodes: 1,
            redis_mode: RedisMode::Single,
            kafka_version: Self::KAFKA.to_owned(),
            zookeeper: false,
            usual_ports: false,
            advertised: Vec::new(),
            settings: Vec::new(),
        }
    }

    /// How many brokers of RabbitMQ or Kafka; Redis has modes instead.
    #[must_use]
    pub const fn nodes(&self) -> usize {
        self.nodes
    }

    /// How the Redis servers stand to each other.
    #[must_use]
    pub const fn redis_mode(&self) -> RedisMode {
        self.redis_mode
    }

    /// As many RabbitMQ or Kafka nodes, in one cluster; Redis has modes instead.
    #[must_use]
    pub fn with_nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }

    /// Redis servers that stand to each other like that.
    #[must_use]
    pub fn with_redis_mode(mut self, mode: RedisMode) -> Self {
        self.redis_mode = mode;
        self
    }

    /// Kafka of that version.
    #[must_use]
    pub fn with_kafka_version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.kafka_version);
        self
    }

    /// Kafka with a ZooKeeper, in the version that has one.
    #[must_use]
    pub fn with_zookeeper(mut self) -> Self {
        self.zookeeper = true;
        Self::KAFKA_WITH_ZOOKEEPER.clone_into(&mut self.kafka_version);
        self
    }

    /// The ports that clients expect, where they are free.
    #[must_use]
    pub fn with_usual_ports(mut self) -> Self {
        self.usual_ports = true;
        self
    }

    /// The ports that Kafka brokers tell clients to connect to, in the order of their nodes: those
    /// of a proxy in front of each.
    #[must_use]
    pub fn with_advertised_ports(mut self, ports: &[u16]) -> Self {
        self.advertised = ports.to_vec();
        self
    }

    /// One line of the servers' configuration; it wins over the line of ours with that name.
    #[must_use]
    pub fn with_setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What is asked for, without the parts that mean nothing to this kind.
    pub(super) fn checked(mut self) -> Result<Self, String> {
        if self.kind == Kind::Redis {
            self.nodes = match self.redis_mode {
                RedisMode::Single => 1,
                RedisMode::Sentinel => 3,
                RedisMode::Cluster => 6,
            };
        } else {
            self.redis_mode = RedisMode::Single;
        }
        if self.kind != Kind::Kafka {
            self.zookeeper = false;
            Self::KAFKA.clone_into(&mut self.kafka_version);
        }
        // The version becomes a name of a directory and a part of a file.
        if !self.kafka_version.chars().all(|char| char.is_ascii_digit() || char == '.') {
            return Err(format!("{:?} is no version of Kafka", self.kafka_version));
        }
        if self.zookeeper && !self.kafka_version.starts_with("3.") {
            return Err(format!("Kafka {} has no ZooKeeper; 3.x has", self.kafka_version));
        }
        if !(1..=9).contains(&self.nodes) {
            return Err(format!("{} nodes; 1 to 9 can be started", self.nodes));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_started_is_refused() {
        let kafka = Options::new(Kind::Kafka);
        assert!(kafka.clone().with_kafka_version("../4.1.0").checked().is_err());
        assert!(kafka.clone().with_zookeeper().with_kafka_version("4.1.0").checked().is_err());
        assert!(kafka.clone().with_zookeeper().checked().is_ok());
        assert!(kafka.with_nodes(0).checked().is_err());
    }

    #[test]
    fn options_of_other_kinds_make_no_difference() {
        let plain = Options::new(Kind::Redis).checked().unwrap();
        let with_others = Options::new(Kind::Redis).with_nodes(3).with_zookeeper();
        assert_eq!(with_others.checked().unwrap(), plain);
    }
}
