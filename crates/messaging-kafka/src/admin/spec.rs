//! Which topics a stream and a group have, and what they are like.

use std::collections::BTreeMap;
use std::time::Duration;

use messaging_core::duration::format_duration;
use messaging_core::topology::{GroupConfig, StreamConfig};
use messaging_core::{Error, ErrorKind, GroupName, Result, StreamName, Topology};

use crate::driver::Shared;
use crate::topics::{self, TopicSpec};

pub(super) const MAX_MESSAGE: &str = "max.message.bytes";
pub(super) const RETENTION: &str = "retention.ms";
pub(super) const MIN_IN_SYNC: &str = "min.insync.replicas";
pub(super) const UNCLEAN: &str = "unclean.leader.election.enable";

/// What every message that core lets pass fits in: the largest body, headers and key.
const LARGEST: usize = 1024 * 1024 + 512 * 1024;
/// How long a retry may wait for a group that has no members; its delay is at most a small part.
const RETRY_RETENTION: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The topic of a stream, and that of its dead letters.
pub(super) fn stream_topics(shared: &Shared, stream: &StreamConfig) -> Result<[TopicSpec; 2]> {
    let name = shared.topic(&stream.name);
    let partitions = stream.partitions.get();
    let topic = topic(shared, name, partitions, stream.replication, stream.retention)?;
    Ok([topic, dead_letters(shared, stream)?])
}

fn dead_letters(shared: &Shared, stream: &StreamConfig) -> Result<TopicSpec> {
    let name = shared.topic(&stream.name.to_dead_letters());
    topic(shared, name, 1, stream.replication, Some(stream.dead_letter_retention))
}

/// The topics of a group's retries, one for each tier.
pub(super) fn retry_topics(
    shared: &Shared,
    topology: &Topology,
    group: &GroupName,
) -> Result<Vec<TopicSpec>> {
    let of_tier = |tier: &Duration| {
        let name = retry_topic(shared, group, &format_duration(*tier));
        topic(shared, name, 1, None, Some(RETRY_RETENTION.max(*tier * 2)))
    };
    topology.tiers.iter().map(of_tier).collect()
}

pub(crate) fn retry_topic(shared: &Shared, group: &GroupName, tier: &str) -> String {
    format!("{}.retry.{group}.{tier}", shared.config.prefix)
}

/// Creates what a group needs before its first message is delivered: a retry topic for each tier, and
/// the dead letters of its streams.
pub(crate) async fn create_places(
    shared: &Shared,
    topology: &Topology,
    group: &GroupConfig,
) -> Result<()> {
    let mut specs = retry_topics(shared, topology, &group.name)?;
    for stream in topology.streams_for(&group.patterns)? {
        specs.push(dead_letters(shared, stream)?);
    }
    let names: Vec<&str> = specs.iter().map(|spec| &*spec.name).collect();
    let found = shared.cluster.metadata(Some(&names)).await?;
    // To use what is there takes no right to create it.
    let is_there = |spec: &&TopicSpec| {
        found.iter().any(|topic| topic.name == spec.name && topic.error == 0 && topic.is_led())
    };
    let missing = specs.iter().filter(|spec| !is_there(spec));
    let creating = missing.map(|spec| topics::create(&shared.cluster, spec));
    futures::future::try_join_all(creating).await.map(drop)
}

fn topic(
    shared: &Shared,
    name: String,
    partitions: u32,
    replication: Option<u16>,
    retention: Option<Duration>,
) -> Result<TopicSpec> {
    let brokers = u16::try_from(shared.cluster.brokers().len()).unwrap_or(u16::MAX).max(1);
    let replication = replication.or(shared.config.replication).unwrap_or_else(|| brokers.min(3));
    let in_sync = in_sync(shared, replication);
    if in_sync > replication {
        let text = format!(
            "topic {name} is to have {replication} copies, of which {in_sync} have to be in step \
             (accepted: KAFKA_MIN_INSYNC_REPLICAS of at most the copies)"
        );
        return Err(Error::new(ErrorKind::InvalidConfig, text));
    }
    let configs = BTreeMap::from([
        (MIN_IN_SYNC, Some(in_sync.to_string())),
        (UNCLEAN, Some(false.to_string())),
        (MAX_MESSAGE, Some(LARGEST.to_string())),
        (RETENTION, retention.map(|kept| kept.as_millis().to_string())),
    ]);
    Ok(TopicSpec { name, partitions, replication, configs })
}

/// How many of so many copies have to be in step.
pub(super) fn in_sync(shared: &Shared, copies: u16) -> u16 {
    shared.config.min_insync_replicas.unwrap_or(if copies > 2 { 2 } else { 1 })
}

/// So many of something, as text.
pub(super) fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// What a topic of ours keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// A stream's messages, or its dead letters.
    Stream(StreamName),
    /// Retries that wait for this group.
    Retry(GroupName),
}

/// What a topic keeps; `None` if it is not ours.
pub(super) fn content(prefix: &str, topic: &str) -> Option<Content> {
    let rest = topic.strip_prefix(prefix)?.strip_prefix('.')?;
    if let Some(retry) = rest.strip_prefix("retry.") {
        let (group, _) = retry.split_once('.')?;
        return group.parse().ok().map(Content::Retry);
    }
    match rest.strip_prefix("dlq.") {
        Some(stream) => StreamName::dead_letters(stream).ok().map(Content::Stream),
        None => rest.parse().ok().map(Content::Stream),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_of_ours_says_what_it_keeps_and_no_other_does() {
        let stream = |name: &str| Some(Content::Stream(name.parse().unwrap()));
        assert_eq!(content("p", "p.tasks"), stream("tasks"));
        let dead = StreamName::dead_letters("tasks").unwrap();
        assert_eq!(content("p", "p.dlq.tasks"), Some(Content::Stream(dead)));
        let group = Some(Content::Retry("worker-1".parse().unwrap()));
        assert_eq!(content("p", "p.retry.worker-1.30s"), group);
        for foreign in ["tasks", "q.tasks", "pp.tasks", "p.a.b", "p.retry.x", "p.", "p"] {
            assert_eq!(content("p", foreign), None, "{foreign}");
        }
    }
}
