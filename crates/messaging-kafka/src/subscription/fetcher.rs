//! Fetching: tasks for each broker that leads something of ours.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{BrokerId as Id, FetchRequest, FetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use messaging_core::driver::{Backoff, Event, Gap, Parked};
use messaging_core::{Error, ErrorKind, Result};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::TaskTracker;

use super::desk::Wanted;
use super::member::Member;
use super::places::{EARLIEST, LATEST, offset_at};
use crate::cluster::BrokerId;
use crate::config::OutOfRange;
use crate::connection::Connection;
use crate::error::{denied, from_code};
use crate::read::aborted::Aborted;
use crate::read::batch::{Batch, Batches};

/// The most bytes of an answer. A batch that is larger comes alone.
const ANSWER: i32 = 16 << 20;
/// The most bytes of one partition in an answer, unless its batches of late were larger: a broker passes
/// over a partition whose next batch is larger than that, except where it comes first.
const PARTITION: i32 = 1 << 20;
/// The most that is asked for because of large batches.
const LARGEST: i32 = 4 << 20;
/// The most bytes that one batch may have once it is decompressed, and about the most of an answer.
const BATCH: usize = 64 << 20;
/// What is smaller is copied out of its answer: as a part of it, a message that waits would keep all of
/// it.
const SMALL: usize = 64 << 10;
/// How long a fetch waits at the broker while there are partitions that it does not ask for, as they may
/// have room again soon: twice as long each time that nothing comes, and at most so long.
const SOON: Duration = Duration::from_millis(2);
const SOON_AT_MOST: Duration = Duration::from_millis(50);

/// How many tasks fetch from one broker, each over its own connection and its share of the partitions:
/// while what one of them got is taken apart, the broker answers another.
const FETCHERS: u32 = 2;

const OUT_OF_RANGE: i16 = 1;

/// Finds out who leads what, and keeps tasks for each of them.
pub(super) async fn run(member: Arc<Member>) {
    let tasks = TaskTracker::new();
    let mut running: HashSet<BrokerId> = HashSet::new();
    let mut backoff = Backoff::default();
    loop {
        let room = member.desk.room.notified();
        tokio::pin!(room);
        room.as_mut().enable();
        let mut missing = false;
        for (lane, partition) in member.desk.leaderless() {
            match member.shared.cluster.leader(&partition.topic, partition.number).await {
                Ok(leader) => {
                    let topic = member.shared.cluster.topic_id(&partition.topic);
                    if let Some(before) = member.desk.set_topic(lane, topic) {
                        missing |= !begin_anew(&member, &before).await;
                        continue;
                    }
                    member.desk.set_leader(lane, Some(leader));
                    if running.insert(leader) {
                        for share in 0..FETCHERS {
                            tasks.spawn(follow(Arc::clone(&member), leader, share));
                        }
                    }
                }
                Err(_) => missing = true,
            }
        }
        let retry = async {
            if missing {
                sleep(backoff.next()).await;
                // What keeps it from being renewed is noticed at the next try.
                drop(member.shared.cluster.refresh().await);
            } else {
                backoff.reset();
                std::future::pending().await
            }
        };
        tokio::select! {
            () = retry => {}
            () = room => {}
            () = member.left.cancelled() => break,
            () = member.ended.cancelled() => break,
            () = member.shared.dead.cancelled() => break,
        }
    }
    tasks.close();
    tasks.wait().await;
}

/// A topic was deleted and created again: everything in it is new. `false` if that has to wait.
async fn begin_anew(member: &Member, before: &Wanted) -> bool {
    let partition = &before.place.partition;
    let Ok(first) = offset_at(&member.shared.cluster, partition, EARLIEST).await else {
        return false;
    };
    let reason = format!(
        "{partition}: it was deleted and created anew, and {} was next of the old one",
        before.offset
    );
    member.desk.tell(Event::Gap(Gap::new(None, reason)));
    member.desk.restart(before, first);
    true
}

