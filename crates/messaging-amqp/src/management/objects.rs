//! What the API tells of things, as far as it is read here.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// The server as a whole.
#[derive(Debug, Deserialize)]
pub(crate) struct Overview {
    pub(crate) rabbitmq_version: String,
}

/// A node of the cluster; what is missing is not told of a node that does not run.
#[derive(Debug, Deserialize)]
pub(crate) struct Node {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) running: bool,
    #[serde(default)]
    pub(crate) mem_alarm: bool,
    #[serde(default)]
    pub(crate) disk_free_alarm: bool,
    /// The nodes that it believes to be cut off.
    #[serde(default)]
    pub(crate) partitions: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Exchange {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) durable: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Binding {
    pub(crate) source: String,
    pub(crate) destination: String,
    pub(crate) destination_type: String,
    pub(crate) routing_key: String,
}

/// A queue. Counts are missing until the server's first statistics of it.
#[derive(Debug, Deserialize)]
pub(crate) struct Queue {
    pub(crate) name: String,
    #[serde(rename = "type", default)]
    pub(crate) kind: String,
    pub(crate) durable: bool,
    #[serde(default)]
    pub(crate) exclusive: bool,
    #[serde(default)]
    pub(crate) arguments: BTreeMap<String, Value>,
    pub(crate) messages_unacknowledged: Option<u64>,
    /// Messages that have expired and are not forwarded yet; of a quorum queue.
    pub(crate) messages_dlx: Option<u64>,
    /// The nodes that have a copy, and those of them that run; of a quorum queue.
    #[serde(default)]
    pub(crate) members: Vec<String>,
    #[serde(default)]
    pub(crate) online: Vec<String>,
    /// What policies set; an object, or an empty list.
    #[serde(default)]
    pub(crate) effective_policy_definition: Value,
}

impl Queue {
    /// The fields above, as the API is asked for them.
    pub(super) const COLUMNS: &'static str = "name,type,durable,exclusive,arguments,\
        messages_unacknowledged,messages_dlx,members,online,effective_policy_definition";
}

/// A connection of a client.
#[derive(Debug, Deserialize)]
pub(crate) struct Connection {
    #[serde(default)]
    pub(crate) state: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_without_statistics_and_a_node_that_is_down_are_read() {
        let queue = r#"{"arguments":{"x-queue-type":"quorum"},"durable":true,"exclusive":false,
            "name":"g","type":"quorum"}"#;
        let queue: Queue = serde_json::from_str(queue).unwrap();
        assert_eq!((&*queue.kind, queue.messages_unacknowledged), ("quorum", None));
        let node: Node = serde_json::from_str(r#"{"name":"a@b","running":false}"#).unwrap();
        assert!(!node.running && !node.mem_alarm);
    }
}
