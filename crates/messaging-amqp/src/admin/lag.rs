//! What waits for a group.

use std::time::Duration;

use messaging_core::driver::Lag;
use messaging_core::{Error, ErrorKind, GroupName, Result, StreamName, Topology};
use tokio::time::{Instant, sleep};

use super::found::Found;
use super::site::Site;
use crate::management::Api;

/// How long the server's first statistics of a queue may take: it makes them every five seconds, of
/// quorum queues from figures as old as that.
const STATISTICS: Duration = Duration::from_secs(15);

/// How often they are asked for until then.
const PAUSE: Duration = Duration::from_millis(500);

/// One row a group: a queue does not tell its messages' streams apart, so all of it counts for the
/// first of them. What waits is as of now; what is in hand, and what is on its way from a retry, as
/// of the server's last statistics; no queue tells how old its messages are.
pub(super) async fn lag(
    site: &Site<'_>,
    topology: &Topology,
    wanted: Option<&GroupName>,
) -> Result<Vec<Lag>> {
    let api = site.api("lag")?;
    let found = Found::at(api).await?;
    let mut rows = Vec::new();
    let groups = found.groups(site.names).into_iter();
    for group in groups.filter(|group| wanted.is_none_or(|wanted| wanted == group)) {
        let Some(stream) = stream_of(&found, site, topology, &group) else { continue };
        rows.push(row(site, api, &found, stream, group).await?);
    }
    match wanted {
        Some(wanted) if rows.is_empty() => {
            Err(Error::new(ErrorKind::NotFound, format!("group {wanted} does not exist")))
        }
        _ => Ok(rows),
    }
}

/// The first of the streams that a group receives.
fn stream_of(
    found: &Found,
    site: &Site<'_>,
    topology: &Topology,
    group: &GroupName,
) -> Option<StreamName> {
    let patterns = found.patterns_of(site.names, group)?;
    let mut streams = topology.streams.iter().map(|config| config.name.clone());
    let wants = |name: &StreamName| {
        patterns.iter().any(|it| it.stream().is_none_or(|stream| stream == name.name()))
    };
    let mut own = patterns.iter().filter_map(|it| it.stream()?.parse().ok());
    streams.find(wants).or_else(|| own.next())
}

async fn row(
    site: &Site<'_>,
    api: &Api,
    found: &Found,
    stream: StreamName,
    group: GroupName,
) -> Result<Lag> {
    let copies = found.queues.keys().filter(|name| site.names.is_place_of(&group, name));
    let queues: Vec<&str> =
        [group.as_str()].into_iter().chain(copies.map(String::as_str)).collect();
    let (mut waiting, mut in_hand) = (0, 0);
    for queue in queues {
        let Some(now) = site.look_at(queue).await? else { continue };
        let statistics = found.queues.get(queue);
        // A queue does not count as its own what it is about to forward.
        let forwarded = statistics.and_then(|queue| queue.messages_dlx).unwrap_or_default();
        waiting += now.messages + forwarded;
        let counted = statistics.and_then(|queue| queue.messages_unacknowledged);
        in_hand += match counted {
            Some(count) => count,
            // Nobody has anything in hand of what nobody consumes.
            None if now.consumers == 0 => 0,
            None => first_statistics(api, queue).await?,
        };
    }
    Ok(Lag::new(stream, group, waiting, in_hand, None))
}

/// What is in hand of a queue that the server has no statistics of yet.
async fn first_statistics(api: &Api, queue: &str) -> Result<u64> {
    let deadline = Instant::now() + STATISTICS;
    loop {
        let all = api.queues().await?;
        let found = all.into_iter().find(|it| it.name == queue);
        match found.map(|queue| queue.messages_unacknowledged) {
            Some(Some(count)) => return Ok(count),
            None => return Ok(0),
            Some(None) if Instant::now() < deadline => sleep(PAUSE).await,
            Some(None) => {
                let text = format!("the server has no statistics of queue {queue} yet");
                return Err(Error::new(ErrorKind::Unavailable, text));
            }
        }
    }
}