/// Fetches from one broker whatever is wanted of a share of its partitions.
async fn follow(member: Arc<Member>, broker: BrokerId, share: u32) {
    let mut source = Source {
        member,
        broker,
        connection: None,
        broken: false,
        doubtful: HashMap::new(),
        largest: HashMap::new(),
        moved: Vec::new(),
        alone: 0,
    };
    let mut backoff = Backoff::default();
    let mut turn = 0_usize;
    let mut soon = SOON;
    let member = Arc::clone(&source.member);
    loop {
        let room = member.desk.room.notified();
        tokio::pin!(room);
        room.as_mut().enable();
        let share = |lane| lane % FETCHERS == share;
        let (mut wanted, full) = member.desk.wanted(broker, share, turn);
        turn = turn.wrapping_add(1);
        if source.alone > 0 {
            source.alone -= 1;
            wanted.truncate(1);
        }
        let round = async {
            if wanted.is_empty() {
                room.await;
                return;
            }
            let most = member.shared.config.max_wait;
            let wait = if full { soon.min(most) } else { most };
            let fetched = source.fetch(&wanted, wait).await;
            let waits_longer = full && matches!(fetched, Ok(false));
            soon = if waits_longer { (2 * soon).min(SOON_AT_MOST) } else { SOON };
            match fetched {
                Ok(_) if source.moved.is_empty() => return backoff.reset(),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::TooLarge { .. }) => {
                    return source.too_large(&wanted, &error);
                }
                Err(_) => source.give_up(&wanted),
            }
            sleep(backoff.next()).await;
            drop(member.shared.cluster.refresh().await);
            // Only now a newer view says who leads them.
            source.moved.drain(..).for_each(|lane| member.desk.set_leader(lane, None));
        };
        tokio::select! {
            () = round => {}
            () = member.left.cancelled() => return,
            () = member.ended.cancelled() => return,
            () = member.shared.dead.cancelled() => return,
        }
    }
}

struct Source {
    member: Arc<Member>,
    broker: BrokerId,
    connection: Option<Connection>,
    /// Whether the connection was lost since it last brought something.
    broken: bool,
    /// Where a batch could not be read once: it is read again before it is given up.
    doubtful: HashMap<u32, i64>,
    /// How many bytes the largest batch has of those that came of late; with each answer it counts
    /// for a quarter less.
    largest: HashMap<u32, i32>,
    /// What the broker does not lead any more.
    moved: Vec<u32>,
    /// How many times one partition is asked for by itself.
    alone: usize,
}

impl Source {
    fn give_up(&mut self, wanted: &[Wanted]) {
        self.broken |= self.connection.is_some();
        if let Some(connection) = self.connection.take() {
            connection.end();
        }
        wanted.iter().for_each(|one| self.member.desk.set_leader(one.lane, None));
    }

    /// Only the first batch of an answer may be larger than what was asked for (KIP-74). Whose it is shows
    /// when each partition is asked for alone; it is put aside, offset by offset, as nothing says where
    /// it ends.
    fn too_large(&mut self, wanted: &[Wanted], error: &Error) {
        self.connection = None;
        let [one] = wanted else {
            self.alone = wanted.len();
            return;
        };
        // A length may have been damaged on its way.
        if self.doubtful.insert(one.lane, one.offset) == Some(one.offset) {
            self.park(one, &format!("offset {}: {error}", one.offset));
            self.member.desk.fetched(one, Vec::new(), one.offset + 1);
        }
    }

    /// Whether there was something.
    async fn fetch(&mut self, wanted: &[Wanted], wait: Duration) -> Result<bool> {
        let connection = match &self.connection {
            Some(open) if !open.is_ended() => open.clone(),
            _ => {
                let opened = self.member.shared.cluster.dedicated(self.broker).await?;
                self.connection.insert(opened).clone()
            }
        };
        let deadline = self.member.shared.cluster.deadline() + wait;
        let answer = connection.call(&self.request(wanted, wait), deadline).await?;
        if answer.error_code != 0 {
            return Err(from_code(answer.error_code, "fetch"));
        }
        if std::mem::take(&mut self.broken) {
            self.member.desk.tell(Event::Reconnected);
        }
        let throttled = Duration::from_millis(u64::try_from(answer.throttle_time_ms).unwrap_or(0));
        let until = Instant::now() + throttled;
        let came = self.take(wanted, answer).await;
        sleep_until(until).await;
        Ok(came)
    }

    async fn take(&mut self, wanted: &[Wanted], answer: FetchResponse) -> bool {
        let by_place: HashMap<(&str, i32), &Wanted> = wanted
            .iter()
            .map(|one| ((&*one.place.partition.topic, one.place.partition.number), one))
            .collect();
        let mut room = BATCH;
        let mut came = false;
        for topic in answer.responses {
            for data in topic.partitions {
                let place = (&*topic.topic.0, data.partition_index);
                let Some(wanted) = by_place.get(&place) else { continue };
                match data.error_code {
                    0 => came |= self.read(wanted, data, &mut room),
                    OUT_OF_RANGE => self.out_of_range(wanted).await,
                    code => match denied(code, place.0) {
                        Some(error) => self.member.refuse(error),
                        // Somebody else leads it by now, or will soon.
                        None => self.moved.push(wanted.lane),
                    },
                }
            }
        }
        came
    }

