//! What waits for a group.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use messaging_core::driver::Lag;
use messaging_core::{Error, ErrorKind, GroupName, Result, StreamName};

use super::found::{self, Group, patiently};
use super::spec::{Content, content};
use crate::driver::Shared;
use crate::group::Partition;
use crate::offsets::metadata::Progress;
use crate::read::range::Range;
use crate::subscription::places::{LATEST, offset_at};
use crate::subscription::stream_of_retry;

/// How much is fetched to see how old a message is. A batch that is larger comes alone.
const LOOK: i32 = 4 * 1024;
/// How much is fetched at a time to see whose the retries are, and how many are looked at.
const PAGE: i32 = 1 << 20;
const MOST: usize = 10_000;

/// How far a group has come in one partition.
struct Standing {
    /// Everything below it is settled.
    mark: i64,
    /// Messages handed over and not settled.
    in_hand: u64,
    /// Where the partition ends.
    end: i64,
}

impl Standing {
    const fn unsettled(&self) -> u64 {
        if self.end > self.mark { self.end.abs_diff(self.mark) } else { 0 }
    }
}

/// One row a stream and group. Both numbers together are what Kafka's own tool prints for the stream,
/// and what waits in the group's retry topics: all from the mark to the end, also what was settled
/// out of order. What members of other processes have in hand is as of their last commit.
pub(super) async fn lag(shared: &Shared, wanted: Option<&GroupName>) -> Result<Vec<Lag>> {
    let known = shared.cluster.metadata(None).await?;
    let groups = found::groups(shared, &known).await?;
    let is_wanted = |group: &&Group| wanted.is_none_or(|wanted| *wanted == group.name);
    let groups: Vec<&Group> = groups.iter().filter(is_wanted).collect();
    if let (Some(wanted), true) = (wanted, groups.is_empty()) {
        let text = format!("group {wanted} does not exist");
        return Err(Error::new(ErrorKind::NotFound, text));
    }
    let mut rows = Vec::new();
    for group in groups {
        rows.extend(rows_of(shared, group).await?);
    }
    Ok(rows)
}

async fn rows_of(shared: &Shared, group: &Group) -> Result<Vec<Lag>> {
    let mut rows: BTreeMap<StreamName, Lag> = BTreeMap::new();
    let mut retries = Vec::new();
    let now = SystemTime::now();
    for (partition, standing) in standings(shared, group).await? {
        match content(&shared.config.prefix, &partition.topic) {
            Some(Content::Stream(stream)) => {
                let row = row(&mut rows, group, &stream);
                let in_hand = standing.in_hand.min(standing.unsettled());
                row.in_hand += in_hand;
                row.waiting += standing.unsettled() - in_hand;
                row.oldest = row.oldest.max(age(shared, partition, &standing, now).await?);
            }
            Some(Content::Retry(_)) if standing.unsettled() > 0 => {
                retries.push((partition, standing));
            }
            _ => {}
        }
    }
    for (partition, standing) in retries {
        add_retries(shared, group, partition, &standing, now, &mut rows).await?;
    }
    Ok(rows.into_values().collect())
}

fn row<'a>(
    rows: &'a mut BTreeMap<StreamName, Lag>,
    group: &Group,
    stream: &StreamName,
) -> &'a mut Lag {
    let new = || Lag::new(stream.clone(), group.name.clone(), 0, 0, None);
    rows.entry(stream.clone()).or_insert_with(new)
}

/// What is ours we know ourselves; of everything else, what was committed counts.
async fn standings(shared: &Shared, group: &Group) -> Result<Vec<(Partition, Standing)>> {
    let cluster = &shared.cluster;
    let members = found::members(cluster, &group.id).await?.unwrap_or_default();
    let mut marks: HashMap<Partition, (i64, u64)> = HashMap::new();
    for (partition, place) in &group.commits {
        let in_hand = match Progress::decode(&place.metadata, place.offset) {
            // With a limit, somebody may have in hand what was not settled; unless nobody is there.
            Some(Progress { limit: Some(_), open, .. }) if !members.is_empty() => open.len() as u64,
            _ => 0,
        };
        marks.insert(partition.clone(), (place.offset, in_hand));
    }
    for member in shared.members_of(&group.id) {
        for count in member.desk.counts() {
            marks.insert(count.partition, (count.mark, count.in_hand));
        }
    }
    let standing = marks.into_iter().map(|(partition, (mark, in_hand))| async move {
        match patiently(cluster, || offset_at(cluster, &partition, LATEST)).await {
            Ok(end) => Ok(Some((partition, Standing { mark, in_hand, end }))),
            // Its topic was deleted, and the place in it soon will be.
            Err(error) if *error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    });
    let mut all: Vec<(Partition, Standing)> =
        futures::future::try_join_all(standing).await?.into_iter().flatten().collect();
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(all)
}

/// How old the oldest unsettled message of a partition is.
async fn age(
    shared: &Shared,
    partition: Partition,
    standing: &Standing,
    now: SystemTime,
) -> Result<Option<Duration>> {
    let mut range = Range::new(partition, standing.mark, standing.end, LOOK);
    let page = range.page(&shared.cluster).await?;
    let first = page.and_then(|page| page.records.into_iter().next());
    Ok(first.map(|record| now.duration_since(record.stored_at()).unwrap_or_default()))
}

/// Adds retries to the streams of which they are. Those that are not looked at count for the first.
async fn add_retries(
    shared: &Shared,
    group: &Group,
    partition: Partition,
    standing: &Standing,
    now: SystemTime,
    rows: &mut BTreeMap<StreamName, Lag>,
) -> Result<()> {
    let mut range = Range::new(partition, standing.mark, standing.end, PAGE);
    let (mut left, mut in_hand) = (standing.unsettled(), standing.in_hand);
    let mut looked_at = 0;
    while looked_at < MOST
        && let Some(page) = range.page(&shared.cluster).await?
    {
        looked_at += page.records.len();
        for record in &page.records {
            let Some(stream) = stream_of_retry(record) else { continue };
            let row = row(rows, group, &stream);
            // The first of them are the ones in hand.
            let held = u64::from(in_hand > 0);
            in_hand -= held;
            row.in_hand += held;
            row.waiting += 1 - held;
            left = left.saturating_sub(1);
            let age = now.duration_since(record.stored_at()).unwrap_or_default();
            row.oldest = row.oldest.max(Some(age));
        }
    }
    if let Some(row) = rows.values_mut().next() {
        row.waiting += left;
    }
    Ok(())
}
