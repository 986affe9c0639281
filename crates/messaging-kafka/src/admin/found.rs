//! What the cluster has of ours: topics, groups, and what each group has committed.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use kafka_protocol::messages::{DescribeGroupsRequest, GroupId, ListGroupsRequest};
use kafka_protocol::protocol::StrBytes;
use messaging_core::driver::Backoff;
use messaging_core::{ErrorKind, GroupName, Patterns, Result, StreamName};
use tokio::time::{Instant, sleep};

use super::spec::{Content, content};
use crate::cluster::{Cluster, Topic};
use crate::config::KafkaConfig;
use crate::driver::Shared;
use crate::error::from_code;
use crate::group::Partition;
use crate::group::claim::Claim;
use crate::offsets::metadata::{Progress, hash_of, patterns_told};
use crate::subscription::places::{Committed, all_committed};

/// How long an answer that passes is waited for, such as that a coordinator is not known yet.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many groups are asked about at once.
const AT_ONCE: usize = 16;
const NOT_FOUND: i16 = 69;

/// Asks again while the answer may pass.
pub(crate) async fn patiently<T, F>(cluster: &Cluster, ask: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let until = Instant::now() + PATIENCE;
    let mut backoff = Backoff::doubling();
    loop {
        match ask().await {
            Err(error) if error.is_retryable() && Instant::now() < until => {
                sleep(backoff.next()).await;
                // What keeps the view from being renewed is noticed at the next try.
                drop(cluster.refresh().await);
            }
            outcome => return outcome,
        }
    }
}

/// A group as the cluster has it.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// Its name at the cluster.
    pub(super) id: String,
    /// Its name with us.
    pub(super) name: GroupName,
    /// The dead letters that it receives in place of subjects.
    pub(super) dead_letters: Option<StreamName>,
    pub(super) commits: BTreeMap<Partition, Committed>,
}

impl Group {
    /// The patterns that its last members left, as text, and whether they are these; `None` where
    /// nothing says so.
    pub(super) fn left(&self, asked: &Patterns) -> Option<(String, bool)> {
        let mut known = self.commits.values().filter_map(|place| {
            let progress = Progress::decode(&place.metadata, place.offset)?;
            let told = patterns_told(&place.metadata, progress.patterns);
            Some((told, progress.patterns == hash_of(asked)))
        });
        let first = known.next();
        // One that differs is one too many.
        known.find(|(_, same)| !same).or(first)
    }
}

/// The groups that have a place in a topic of ours, or retries.
pub(super) async fn groups(shared: &Shared, topics: &[Topic]) -> Result<Vec<Group>> {
    let prefix = &shared.config.prefix;
    let mut ids = patiently(&shared.cluster, || list(&shared.cluster)).await?;
    let mut with_retries = BTreeSet::new();
    for topic in topics {
        if let Some(Content::Retry(group)) = content(prefix, &topic.name) {
            with_retries.insert(shared.group_id(&group, None));
        }
    }
    ids.extend(with_retries.iter().cloned());
    let found = stream::iter(ids).map(|id| async move {
        let Some((name, dead_letters)) = named(prefix, &id) else { return Ok(None) };
        let committed = patiently(&shared.cluster, || all_committed(&shared.cluster, &id)).await;
        let mut commits = match committed {
            // One of another kind, or not for our eyes.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Denied) => {
                BTreeMap::new()
            }
            committed => committed?,
        };
        commits.retain(|partition, _| content(prefix, &partition.topic).is_some());
        Ok::<_, messaging_core::Error>(Some(Group { id, name, dead_letters, commits }))
    });
    let found: Vec<Option<Group>> = found.buffered(AT_ONCE).try_collect().await?;
    let is_ours = |group: &Group| !group.commits.is_empty() || with_retries.contains(&group.id);
    Ok(found.into_iter().flatten().filter(is_ours).collect())
}

/// A group's name with us, and the dead letters that it is about.
fn named(prefix: &str, id: &str) -> Option<(GroupName, Option<StreamName>)> {
    let id = match prefix {
        KafkaConfig::PREFIX => id,
        prefix => id.strip_prefix(prefix)?.strip_prefix(".group.")?,
    };
    let (name, stream) = match id.split_once(".dlq.") {
        Some((name, stream)) => (name, Some(StreamName::dead_letters(stream).ok()?)),
        None => (id, None),
    };
    Some((name.parse().ok()?, stream))
}

/// The names of all groups of consumers, whoever made them.
async fn list(cluster: &Cluster) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for broker in cluster.brokers() {
        let connection = cluster.broker(broker).await?;
        let answer = connection.call(&ListGroupsRequest::default(), cluster.deadline()).await?;
        if answer.error_code != 0 {
            return Err(from_code(answer.error_code, "groups"));
        }
        all.extend(answer.groups.into_iter().map(|group| group.group_id.to_string()));
    }
    Ok(all)
}

/// The members of a group, with the patterns that each presents; `None` if there is no such group.
pub(super) async fn members(cluster: &Cluster, id: &str) -> Result<Option<Vec<Option<String>>>> {
    patiently(cluster, || describe(cluster, id)).await
}

async fn describe(cluster: &Cluster, id: &str) -> Result<Option<Vec<Option<String>>>> {
    let coordinator = cluster.coordinator(id).await?;
    let connection = cluster.broker(coordinator).await?;
    let request = DescribeGroupsRequest::default()
        .with_groups(vec![GroupId(StrBytes::from_string(id.to_owned()))]);
    let answer = connection.call(&request, cluster.deadline()).await?;
    let Some(group) = answer.groups.into_iter().next() else {
        return Err(from_code(-1, &format!("group {id}")));
    };
    match group.error_code {
        0 if &*group.group_state == "Dead" => return Ok(None),
        0 => {}
        NOT_FOUND => return Ok(None),
        code => return Err(from_code(code, &format!("group {id}"))),
    }
    let patterns = |metadata: &[u8]| Claim::decode(metadata).map(|claim| claim.patterns.join(" "));
    let members = group.members.iter().map(|member| patterns(&member.member_metadata));
    Ok(Some(members.collect()))
}

/// Waits this long until a group has no members: one that is leaving needs a moment. `false` if it
/// still has. Nothing tells when the last one is gone.
pub(super) async fn is_empty(cluster: &Cluster, id: &str, within: Duration) -> Result<bool> {
    let until = Instant::now() + within;
    let mut backoff = Backoff::doubling();
    loop {
        let members = members(cluster, id).await?.unwrap_or_default();
        if members.is_empty() || Instant::now() >= until {
            return Ok(members.is_empty());
        }
        sleep(backoff.next() / 2).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_of_dead_letters_is_told_from_one_of_subjects_and_from_foreign_ones() {
        let group: GroupName = "worker-1".parse().unwrap();
        assert_eq!(named("helixagent", "worker-1"), Some((group.clone(), None)));
        let dead = StreamName::dead_letters("tasks").unwrap();
        assert_eq!(named("helixagent", "worker-1.dlq.tasks"), Some((group, Some(dead))));
        for foreign in ["a.b", "a.dlq.", "a.dlq.b.c", ".dlq.tasks", ""] {
            assert_eq!(named("helixagent", foreign), None, "{foreign}");
        }
        let ours = named("helix.test", "helix.test.group.worker-1");
        assert_eq!(ours, Some(("worker-1".parse().unwrap(), None)));
        assert_eq!(named("helix.test", "worker-1"), None);
    }
}
