//! What brokers say about the cluster.

use std::collections::HashMap;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use messaging_core::Result;

use super::{BrokerId, Cluster, View};
use crate::config::Address;

/// A topic as the cluster has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Topic {
    pub(crate) name: String,
    /// Kafka's error code; 0 is none.
    pub(crate) error: i16,
    /// Changes when the topic is deleted and created again; zero on brokers that have none.
    pub(crate) id: u128,
    pub(crate) is_internal: bool,
    /// Growing from 0.
    pub(crate) partitions: Vec<Partition>,
}

/// A partition as the cluster has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    pub(crate) number: i32,
    pub(crate) leader: Option<BrokerId>,
    pub(crate) leader_epoch: i32,
    pub(crate) replicas: Vec<BrokerId>,
    pub(crate) in_sync: Vec<BrokerId>,
}

impl Topic {
    pub(crate) fn partition(&self, number: i32) -> Option<&Partition> {
        self.partitions.iter().find(|partition| partition.number == number)
    }

    /// Whether it has partitions, and each of them a leader.
    pub(crate) fn is_led(&self) -> bool {
        !self.partitions.is_empty()
            && self.partitions.iter().all(|partition| partition.leader.is_some())
    }
}

impl Cluster {
    /// Asks about these topics, or about all; creates none. A topic with an error is among the
    /// answers.
    ///
    /// # Errors
    /// Those of the last broker tried.
    pub(crate) async fn metadata(&self, names: Option<&[&str]>) -> Result<Vec<Topic>> {
        let topic = |name: &&str| {
            let name = TopicName(StrBytes::from_string((*name).to_owned()));
            MetadataRequestTopic::default().with_name(Some(name))
        };
        let request = MetadataRequest::default()
            .with_topics(names.map(|names| names.iter().map(topic).collect()))
            .with_allow_auto_topic_creation(false);
        Ok(self.learn(self.ask(&request).await?))
    }

    /// Takes an answer into the view. Topics outside the answer stay as they were.
    fn learn(&self, answer: MetadataResponse) -> Vec<Topic> {
        let topics: Vec<Topic> = answer.topics.into_iter().map(topic).collect();
        let mut view = self.lock();
        // A broker that starts may not know any other yet.
        if !answer.brokers.is_empty() {
            let brokers = answer.brokers.into_iter().map(|broker| {
                let port = u16::try_from(broker.port).unwrap_or_default();
                (broker.node_id.0, Address::new(broker.host.to_string(), port))
            });
            view.replace_brokers(brokers.collect());
            view.controller = Some(answer.controller_id.0).filter(|id| *id >= 0);
        }
        for topic in &topics {
            match topic.partitions.is_empty() {
                true => drop(view.topics.remove(&topic.name)),
                false => drop(view.topics.insert(topic.name.clone(), topic.clone())),
            }
        }
        topics
    }
}

impl View {
    /// Brokers that are gone are forgotten, and connections to addresses that changed end.
    fn replace_brokers(&mut self, brokers: HashMap<BrokerId, Address>) {
        self.connections.retain(|id, connection| {
            let stays = brokers.get(id) == Some(connection.address());
            if !stays {
                connection.end();
            }
            stays && !connection.is_ended()
        });
        self.brokers = brokers;
    }
}

fn topic(theirs: MetadataResponseTopic) -> Topic {
    let mut partitions: Vec<Partition> = theirs
        .partitions
        .into_iter()
        .map(|partition| Partition {
            number: partition.partition_index,
            leader: Some(partition.leader_id.0).filter(|id| *id >= 0),
            leader_epoch: partition.leader_epoch,
            replicas: partition.replica_nodes.into_iter().map(|id| id.0).collect(),
            in_sync: partition.isr_nodes.into_iter().map(|id| id.0).collect(),
        })
        .collect();
    partitions.sort_unstable_by_key(|partition| partition.number);
    Topic {
        name: theirs.name.map(|name| name.to_string()).unwrap_or_default(),
        error: theirs.error_code,
        id: theirs.topic_id.as_u128(),
        is_internal: theirs.is_internal,
        partitions,
    }
}
