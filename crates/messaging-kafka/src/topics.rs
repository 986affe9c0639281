//! Topics and their settings, over our own connection.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use messaging_core::driver::Backoff;
use messaging_core::{Error, ErrorKind, Result};
use tokio::time::{Instant, sleep, timeout_at};

use crate::cluster::{BrokerId, Cluster};
use crate::connection::{Connection, Request};
use crate::error::from_code;

/// A topic as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicSpec {
    pub(crate) name: String,
    pub(crate) partitions: u32,
    pub(crate) replication: u16,
    pub(crate) configs: Configs,
}

/// Settings that a topic is to have, by the names of Kafka. `None`: none of its own, but the broker's.
pub(crate) type Configs = BTreeMap<&'static str, Option<String>>;

/// How a resource of the kind topic is named in requests.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// The operations that set a value and that take it away.
const SET: i8 = 0;
const DELETE: i8 = 1;
/// Where a setting comes from that a topic has of its own.
const OF_TOPIC: i8 = 1;
const TOPIC_EXISTS: i16 = 36;
const NOT_CONTROLLER: i16 = 41;

/// How long the cluster may take to let everybody know of a new topic.
const SETTLING: std::time::Duration = std::time::Duration::from_secs(15);

/// Creates a topic and waits until its partitions have leaders; one that exists stays as it is.
pub(crate) async fn create(cluster: &Cluster, spec: &TopicSpec) -> Result<()> {
    let configs = spec.configs.iter().filter(|(_, value)| value.is_some()).map(|(name, value)| {
        CreatableTopicConfig::default()
            .with_name(StrBytes::from_static_str(name))
            .with_value(value.clone().map(StrBytes::from_string))
    });
    let topic = CreatableTopic::default()
        .with_name(topic_name(&spec.name))
        .with_num_partitions(i32::try_from(spec.partitions).unwrap_or(i32::MAX))
        .with_replication_factor(i16::try_from(spec.replication).unwrap_or(i16::MAX))
        .with_configs(configs.collect());
    let request = CreateTopicsRequest::default()
        .with_timeout_ms(TIMEOUT_MS)
        .with_topics(vec![topic])
        .with_validate_only(false);
    on_controller(cluster, &request, |answer| {
        answer.topics.into_iter().next().map(|topic| (topic.error_code, topic.error_message))
    })
    .await?
    .or_else(|(code, message)| match code {
        TOPIC_EXISTS => Ok(()),
        code => Err(failed(code, message.as_ref(), &spec.name)),
    })?;
    settled(cluster, &spec.name, spec.partitions).await
}

/// Gives a topic more partitions. Keys land elsewhere from then on.
pub(crate) async fn grow(cluster: &Cluster, name: &str, partitions: u32) -> Result<()> {
    let topic = CreatePartitionsTopic::default()
        .with_name(topic_name(name))
        .with_count(i32::try_from(partitions).unwrap_or(i32::MAX))
        .with_assignments(None);
    let request =
        CreatePartitionsRequest::default().with_timeout_ms(TIMEOUT_MS).with_topics(vec![topic]);
    on_controller(cluster, &request, |answer| {
        answer.results.into_iter().next().map(|topic| (topic.error_code, topic.error_message))
    })
    .await?
    .map_err(|(code, message)| failed(code, message.as_ref(), name))?;
    settled(cluster, name, partitions).await
}

/// Deletes a topic with what it keeps, and waits until it is gone.
pub(crate) async fn delete(cluster: &Cluster, name: &str) -> Result<()> {
    let request = DeleteTopicsRequest::default()
        .with_timeout_ms(TIMEOUT_MS)
        .with_topic_names(vec![topic_name(name)])
        .with_topics(Vec::<DeleteTopicState>::new());
    on_controller(cluster, &request, |answer| {
        answer.responses.into_iter().next().map(|topic| (topic.error_code, topic.error_message))
    })
    .await?
    .map_err(|(code, message)| failed(code, message.as_ref(), name))?;
    let until = Instant::now() + SETTLING;
    let mut backoff = Backoff::doubling();
    // Brokers learn of it one after the other, and tell nobody.
    while !matches!(cluster.topic(name).await, Err(error) if *error.kind() == ErrorKind::NotFound) {
        if Instant::now() >= until {
            let text = format!("topic {name} is not gone in time");
            return Err(Error::new(ErrorKind::Unavailable, text));
        }
        sleep(backoff.next() / 4).await;
    }
    Ok(())
}

