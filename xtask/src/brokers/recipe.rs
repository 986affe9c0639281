//! What differs between the kinds.

use super::plan::{Node, Role};
use super::ports::Ports;
use super::process::Launch;
use super::{Brokers, Kind, Options};

/// How brokers of a kind are made.
pub(super) trait Recipe: Sync {
    /// Makes sure that the programs are there.
    fn install(&self, options: &Options) -> Result<(), String>;

    /// The nodes, in the order in which they start.
    fn nodes(&self, options: &Options, ports: &mut Ports) -> Result<Vec<Node>, String>;

    /// The name of a node's program, as the kernel knows it.
    fn program(&self, node: &Node) -> &'static str;

    /// Writes a node's configuration into its directory and says how to start it.
    fn launch(&self, brokers: &Brokers, node: &Node) -> Result<Launch, String>;

    /// Whether a node answers in its own protocol, else why not. It does not wait long.
    fn answers(&self, brokers: &Brokers, node: &Node) -> Result<(), String>;

    /// Joins the nodes of a role, all of which answer, unless they are joined, and waits until
    /// they are whole.
    fn join(&self, brokers: &Brokers, role: Role) -> Result<(), String>;

    /// What clients need to know.
    fn env(&self, brokers: &Brokers) -> Vec<(&'static str, String)>;
}

pub(super) fn recipe(kind: Kind) -> &'static dyn Recipe {
    match kind {
        Kind::Redis => &super::redis::Redis,
        Kind::RabbitMq => &super::rabbitmq::RabbitMq,
        Kind::Kafka => &super::kafka::Kafka,
    }
}
