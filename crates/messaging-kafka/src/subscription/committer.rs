//! The commit task: one commit of a group is on its way at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::{GroupId, OffsetCommitRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use messaging_core::Result;
use messaging_core::driver::Backoff;
use tokio::time::{Instant, sleep, sleep_until};

use super::desk::Commit;
use super::member::Member;
use crate::cluster::BrokerId;
use crate::error::{denied, from_code};
use crate::group::Partition;
use crate::group::member::Event;
use crate::offsets::metadata::hash_of;

/// The most partitions of one request: more metadata than that fails as a whole.
const MOST: usize = 64;

const ILLEGAL_GENERATION: i16 = 22;
const UNKNOWN_MEMBER: i16 = 25;
const REBALANCE_IN_PROGRESS: i16 = 27;
const FENCED_INSTANCE: i16 = 82;

/// How long after one commit the next one is made at the earliest, unless something waits for it: a
/// commit costs the broker as much as a batch of messages.
const PACE: Duration = Duration::from_millis(50);

/// Commits what is settled: from time to time, when many settlements have come together, and when
/// something waits for it.
pub(super) async fn run(member: Arc<Member>, group: String, instance: Option<String>) {
    let patterns = hash_of(&member.source.patterns);
    let interval = member.shared.config.commit_interval;
    let mut backoff = Backoff::default();
    let mut coordinator = None;
    let mut next = Instant::now() + interval;
    let mut paced = Instant::now();
    loop {
        let all = tokio::select! {
            () = asked(&member, paced) => false,
            () = sleep_until(next) => true,
            () = member.ended.cancelled() => return,
            () = member.shared.dead.cancelled() => return,
        };
        if all {
            next = Instant::now() + interval;
        }
        // Without a generation the keeper says when there is one again.
        while let Some(identity) = member.identity() {
            let commit = member.desk.begin_commit(patterns, MOST);
            if commit.is_empty() {
                break;
            }
            let mut to = (identity, instance.clone(), coordinator);
            let done = send(&member, &group, &mut to, commit).await;
            coordinator = to.2;
            if done {
                backoff.reset();
            } else {
                tokio::select! {
                    () = sleep(backoff.next()) => {}
                    () = member.ended.cancelled() => return,
                    () = member.shared.dead.cancelled() => return,
                }
            }
            if !member.desk.has_waiting_commit() {
                break;
            }
        }
        paced = Instant::now() + PACE;
    }
}

/// Waits until there is something to commit: what somebody waits for at once, and what is only much
/// when its time has come.
async fn asked(member: &Member, paced: Instant) {
    member.desk.commit.notified().await;
    while !member.desk.has_waiting_commit() {
        tokio::select! {
            () = sleep_until(paced) => return,
            () = member.desk.commit.notified() => {}
        }
    }
}

type To = ((i32, String), Option<String>, Option<BrokerId>);

/// Sends one commit; `false` if some of it was not taken.
async fn send(member: &Member, group: &str, to: &mut To, commit: Commit) -> bool {
    let answers = match ask(member, group, to, &commit).await {
        Ok(answers) => answers,
        Err(_) => {
            to.2 = None;
            let all: Vec<Partition> = commit.partitions().cloned().collect();
            member.desk.committed(commit, &all);
            return false;
        }
    };
    let (refused, codes): (Vec<Partition>, Vec<i16>) =
        answers.into_iter().filter(|(_, code)| *code != 0).unzip();
    let denial = refused.iter().zip(&codes).find_map(|(partition, code)| {
        denied(*code, &format!("group {group}, topic {}", partition.topic))
    });
    let of_membership =
        [ILLEGAL_GENERATION, UNKNOWN_MEMBER, REBALANCE_IN_PROGRESS, FENCED_INSTANCE];
    let refusal = codes.iter().copied().find(|code| of_membership.contains(code));
    let generation = to.0.0;
    let refusal = refusal.map(|code| Event::Refused { generation, code });
    let event = denial.map(Event::Denied).or(refusal);
    if let Some(event) = event {
        // The keeper has ended if nobody listens, and with it everything here.
        drop(member.notices.send(event).await);
    } else if !codes.is_empty() {
        to.2 = None;
    }
    let taken = refused.is_empty();
    member.desk.committed(commit, &refused);
    taken
}

async fn ask(
    member: &Member,
    group: &str,
    to: &mut To,
    commit: &Commit,
) -> Result<Vec<(Partition, i16)>> {
    let cluster = &member.shared.cluster;
    let ((generation, id), instance, coordinator) = to;
    let coordinator = match coordinator {
        Some(known) => *known,
        none => *none.insert(cluster.coordinator(group).await?),
    };
    let connection = cluster.broker(coordinator).await?;
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for one in &commit.places {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(one.partition.number)
            .with_committed_offset(one.progress.base)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(StrBytes::from_string(
                one.progress.encode_with(&member.source.patterns),
            )));
        topics.entry(&one.partition.topic).or_default().push(partition);
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        OffsetCommitRequestTopic::default()
            .with_name(TopicName(text(topic)))
            .with_partitions(partitions)
    });
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id_or_member_epoch(*generation)
        .with_member_id(text(id))
        .with_group_instance_id(instance.as_deref().map(text))
        .with_topics(topics.collect());
    if commit.places.is_empty() {
        return Ok(Vec::new());
    }
    let answer = connection.call(&request, cluster.deadline()).await?;
    let mut codes = Vec::new();
    for topic in &answer.topics {
        let name: Arc<str> = (&**topic.name).into();
        codes.extend(
            topic.partitions.iter().map(|one| {
                (Partition::new(Arc::clone(&name), one.partition_index), one.error_code)
            }),
        );
    }
    if codes.len() < commit.places.len() {
        return Err(from_code(-1, &format!("group {group}")));
    }
    Ok(codes)
}