/// Sets these settings and leaves the others.
pub(crate) async fn configure(cluster: &Cluster, name: &str, configs: &Configs) -> Result<()> {
    let configs = configs.iter().map(|(name, value)| {
        AlterableConfig::default()
            .with_name(StrBytes::from_static_str(name))
            .with_config_operation(if value.is_some() { SET } else { DELETE })
            .with_value(value.clone().map(StrBytes::from_string))
    });
    let resource = AlterConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(StrBytes::from_string(name.to_owned()))
        .with_configs(configs.collect());
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    on_controller(cluster, &request, |answer| {
        answer.responses.into_iter().next().map(|topic| (topic.error_code, topic.error_message))
    })
    .await?
    .map_err(|(code, message)| failed(code, message.as_ref(), name))
}

/// Settings as they are, by the names of Kafka.
#[derive(Debug)]
pub(crate) struct Settings {
    values: BTreeMap<String, String>,
    own: BTreeSet<String>,
}

impl Settings {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Whether the topic has it of its own, and not from the broker.
    pub(crate) fn is_own(&self, name: &str) -> bool {
        self.own.contains(name)
    }
}

/// All settings of a topic.
pub(crate) async fn configs(cluster: &Cluster, name: &str) -> Result<Settings> {
    let connection = cluster.any().await?;
    describe(cluster, &connection, TOPIC, name).await
}

/// All settings of a broker; it alone knows them.
pub(crate) async fn broker_configs(cluster: &Cluster, id: BrokerId) -> Result<Settings> {
    let connection = cluster.broker(id).await?;
    describe(cluster, &connection, BROKER, &id.to_string()).await
}

async fn describe(
    cluster: &Cluster,
    connection: &Connection,
    kind: i8,
    name: &str,
) -> Result<Settings> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(StrBytes::from_string(name.to_owned()))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let answer = connection.call(&request, cluster.deadline()).await?;
    let what = if kind == TOPIC { "topic" } else { "broker" };
    let failed = |code, message: Option<&StrBytes>| refused(code, message, what, name);
    let Some(result) = answer.results.into_iter().next() else {
        return Err(failed(-1, None));
    };
    if result.error_code != 0 {
        return Err(failed(result.error_code, result.error_message.as_ref()));
    }
    let own = result.configs.iter().filter(|config| config.config_source == OF_TOPIC);
    let own = own.map(|config| config.name.to_string()).collect();
    let values = result.configs.into_iter().filter_map(|config| {
        Some((config.name.to_string(), config.value.map(|value| value.to_string())?))
    });
    Ok(Settings { values: values.collect(), own })
}

/// The largest batch of records that a topic takes, in bytes.
pub(crate) async fn largest_message(cluster: &Cluster, name: &str) -> Option<usize> {
    configs(cluster, name).await.ok()?.get("max.message.bytes")?.parse().ok()
}

/// How long the broker may work on a change before it answers.
const TIMEOUT_MS: i32 = 4_000;

type Refused = (i16, Option<StrBytes>);

/// Asks the broker that leads changes, and again where it turns out to be another by now. `first`
/// finds the code and the text for the one topic that is asked about.
async fn on_controller<R: Request>(
    cluster: &Cluster,
    request: &R,
    first: impl Fn(R::Response) -> Option<Refused> + Send + Sync,
) -> Result<Result<(), Refused>> {
    let mut backoff = Backoff::doubling();
    let until = Instant::now() + SETTLING;
    loop {
        let answer = cluster.controller().await?.call(request, cluster.deadline()).await?;
        match first(answer).unwrap_or((-1, None)) {
            (0, _) => return Ok(Ok(())),
            (NOT_CONTROLLER, _) if Instant::now() < until => {
                sleep(backoff.next()).await;
                cluster.refresh().await?;
            }
            refused => return Ok(Err(refused)),
        }
    }
}

/// Waits until every partition has a leader. There is no event to wait for: brokers learn of a
/// change one after the other.
async fn settled(cluster: &Cluster, name: &str, partitions: u32) -> Result<()> {
    let until = Instant::now() + SETTLING;
    let waiting = async {
        let mut backoff = Backoff::doubling();
        loop {
            let found = cluster.topic(name).await;
            if let Ok(topic) = &found
                && topic.partitions.len() >= partitions as usize
                && topic.is_led()
            {
                return;
            }
            sleep(backoff.next() / 4).await;
        }
    };
    timeout_at(until, waiting).await.map_err(|_| {
        let text = format!("topic {name} has not got a leader for every partition in time");
        Error::new(ErrorKind::Unavailable, text)
    })
}

fn failed(code: i16, message: Option<&StrBytes>, name: &str) -> Error {
    refused(code, message, "topic", name)
}

fn refused(code: i16, message: Option<&StrBytes>, what: &str, name: &str) -> Error {
    let error = from_code(code, &format!("{what} {name}"));
    match message {
        Some(message) => error.with_source(messaging_core::error::excerpt(message)),
        None => error,
    }
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}
