//! Where reading begins: what a group has committed, and what a partition keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{
    BrokerId, GroupId, ListOffsetsRequest, OffsetFetchRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use messaging_core::{Error, ErrorKind, Result, Start};

use crate::admin::patiently;
use crate::cluster::Cluster;
use crate::error::from_code;
use crate::group::{Partition, Partitions};

/// What `ListOffsets` calls the end and the beginning of a partition.
pub(crate) const LATEST: i64 = -1;
pub(crate) const EARLIEST: i64 = -2;

/// What a group has committed of a partition.
#[derive(Clone, Debug)]
pub(crate) struct Committed {
    pub(crate) offset: i64,
    pub(crate) metadata: String,
}

/// What a group has committed of these partitions; those it has not are missing.
///
/// # Errors
/// Those of the coordinator; [`ErrorKind::Unavailable`] ones pass.
pub(crate) async fn committed(
    cluster: &Cluster,
    group: &str,
    partitions: &[Partition],
) -> Result<BTreeMap<Partition, Committed>> {
    let mut topics: BTreeMap<Arc<str>, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(Arc::clone(&partition.topic)).or_default().push(partition.number);
    }
    ask(cluster, group, Some(topics)).await
}

/// Everything that a group has committed.
///
/// # Errors
/// As [`committed`].
pub(crate) async fn all_committed(
    cluster: &Cluster,
    group: &str,
) -> Result<BTreeMap<Partition, Committed>> {
    ask(cluster, group, None).await
}

/// Those of these partitions in whose topic a group has no place at all. In another topic, one without
/// a place is younger than the group (G8), or its place has expired.
///
/// # Errors
/// As [`committed`].
pub(super) async fn new_to(
    cluster: &Cluster,
    group: &str,
    partitions: &Partitions,
) -> Result<Partitions> {
    let placed = patiently(cluster, || all_committed(cluster, group)).await?;
    let known: BTreeSet<&str> = placed.keys().map(|partition| &*partition.topic).collect();
    let new = partitions.iter().filter(|partition| !known.contains(&*partition.topic));
    Ok(new.cloned().collect())
}

/// `None` asks for all.
async fn ask(
    cluster: &Cluster,
    group: &str,
    topics: Option<BTreeMap<Arc<str>, Vec<i32>>>,
) -> Result<BTreeMap<Partition, Committed>> {
    let coordinator = cluster.coordinator(group).await?;
    let connection = cluster.broker(coordinator).await?;
    let name = |topic: &str| TopicName(StrBytes::from_string(topic.to_owned()));
    let id = GroupId(StrBytes::from_string(group.to_owned()));
    let request = if connection.version::<OffsetFetchRequest>()? < 8 {
        let one = |(topic, numbers): (Arc<str>, Vec<i32>)| {
            OffsetFetchRequestTopic::default()
                .with_name(name(&topic))
                .with_partition_indexes(numbers)
        };
        let topics = topics.map(|topics| topics.into_iter().map(one).collect());
        OffsetFetchRequest::default().with_group_id(id).with_topics(topics)
    } else {
        let one = |(topic, numbers): (Arc<str>, Vec<i32>)| {
            OffsetFetchRequestTopics::default()
                .with_name(name(&topic))
                .with_partition_indexes(numbers)
        };
        let topics = topics.map(|topics| topics.into_iter().map(one).collect());
        let group = OffsetFetchRequestGroup::default().with_group_id(id).with_topics(topics);
        OffsetFetchRequest::default().with_groups(vec![group])
    };
    let answer = connection.call(&request.with_require_stable(true), cluster.deadline()).await?;
    let what = || format!("group {group}");
    let mut found = BTreeMap::new();
    let mut add = |topic: &str, number, offset: i64, metadata: Option<&StrBytes>, code: i16| {
        if code != 0 {
            return Err(from_code(code, &what()));
        }
        if offset >= 0 {
            let metadata = metadata.map(ToString::to_string).unwrap_or_default();
            found.insert(Partition::new(topic, number), Committed { offset, metadata });
        }
        Ok(())
    };
    let code = answer.groups.first().map_or(answer.error_code, |group| group.error_code);
    if code != 0 {
        return Err(from_code(code, &what()));
    }
    for topic in &answer.topics {
        for one in &topic.partitions {
            let metadata = one.metadata.as_ref();
            let (number, offset) = (one.partition_index, one.committed_offset);
            add(&topic.name, number, offset, metadata, one.error_code)?;
        }
    }
    for topic in answer.groups.iter().flat_map(|group| &group.topics) {
        for one in &topic.partitions {
            let metadata = one.metadata.as_ref();
            let (number, offset) = (one.partition_index, one.committed_offset);
            add(&topic.name, number, offset, metadata, one.error_code)?;
        }
    }
    Ok(found)
}

/// The offset where a subscription without a place of its own begins.
///
/// # Errors
/// Those of the broker that leads the partition; [`ErrorKind::Unavailable`] ones pass.
pub(crate) async fn start_of(
    cluster: &Cluster,
    partition: &Partition,
    start: Start,
) -> Result<i64> {
    let time = match start {
        Start::Earliest => EARLIEST,
        Start::Latest => LATEST,
        Start::Time(time) => millis(time),
        Start::Position(position) if position.lane() == partition.number.unsigned_abs() => {
            return i64::try_from(position.id()).map_err(|_| {
                let text = format!("position {position} is none of Kafka's");
                Error::new(ErrorKind::InvalidConfig, text)
            });
        }
        // A position is about one partition; of the others, what came after it is not known.
        Start::Position(_) => LATEST,
        _ => EARLIEST,
    };
    match offset_at(cluster, partition, time).await? {
        // Nothing was stored so late.
        -1 => offset_at(cluster, partition, LATEST).await,
        offset => Ok(offset),
    }
}

/// Milliseconds since 1970.
pub(crate) fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The first offset stored at this time or later, −1 if there is none.
pub(crate) async fn offset_at(cluster: &Cluster, partition: &Partition, time: i64) -> Result<i64> {
    let leader = cluster.leader(&partition.topic, partition.number).await?;
    let connection = cluster.broker(leader).await?;
    let one = ListOffsetsPartition::default()
        .with_partition_index(partition.number)
        .with_current_leader_epoch(-1)
        .with_timestamp(time);
    let topic = ListOffsetsTopic::default()
        .with_name(TopicName(StrBytes::from_string(partition.topic.to_string())))
        .with_partitions(vec![one]);
    let request = ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_isolation_level(1)
        .with_topics(vec![topic]);
    let answer = connection.call(&request, cluster.deadline()).await?;
    let found = answer.topics.first().and_then(|topic| topic.partitions.first());
    match found {
        Some(found) if found.error_code == 0 => Ok(found.offset),
        Some(found) => Err(from_code(found.error_code, &partition.to_string())),
        None => Err(crate::error::unexpected(connection.address(), "ListOffsets")),
    }
}
