//! A group of the topology, against what there is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::{GroupId, OffsetCommitRequest, OffsetDeleteRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use messaging_core::topology::GroupConfig;
use messaging_core::{Error, ErrorKind, Feature, Result, Topology};

use super::found::{self, Group, patiently};
use super::spec::{Content, content, retry_topics};
use crate::cluster::Cluster;
use crate::driver::Shared;
use crate::error::from_code;
use crate::group::{Partition, Partitions};
use crate::offsets::metadata::{Progress, hash_of};
use crate::subscription::places::{EARLIEST, all_committed, offset_at};

/// The most partitions of one request: more metadata than that fails as a whole.
const MOST: usize = 64;
/// How long members may take to leave that are leaving.
const LEAVING: Duration = Duration::from_secs(5);

/// In what a group is not as it is to be.
pub(super) enum Drift {
    /// It is not there.
    Missing,
    /// It is otherwise: what it is now.
    Other(String),
}

/// Refuses what a group can't be here.
pub(super) fn check(config: &GroupConfig) -> Result<()> {
    if config.priority {
        let text = format!("group {} is by priority, and a partition has one order", config.name);
        return Err(Error::new(ErrorKind::Unsupported(Feature::Priority), text));
    }
    Ok(())
}

/// What of the group differs, apart from its topics.
pub(super) async fn drift(
    shared: &Shared,
    topology: &Topology,
    config: &GroupConfig,
    found: Option<&Group>,
) -> Result<Option<Drift>> {
    let Some(found) = found else { return Ok(Some(Drift::Missing)) };
    let asked = &config.patterns;
    let members = found::members(&shared.cluster, &found.id).await?.unwrap_or_default();
    let text = asked.to_string();
    // Who is about to leave asks for nothing.
    let mut staying = members.iter().filter(|theirs| theirs.as_deref() != Some(""));
    if let Some(theirs) = staying.find(|theirs| theirs.as_deref() != Some(&text)) {
        let theirs = theirs.as_deref().unwrap_or("members of another client");
        return Ok(Some(Drift::Other(theirs.to_owned())));
    }
    if !members.is_empty() {
        return Ok(None);
    }
    match found.left(asked) {
        None if found.commits.is_empty() => return Ok(Some(Drift::Missing)),
        None => return Ok(Some(Drift::Other("patterns that nothing tells".to_owned()))),
        Some((theirs, false)) => return Ok(Some(Drift::Other(theirs))),
        Some((_, true)) => {}
    }
    for stream in topology.streams_for(asked)? {
        let topic = shared.topic(&stream.name);
        if !found.commits.keys().any(|partition| *partition.topic == *topic) {
            return Ok(Some(Drift::Other(format!("not on {topic}"))));
        }
    }
    Ok(None)
}

/// Gives a group without members its patterns, and a place in every partition where it has none: the
/// oldest that is kept, so that it gets what comes before its first member.
pub(super) async fn place(
    shared: &Shared,
    topology: &Topology,
    config: &GroupConfig,
) -> Result<()> {
    let (cluster, id) = (&shared.cluster, &*shared.group_id(&config.name, None));
    if !found::is_empty(cluster, id, LEAVING).await? {
        let text = format!(
            "group {id} has members that receive something else; provision it while it has none"
        );
        return Err(Error::new(ErrorKind::Unavailable, text));
    }
    let streams = topology.streams_for(&config.patterns)?;
    let mut names: Vec<String> = streams.iter().map(|stream| shared.topic(&stream.name)).collect();
    names.extend(retry_topics(shared, topology, &config.name)?.into_iter().map(|spec| spec.name));
    let mut committed = patiently(cluster, || all_committed(cluster, id)).await?;
    let patterns = hash_of(&config.patterns);
    let mut commits = BTreeMap::new();
    for name in names {
        let topic = cluster.topic(&name).await?;
        let name: Arc<str> = name.into();
        for partition in &topic.partitions {
            let partition = Partition::new(Arc::clone(&name), partition.number);
            let progress = match committed.remove(&partition) {
                Some(place) => Progress::decode(&place.metadata, place.offset)
                    .unwrap_or_else(|| fresh(place.offset)),
                None => {
                    let earliest = || offset_at(cluster, &partition, EARLIEST);
                    fresh(patiently(cluster, earliest).await?)
                }
            };
            let progress = Progress { patterns, ..progress };
            commits.insert(partition, (progress.base, progress.encode_with(&config.patterns)));
        }
    }
    let commits: Vec<(Partition, (i64, String))> = commits.into_iter().collect();
    for some in commits.chunks(MOST) {
        patiently(cluster, || commit(cluster, id, some)).await?;
    }
    // What it receives no longer; that of other prefixes is not ours.
    let prefix = &shared.config.prefix;
    let is_stream = |partition: &Partition| {
        matches!(content(prefix, &partition.topic), Some(Content::Stream(_)))
    };
    let left: Partitions = committed.into_keys().filter(is_stream).collect();
    forget(cluster, id, &left).await
}

const fn fresh(base: i64) -> Progress {
    Progress { base, patterns: 0, limit: None, open: Vec::new(), cut: base }
}

/// Commits for a group that has no members; with members the broker refuses it.
async fn commit(cluster: &Cluster, id: &str, all: &[(Partition, (i64, String))]) -> Result<()> {
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for (partition, (offset, metadata)) in all {
        let one = OffsetCommitRequestPartition::default()
            .with_partition_index(partition.number)
            .with_committed_offset(*offset)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(text(metadata)));
        topics.entry(&partition.topic).or_default().push(one);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        OffsetCommitRequestTopic::default()
            .with_name(TopicName(text(name)))
            .with_partitions(partitions)
    });
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(id)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(topics.collect());
    let coordinator = cluster.coordinator(id).await?;
    let answer = cluster.broker(coordinator).await?.call(&request, cluster.deadline()).await?;
    let mut codes = answer.topics.iter().flat_map(|topic| &topic.partitions);
    match codes.find(|one| one.error_code != 0) {
        Some(refused) => Err(from_code(refused.error_code, &format!("group {id}"))),
        None => Ok(()),
    }
}

/// Takes a group's places in these partitions from it.
pub(super) async fn forget(cluster: &Cluster, id: &str, partitions: &Partitions) -> Result<()> {
    if partitions.is_empty() {
        return Ok(());
    }
    let mut topics: BTreeMap<&str, Vec<OffsetDeleteRequestPartition>> = BTreeMap::new();
    for partition in partitions {
        let one = OffsetDeleteRequestPartition::default().with_partition_index(partition.number);
        topics.entry(&partition.topic).or_default().push(one);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        let topic = OffsetDeleteRequestTopic::default().with_name(TopicName(text(name)));
        topic.with_partitions(partitions)
    });
    let request = OffsetDeleteRequest::default()
        .with_group_id(GroupId(text(id)))
        .with_topics(topics.collect());
    let ask = || async {
        let coordinator = cluster.coordinator(id).await?;
        let answer = cluster.broker(coordinator).await?.call(&request, cluster.deadline()).await?;
        let parts = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let codes = std::iter::once(answer.error_code).chain(parts.map(|one| one.error_code));
        match codes.into_iter().find(|code| *code != 0) {
            Some(code) => Err(from_code(code, &format!("group {id}"))),
            None => Ok(()),
        }
    };
    patiently(cluster, ask).await
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