    /// Whether it brought its partition on.
    fn read(&mut self, wanted: &Wanted, data: PartitionData, room: &mut usize) -> bool {
        let Some(records) = data.records.filter(|records| !records.is_empty()) else {
            return false;
        };
        let records = match records.len() < SMALL {
            true => Bytes::copy_from_slice(&records),
            false => records,
        };
        let aborted = data.aborted_transactions.unwrap_or_default();
        let aborted = aborted.iter().map(|one| (one.producer_id.0, one.first_offset));
        let mut read = Vec::new();
        let mut next = wanted.offset;
        let mut batches = Batches::new(records, Aborted::new(aborted), BATCH).with_room(*room);
        for batch in &mut batches {
            let end = batch.next();
            match batch {
                Batch::Records { records, .. } => read.push(records),
                Batch::Passed { .. } => {}
                Batch::Bad { from, reason, .. } => {
                    let from = from.max(wanted.offset);
                    if self.doubtful.insert(wanted.lane, from) != Some(from) {
                        // It may have been damaged on its way.
                        break;
                    }
                    self.park(wanted, &format!("offsets {from} to {}: {reason}", end - 1));
                }
            }
            next = next.max(end);
        }
        *room = batches.room();
        if let Some(largest) = batches.largest() {
            let before = self.largest.entry(wanted.lane).or_default();
            *before = i32::try_from(largest).unwrap_or(i32::MAX).max(*before - *before / 4);
        }
        let came = next > wanted.offset;
        if came {
            self.member.desk.fetched(wanted, read, next);
        }
        came
    }

    fn park(&self, wanted: &Wanted, reason: &str) {
        let reason = format!("{}: {reason}", wanted.place.partition);
        self.member.desk.tell(Event::Parked(Parked::new(reason)));
    }

    /// What is wanted is not kept any more, or not there yet because the log was cut back or created
    /// anew. Nothing that is kept is skipped, and where that is asked for the subscription ends.
    async fn out_of_range(&mut self, wanted: &Wanted) {
        let cluster = &self.member.shared.cluster;
        let partition = &wanted.place.partition;
        let (Ok(first), Ok(end)) = (
            offset_at(cluster, partition, EARLIEST).await,
            offset_at(cluster, partition, LATEST).await,
        ) else {
            self.moved.push(wanted.lane);
            return;
        };
        let desk = &self.member.desk;
        let next = wanted.offset;
        let expired = next < first;
        let reason = match expired {
            true => format!("{partition}: offsets {next} to {} are not kept any more", first - 1),
            false => format!(
                "{partition}: it ends at {end}, and {next} was next: it was cut back or created anew"
            ),
        };
        if !expired && next <= end {
            return;
        }
        if self.member.shared.config.out_of_range == OutOfRange::Fail {
            self.member.refuse(Error::new(ErrorKind::NotFound, reason));
        } else if expired {
            desk.tell(Event::Gap(Gap::new(Some(first.abs_diff(next)), reason)));
            desk.fetched(wanted, Vec::new(), first);
        } else {
            desk.tell(Event::Gap(Gap::new(None, reason)));
            desk.restart(wanted, first);
        }
    }

    fn request(&self, wanted: &[Wanted], wait: Duration) -> FetchRequest {
        let mut topics: Vec<FetchTopic> = Vec::new();
        for one in wanted {
            let largest = self.largest.get(&one.lane).copied().unwrap_or(0);
            let most = largest.clamp(PARTITION, LARGEST);
            let partition = FetchPartition::default()
                .with_partition(one.place.partition.number)
                .with_current_leader_epoch(-1)
                .with_fetch_offset(one.offset)
                .with_last_fetched_epoch(-1)
                .with_log_start_offset(-1)
                .with_partition_max_bytes(most);
            let topic = &one.place.partition.topic;
            match topics.last_mut().filter(|last| *last.topic.0 == **topic) {
                Some(last) => last.partitions.push(partition),
                None => {
                    let name = TopicName(StrBytes::from_string(topic.to_string()));
                    let new =
                        FetchTopic::default().with_topic(name).with_partitions(vec![partition]);
                    topics.push(new);
                }
            }
        }
        FetchRequest::default()
            .with_replica_id(Id(-1))
            .with_max_wait_ms(i32::try_from(wait.as_millis()).unwrap_or(i32::MAX))
            .with_min_bytes(1)
            .with_max_bytes(ANSWER)
            .with_isolation_level(1)
            .with_session_id(0)
            .with_session_epoch(-1)
            .with_topics(topics)
    }
}
