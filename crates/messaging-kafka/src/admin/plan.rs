//! What the topology names, against what there is.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::{DeleteGroupsRequest, GroupId};
use kafka_protocol::protocol::StrBytes;
use messaging_core::driver::{Action, Change, Plan, Target};
use messaging_core::duration::format_duration;
use messaging_core::topology::{GroupConfig, StreamConfig};
use messaging_core::{Error, ErrorKind, GroupName, Result, StreamName, Topology};

use crate::cluster::Topic;
use crate::driver::Shared;
use crate::error::from_code;
use crate::topics::{self, TopicSpec};

/// What is to be done to one topic.
#[derive(Debug)]
pub(super) enum Step {
    Create(TopicSpec),
    Grow { name: String, partitions: u32 },
    Configure { name: String, configs: BTreeMap<&'static str, String> },
}

/// What every message that core lets pass fits in: the largest body, headers and key.
const LARGEST: usize = 1024 * 1024 + 512 * 1024;

/// What `apply` would do, for the eye and for the hand.
pub(super) async fn plan(shared: &Shared, topology: &Topology) -> Result<(Plan, Vec<Step>)> {
    let known = shared.cluster.metadata(None).await?;
    let find = |name: &str| known.iter().find(|topic| topic.name == name);
    let mut plan = Plan::default();
    let mut steps = Vec::new();
    for stream in &topology.streams {
        let spec = stream_topic(shared, stream);
        let target = Target::Stream(stream.name.clone()).to_string();
        compare(shared, find(&spec.name), spec, &target, &mut plan, &mut steps).await?;
    }
    let mut planned = BTreeSet::new();
    for group in &topology.groups {
        let target = Target::Group(group.name.clone()).to_string();
        for spec in group_topics(shared, topology, group)? {
            if planned.insert(spec.name.clone()) {
                compare(shared, find(&spec.name), spec, &target, &mut plan, &mut steps).await?;
            }
        }
    }
    for topic in known.iter().filter(|topic| !topic.is_internal) {
        let stream = topic.name.strip_prefix(&shared.config.prefix);
        let stream = stream.and_then(|rest| rest.strip_prefix('.'));
        if let Some(Ok(name)) = stream.map(str::parse::<StreamName>)
            && topology.stream(name.name()).is_none()
        {
            plan.unmanaged.push(Target::Stream(name).to_string());
        }
    }
    plan.unmanaged.sort();
    Ok((plan, steps))
}

/// Makes it so.
pub(super) async fn apply(shared: &Shared, steps: Vec<Step>) -> Result<()> {
    let cluster = &shared.cluster;
    let doing = steps.into_iter().map(|step| async move {
        match step {
            Step::Create(spec) => topics::create(cluster, &spec).await,
            Step::Grow { name, partitions } => topics::grow(cluster, &name, partitions).await,
            Step::Configure { name, configs } => topics::configure(cluster, &name, &configs).await,
        }
    });
    futures::future::try_join_all(doing).await.map(drop)
}

/// Creates what a group needs before its first message is delivered: a retry topic for each tier, and
/// the dead letters of its streams.
#[allow(dead_code, reason = "the reading half opens groups with it")]
pub(crate) async fn create_places(
    shared: &Shared,
    topology: &Topology,
    group: &GroupConfig,
) -> Result<()> {
    let specs = group_topics(shared, topology, group)?;
    apply(shared, specs.into_iter().map(Step::Create).collect()).await
}

/// Deletes a stream with its dead letters, or a group with what waits for it.
pub(super) async fn delete(shared: &Shared, target: &Target) -> Result<()> {
    let missing = || Error::new(ErrorKind::NotFound, format!("{target} does not exist"));
    let known = shared.cluster.metadata(None).await?;
    let exists = |name: &str| known.iter().any(|topic| topic.name == name);
    match target {
        Target::Stream(name) => {
            let topic = shared.topic(name);
            if !exists(&topic) {
                return Err(missing());
            }
            topics::delete(&shared.cluster, &topic).await?;
            let dead = shared.topic(&name.to_dead_letters());
            if exists(&dead) && !name.is_dead_letters() {
                topics::delete(&shared.cluster, &dead).await?;
            }
            Ok(())
        }
        Target::Group(name) => {
            delete_group(shared, name).await?;
            let start = retry_topic(shared, name, "");
            for topic in known.iter().filter(|topic| topic.name.starts_with(&start)) {
                topics::delete(&shared.cluster, &topic.name).await?;
            }
            Ok(())
        }
        _ => Err(missing()),
    }
}

async fn delete_group(shared: &Shared, name: &GroupName) -> Result<()> {
    let group = shared.group_id(name, None);
    let id = shared.cluster.coordinator(&group).await?;
    let request = DeleteGroupsRequest::default()
        .with_groups_names(vec![GroupId(StrBytes::from_string(group))]);
    let connection = shared.cluster.broker(id).await?;
    let answer = connection.call(&request, shared.cluster.deadline()).await?;
    match answer.results.first().map_or(-1, |result| result.error_code) {
        0 => Ok(()),
        code => Err(from_code(code, &format!("group {name}"))),
    }
}

async fn compare(
    shared: &Shared,
    found: Option<&Topic>,
    spec: TopicSpec,
    target: &str,
    plan: &mut Plan,
    steps: &mut Vec<Step>,
) -> Result<()> {
    let name = &spec.name;
    let Some(topic) = found else {
        let detail = format!(
            "topic {name}, {} partitions, {} copies{}",
            spec.partitions,
            spec.replication,
            spec.configs.iter().map(|(k, v)| format!(", {k}={v}")).collect::<String>()
        );
        plan.changes.push(Change::new(Action::Create, target, detail));
        steps.push(Step::Create(spec));
        return Ok(());
    };
    let mut alter = |now: &str, asked: &str| {
        let detail = format!("topic {name}: now {now}, asked {asked}");
        plan.changes.push(Change::new(Action::Alter, target, detail));
    };
    let has = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
    if has > spec.partitions {
        let text = format!(
            "topic {name} has {has} partitions (accepted: at least so many; Kafka takes none away)"
        );
        return Err(Error::new(ErrorKind::InvalidConfig, text));
    }
    if has < spec.partitions {
        let count = |count| format!("{count} partitions");
        alter(&count(has), &count(spec.partitions));
        steps.push(Step::Grow { name: name.clone(), partitions: spec.partitions });
    }
    let is = topics::configs(&shared.cluster, name).await?;
    let mut configs = BTreeMap::new();
    for (key, asked) in spec.configs {
        let now = is.get(key).map_or("", String::as_str);
        // More than enough room is no drift.
        let is_enough = key == MAX_MESSAGE && number(now) >= number(&asked);
        if now != asked && !is_enough {
            alter(&format!("{key}={now}"), &format!("{key}={asked}"));
            configs.insert(key, asked);
        }
    }
    if !configs.is_empty() {
        steps.push(Step::Configure { name: name.clone(), configs });
    }
    Ok(())
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_default()
}

const MAX_MESSAGE: &str = "max.message.bytes";
const RETENTION: &str = "retention.ms";
pub(super) const MIN_IN_SYNC: &str = "min.insync.replicas";
pub(super) const UNCLEAN: &str = "unclean.leader.election.enable";

fn stream_topic(shared: &Shared, stream: &StreamConfig) -> TopicSpec {
    let name = shared.topic(&stream.name);
    let mut spec = topic(shared, name, stream.partitions.get(), stream.replication);
    if let Some(retention) = stream.retention {
        spec.configs.insert(RETENTION, retention.as_millis().to_string());
    }
    spec
}

/// The topics of a group: its retries, and the dead letters of the streams that it receives.
fn group_topics(
    shared: &Shared,
    topology: &Topology,
    group: &GroupConfig,
) -> Result<Vec<TopicSpec>> {
    let mut all = Vec::new();
    for tier in &topology.tiers {
        let name = retry_topic(shared, &group.name, &format_duration(*tier));
        all.push(topic(shared, name, 1, None));
    }
    for stream in topology.streams_for(&group.patterns)? {
        let name = shared.topic(&stream.name.to_dead_letters());
        let mut spec = topic(shared, name, 1, stream.replication);
        let retention = stream.dead_letter_retention.as_millis().to_string();
        spec.configs.insert(RETENTION, retention);
        all.push(spec);
    }
    Ok(all)
}

pub(crate) fn retry_topic(shared: &Shared, group: &GroupName, tier: &str) -> String {
    format!("{}.retry.{group}.{tier}", shared.config.prefix)
}

fn topic(shared: &Shared, name: String, partitions: u32, replication: Option<u16>) -> TopicSpec {
    let brokers = u16::try_from(shared.cluster.brokers().len()).unwrap_or(u16::MAX).max(1);
    let replication = replication.or(shared.config.replication).unwrap_or_else(|| brokers.min(3));
    let in_sync = shared.config.min_insync_replicas.unwrap_or(if replication > 2 { 2 } else { 1 });
    let configs = BTreeMap::from([
        (MIN_IN_SYNC, in_sync.to_string()),
        (UNCLEAN, false.to_string()),
        (MAX_MESSAGE, LARGEST.to_string()),
    ]);
    TopicSpec { name, partitions, replication, configs }
}
