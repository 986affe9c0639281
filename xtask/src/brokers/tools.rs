//! The brokers' own tools, connected.

use std::ffi::{OsStr, OsString};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use super::{Brokers, Kind, Management, kafka, rabbitmq, redis};

impl Brokers {
    /// `redis-cli`, connected to a server that answers.
    ///
    /// # Errors
    ///
    /// When these are no Redis servers, or none answers.
    pub fn redis_cli<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Command, String> {
        let mut command = redis::cli(self)?;
        command.args(args);
        Ok(command)
    }

    /// `redis-cli`, connected to that server.
    ///
    /// # Errors
    ///
    /// When these are no Redis servers, or there is none of that name.
    pub fn redis_cli_of<S: AsRef<OsStr>>(
        &self,
        server: &str,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Command, String> {
        let mut command = redis::cli_of(self, server)?;
        command.args(args);
        Ok(command)
    }

    /// Where the other brokers of a Kafka cluster connect to a node: the listener that clients do
    /// not use.
    ///
    /// # Errors
    ///
    /// When there is no such node, or this is no Kafka.
    pub fn address_between(&self, node: &str) -> Result<SocketAddr, String> {
        match self.kind() {
            Kind::Kafka => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, self.node(node)?.second))),
            other => Err(format!("{} has no listener between brokers", other.name())),
        }
    }

    /// A tool of Kafka's, as `kafka-NAME.sh`, connected to the brokers.
    ///
    /// # Errors
    ///
    /// When these are no Kafka brokers, or their version has no such tool.
    pub fn kafka_tool(&self, name: &str, args: Vec<OsString>) -> Result<Command, String> {
        kafka::tool(self, name, args)
    }

    /// `rabbitmqctl`, connected to a node that answers.
    ///
    /// # Errors
    ///
    /// When these are no RabbitMQ nodes, or none answers.
    pub fn rabbitmqctl<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Command, String> {
        let mut command = rabbitmq::ctl(self)?;
        command.args(args);
        Ok(command)
    }

    /// The management API of a RabbitMQ node that answers.
    ///
    /// # Errors
    ///
    /// When these are no RabbitMQ nodes, or none answers.
    pub fn management(&self) -> Result<Management, String> {
        rabbitmq::management(self)
    }
}
