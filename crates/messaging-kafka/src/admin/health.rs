//! How the cluster is, and which of its settings break a promise.

use std::collections::BTreeSet;

use kafka_protocol::messages::ApiVersionsRequest;
use kafka_protocol::protocol::StrBytes;
use messaging_core::driver::{Health, Promise};
use messaging_core::{Result, Topology};

use super::spec::{MIN_IN_SYNC, UNCLEAN, counted};
use crate::cluster::{BrokerId, Cluster, Topic};
use crate::driver::Shared;
use crate::topics;

const SURVIVES: &str = "a confirmed publish survives the loss of a broker";
const POWER: &str = "a confirmed publish survives the loss of power";

/// Asks every broker, and about every topic of the topology.
pub(super) async fn health(shared: &Shared) -> Health {
    let asked = ask(shared).await;
    asked.unwrap_or_else(|error| Health::not_serving(error.to_string()))
}

async fn ask(shared: &Shared) -> Result<Health> {
    let cluster = &shared.cluster;
    let names = names(shared, &shared.topology());
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let found = cluster.metadata(Some(&names)).await?;
    let brokers = cluster.brokers();
    let mut health = Health::serving();
    health.version = version(cluster).await;
    health = health
        .with_promise(Promise::kept("a confirmed publish reaches every group at least once"))
        .with_note(counted(brokers.len(), "broker", "brokers"));
    let settings = futures::future::join_all(brokers.iter().map(|id| settings(cluster, *id))).await;
    for (id, note) in brokers.iter().zip(settings) {
        match note {
            Ok(note) => health.notes.extend(note),
            Err(error) => health = health.with_note(format!("broker {id}: {error}")),
        }
    }
    let mut copies = usize::MAX;
    let mut broken = None;
    for topic in &found {
        copies = copies.min(tell(topic, &mut health));
        if topic.partitions.is_empty() {
            continue;
        }
        match breaks(cluster, topic).await {
            Ok(setting) => broken = broken.or(setting),
            Err(error) => health = health.with_note(error.to_string()),
        }
    }
    health = match broken {
        Some(setting) => health.with_promise(Promise::broken(SURVIVES, setting)),
        None if copies == usize::MAX => health,
        None if copies < 3 => {
            let reason =
                format!("a topic has {}, and it takes 3", counted(copies, "copy", "copies"));
            health.with_promise(Promise::not_made(SURVIVES, reason))
        }
        None => health.with_promise(Promise::kept(SURVIVES)),
    };
    let reason = "brokers confirm from memory and write to disk later";
    Ok(health.with_promise(Promise::not_made(POWER, reason)))
}

fn names(shared: &Shared, topology: &Topology) -> Vec<String> {
    topology.streams.iter().map(|stream| shared.topic(&stream.name)).collect()
}

/// Says who leads a topic and which copies are in step, and gives the fewest copies that a partition
/// has.
fn tell(topic: &Topic, health: &mut Health) -> usize {
    let name = &topic.name;
    if topic.partitions.is_empty() {
        health.notes.push(format!("topic {name} does not exist, or is not shown to us"));
        return usize::MAX;
    }
    let leaders: BTreeSet<BrokerId> = topic.partitions.iter().filter_map(|p| p.leader).collect();
    let leaders: Vec<String> = leaders.iter().map(ToString::to_string).collect();
    let copies = topic.partitions.iter().map(|p| p.replicas.len()).min().unwrap_or_default();
    health.notes.push(format!(
        "topic {name}: {}, {}, led by {}",
        counted(topic.partitions.len(), "partition", "partitions"),
        counted(copies, "copy", "copies"),
        leaders.join(", ")
    ));
    for partition in &topic.partitions {
        let (number, all) = (partition.number, partition.replicas.len());
        let in_sync = partition.in_sync.len();
        match partition.leader {
            None => {
                health.serving = false;
                health.notes.push(format!("partition {number} of {name} has no leader"));
            }
            Some(leader) if in_sync < all => health.notes.push(format!(
                "partition {number} of {name}: leader {leader}, {in_sync} of {all} copies in step"
            )),
            Some(_) => {}
        }
    }
    copies
}

/// The setting of a topic that breaks a promise.
async fn breaks(cluster: &Cluster, topic: &Topic) -> Result<Option<String>> {
    let name = &topic.name;
    let configs = topics::configs(cluster, name).await?;
    if configs.get(UNCLEAN) == Some("true") {
        return Ok(Some(format!("{UNCLEAN} of {name} is true and has to be false")));
    }
    let least = configs.get(MIN_IN_SYNC).and_then(|value| value.parse::<usize>().ok());
    let copies = topic.partitions.iter().map(|partition| partition.replicas.len()).min();
    let is_too_low = copies.is_some_and(|copies| copies > 2) && least.is_some_and(|n| n < 2);
    Ok(is_too_low.then(|| format!("{MIN_IN_SYNC} of {name} is 1 and has to be 2")))
}

/// What a broker's settings ask an operator to know; an error where it can't be reached.
async fn settings(cluster: &Cluster, id: BrokerId) -> Result<Option<String>> {
    let settings = topics::broker_configs(cluster, id).await?;
    let creates = settings.get("auto.create.topics.enable") == Some("true");
    Ok(creates.then(|| {
        format!(
            "broker {id}: auto.create.topics.enable is true, so another client that misspells a \
             topic creates it"
        )
    }))
}

/// The version of the cluster, as far as it says so.
async fn version(cluster: &Cluster) -> Option<String> {
    let request = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("helixagent"))
        .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
    let connection = cluster.any().await.ok()?;
    let answer = connection.call(&request, cluster.deadline()).await.ok()?;
    let level = |name: &str| {
        let features = answer.finalized_features.iter();
        features.filter(|one| &*one.name == name).map(|one| one.max_version_level).next()
    };
    if let Some(level) = level("metadata.version") {
        return Some(match release(level) {
            Some(release) => format!("{release} (metadata.version {level})"),
            None => format!("metadata.version {level}"),
        });
    }
    // With ZooKeeper it is a setting.
    let first = cluster.brokers().into_iter().next()?;
    let settings = topics::broker_configs(cluster, first).await.ok()?;
    settings.get("inter.broker.protocol.version").map(str::to_owned)
}

/// The release of Kafka that made a metadata version.
const fn release(level: i16) -> Option<&'static str> {
    Some(match level {
        1 => "3.0",
        2 => "3.1",
        3 => "3.2",
        4..=7 => "3.3",
        8 => "3.4",
        9..=11 => "3.5",
        12..=14 => "3.6",
        15..=19 => "3.7",
        20 => "3.8",
        21 => "3.9",
        22..=25 => "4.0",
        26..=27 => "4.1",
        _ => return None,
    })
}
