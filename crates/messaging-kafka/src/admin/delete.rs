//! Deleting what the topology does not name.

use std::time::Duration;

use kafka_protocol::messages::{DeleteGroupsRequest, GroupId};
use kafka_protocol::protocol::StrBytes;
use messaging_core::driver::Target;
use messaging_core::{Error, ErrorKind, GroupName, Result, StreamName};

use super::found::{self, Group, patiently};
use super::group::forget;
use super::spec::{Content, content};
use crate::cluster::{Cluster, Topic};
use crate::driver::Shared;
use crate::error::from_code;
use crate::group::Partitions;
use crate::subscription::places::all_committed;
use crate::topics;

/// How long members may take to leave that are leaving.
const LEAVING: Duration = Duration::from_secs(1);
const NOT_EMPTY: i16 = 68;
const NOT_FOUND: i16 = 69;

/// Deletes a stream that no group with members receives, with its dead letters; or a group that has
/// no members, with what waits for it.
pub(super) async fn delete(shared: &Shared, target: &Target) -> Result<()> {
    let known = shared.cluster.metadata(None).await?;
    let groups = found::groups(shared, &known).await?;
    match target {
        Target::Stream(name) => delete_stream(shared, &known, &groups, name, target).await,
        Target::Group(name) => delete_group(shared, &known, &groups, name, target).await,
        _ => Err(missing(target)),
    }
}

async fn delete_stream(
    shared: &Shared,
    known: &[Topic],
    groups: &[Group],
    name: &StreamName,
    target: &Target,
) -> Result<()> {
    let cluster = &shared.cluster;
    let mut names = vec![shared.topic(name)];
    if !name.is_dead_letters() {
        names.push(shared.topic(&name.to_dead_letters()));
    }
    names.retain(|name| known.iter().any(|topic| topic.name == *name));
    if names.is_empty() {
        return Err(missing(target));
    }
    let receives = |group: &&Group| {
        group.commits.keys().any(|partition| names.iter().any(|name| **name == *partition.topic))
    };
    for group in groups.iter().filter(receives) {
        if !found::is_empty(cluster, &group.id, LEAVING).await? {
            return Err(in_use(target, &group.id));
        }
    }
    for name in &names {
        topics::delete(cluster, name).await?;
    }
    let dead = name.to_dead_letters();
    for group in groups.iter().filter(|group| group.dead_letters.as_ref() == Some(&dead)) {
        remove(shared, &group.id).await?;
    }
    Ok(())
}

async fn delete_group(
    shared: &Shared,
    known: &[Topic],
    groups: &[Group],
    name: &GroupName,
    target: &Target,
) -> Result<()> {
    let id = shared.group_id(name, None);
    let Some(group) = groups.iter().find(|group| group.id == id) else {
        return Err(missing(target));
    };
    if !found::is_empty(&shared.cluster, &group.id, LEAVING).await? {
        return Err(in_use(target, &group.id));
    }
    // The group goes first: one that comes back meanwhile is refused, and nothing is touched.
    remove(shared, &group.id).await?;
    let prefix = &shared.config.prefix;
    for topic in known {
        if matches!(content(prefix, &topic.name), Some(Content::Retry(of)) if of == *name) {
            topics::delete(&shared.cluster, &topic.name).await?;
        }
    }
    Ok(())
}

/// Removes a group; one that has places elsewhere too, under another prefix, loses those here.
async fn remove(shared: &Shared, id: &str) -> Result<()> {
    let cluster = &shared.cluster;
    let all = patiently(cluster, || all_committed(cluster, id)).await?;
    let (ours, others): (Partitions, Partitions) = all
        .into_keys()
        .partition(|partition| content(&shared.config.prefix, &partition.topic).is_some());
    match others.is_empty() {
        true => patiently(cluster, || delete_whole(cluster, id)).await,
        false => forget(cluster, id, &ours).await,
    }
}

async fn delete_whole(cluster: &Cluster, id: &str) -> Result<()> {
    let coordinator = cluster.coordinator(id).await?;
    let request = DeleteGroupsRequest::default()
        .with_groups_names(vec![GroupId(StrBytes::from_string(id.to_owned()))]);
    let connection = cluster.broker(coordinator).await?;
    let answer = connection.call(&request, cluster.deadline()).await?;
    match answer.results.first().map_or(-1, |result| result.error_code) {
        // Only its retries were left of it.
        0 | NOT_FOUND => Ok(()),
        NOT_EMPTY => {
            let text = format!("group {id} has members; nothing was deleted");
            Err(Error::new(ErrorKind::Unavailable, text))
        }
        code => Err(from_code(code, &format!("group {id}"))),
    }
}

fn missing(target: &Target) -> Error {
    Error::new(ErrorKind::NotFound, format!("{target} does not exist"))
}

fn in_use(target: &Target, id: &str) -> Error {
    let text = format!("{target} is in use: group {id} has members; nothing was deleted");
    Error::new(ErrorKind::Unavailable, text)
}
