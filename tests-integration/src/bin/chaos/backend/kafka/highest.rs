//! A consumer that commits the highest offset it has handled, as many do: what is open below it is
//! skipped by whoever goes on there.
//!
//! Its partitions are its own by number, so that nothing but the commits is wrong with it. It has no
//! dead letters: what always fails counts as handled in the end.

use std::io;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{
    BrokerId, FetchRequest, GroupId, OffsetCommitRequest, OffsetFetchRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{Record, RecordBatchDecoder};
use messaging::lane::lane_of;
use messaging::{Broker, Bytes, Message, MessageId, Subject, SubscribeSpec};
use tests_integration::audit::End;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::raw::Client;
use super::topic;
use crate::consumer::Consumer;
use crate::group::{ATTEMPTS, CONCURRENCY, LANES, PATTERN};
use crate::nature::Nature;
use crate::role::Order;
use crate::wire::{Reporter, Saying};

/// How long it waits before it tries again.
const PAUSE: Duration = Duration::from_millis(200);

/// Works until it is told to end.
pub(crate) async fn run(
    broker: &Broker,
    consumer: Consumer,
    mut orders: mpsc::Receiver<Order>,
    reporter: Reporter,
) -> messaging::Result<()> {
    let ending = Arc::new(AtomicBool::new(false));
    let members = consumer.group.members();
    let mine = (0..LANES).filter(|lane| lane % members == consumer.number - 1);
    let mut all = Vec::new();
    for partition in mine {
        let follow = Follow {
            partition: partition.cast_signed(),
            consumer: consumer.clone(),
            reporter: reporter.clone(),
            ending: Arc::clone(&ending),
            highest: Arc::new(AtomicI64::new(0)),
        };
        let next = follow.start().await;
        if next < 0 {
            // The group has its places from its first subscriber.
            let spec = SubscribeSpec::group(consumer.group.name(), [PATTERN])?;
            drop(broker.subscribe::<Bytes>(spec).await?);
        }
        all.push((follow, next.max(0)));
    }
    let mut following = JoinSet::new();
    for (follow, next) in all {
        following.spawn(follow.run(next));
    }
    reporter.say([Saying::Ready]);
    // Orders can only be to end.
    let _end = orders.recv().await;
    ending.store(true, Ordering::Relaxed);
    following.join_all().await;
    Ok(())
}

/// Works on one partition.
#[derive(Clone)]
struct Follow {
    partition: i32,
    consumer: Consumer,
    reporter: Reporter,
    ending: Arc<AtomicBool>,
    /// The offset behind the highest that was handled.
    highest: Arc<AtomicI64>,
}

impl Follow {
    /// What is committed, below 0 if nothing is.
    async fn start(&self) -> i64 {
        loop {
            if let Ok(mut client) = Client::from_env()
                && let Ok(offset) = self.committed(&mut client).await
            {
                return offset;
            }
            sleep(PAUSE).await;
        }
    }

    async fn run(self, mut next: i64) {
        let Ok(mut client) = Client::from_env() else { return };
        let (mut queues, mut workers) = (Vec::new(), JoinSet::new());
        for _ in 0..CONCURRENCY {
            let (queue, messages) = mpsc::channel(2);
            workers.spawn(self.clone().work(messages));
            queues.push(queue);
        }
        let mut committed = next;
        while !self.ending.load(Ordering::Relaxed) {
            let Ok(records) = self.fetch(&mut client, next).await else {
                sleep(PAUSE).await;
                continue;
            };
            for record in records {
                if record.offset < next {
                    continue;
                }
                next = record.offset + 1;
                let key = record.key.as_deref().unwrap_or_default();
                let lane = NonZeroU32::new(CONCURRENCY).map_or(0, |lanes| lane_of(key, lanes));
                if let Some(queue) = queues.get(lane as usize) {
                    // Whoever works ends after the queue.
                    drop(queue.send(record).await);
                }
                self.commit(&mut client, &mut committed).await;
            }
            self.commit(&mut client, &mut committed).await;
        }
        drop(queues);
        workers.join_all().await;
        while self.highest.load(Ordering::Relaxed) > committed {
            self.commit(&mut client, &mut committed).await;
        }
    }

    async fn work(self, mut records: mpsc::Receiver<Record>) {
        let group = self.consumer.group;
        while let Some(record) = records.recv().await {
            let offset = record.offset;
            let Some(message) = message(record) else { continue };
            let (id, digest) = self.consumer.identity.read(&message);
            let nature = Nature::of(self.consumer.identity.seed, group, id);
            self.reporter.say([Saying::Delivered { group, id, digest, held: None }]);
            for _ in 0..=nature.failures.min(ATTEMPTS - 1) {
                sleep(nature.work).await;
            }
            let handled = Saying::Handled { group, id, end: End::Ok, held: None };
            self.reporter.say([handled, Saying::Acking { group, id }]);
            self.highest.fetch_max(offset + 1, Ordering::Relaxed);
        }
    }

    fn name(&self) -> TopicName {
        TopicName(StrBytes::from_string(topic()))
    }

    fn group(&self) -> GroupId {
        GroupId(StrBytes::from_static_str(self.consumer.group.name()))
    }

    async fn committed(&self, client: &mut Client) -> io::Result<i64> {
        let coordinator = client.coordinator(self.consumer.group.name()).await?;
        let wanted = OffsetFetchRequestTopic::default()
            .with_name(self.name())
            .with_partition_indexes(vec![self.partition]);
        let request = OffsetFetchRequest::default()
            .with_group_id(self.group())
            .with_topics(Some(vec![wanted]));
        let answer = client.ask(&coordinator, &request, 7).await?;
        let found = answer.topics.iter().flat_map(|topic| &topic.partitions).next();
        match found.filter(|found| found.error_code == 0 && answer.error_code == 0) {
            Some(found) => Ok(found.committed_offset),
            None => Err(io::Error::other("no offset")),
        }
    }

    async fn commit(&self, client: &mut Client, committed: &mut i64) {
        let highest = self.highest.load(Ordering::Relaxed);
        if highest <= *committed {
            return;
        }
        let place = OffsetCommitRequestPartition::default()
            .with_partition_index(self.partition)
            .with_committed_offset(highest);
        let topic =
            OffsetCommitRequestTopic::default().with_name(self.name()).with_partitions(vec![place]);
        let request = OffsetCommitRequest::default()
            .with_group_id(self.group())
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic]);
        let Ok(coordinator) = client.coordinator(self.consumer.group.name()).await else {
            return sleep(PAUSE).await;
        };
        let answered = client.ask(&coordinator, &request, 8).await;
        let is_taken = answered.is_ok_and(|answer| {
            let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
            partitions.map(|it| it.error_code).eq([0])
        });
        if is_taken {
            *committed = highest;
        }
    }

    async fn fetch(&self, client: &mut Client, offset: i64) -> io::Result<Vec<Record>> {
        let leaders = client.leaders(&topic()).await?;
        let leader = leaders.get(&self.partition).ok_or_else(|| io::Error::other("no leader"))?;
        let partition = FetchPartition::default()
            .with_partition(self.partition)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(64 * 1024);
        let topic = FetchTopic::default().with_topic(self.name()).with_partitions(vec![partition]);
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(100)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        let answer = client.ask(leader, &request, 11).await?;
        let mut all = Vec::new();
        for data in answer.responses.into_iter().flat_map(|topic| topic.partitions) {
            if data.error_code != 0 {
                return Err(io::Error::other(format!("a fetch failed: {}", data.error_code)));
            }
            let mut records = data.records.unwrap_or_default();
            records.truncate(whole(&records));
            let batches = RecordBatchDecoder::decode_all(&mut records).map_err(io::Error::other)?;
            all.extend(batches.into_iter().flat_map(|batch| batch.records));
        }
        Ok(all)
    }
}

/// How many bytes whole batches have: the broker cuts the last one where an answer is full.
fn whole(records: &[u8]) -> usize {
    let mut end = 0;
    while let Some(length) = records.get(end + 8..).and_then(|rest| rest.first_chunk()) {
        let next = end + 12 + u32::from_be_bytes(*length) as usize;
        if next > records.len() {
            break;
        }
        end = next;
    }
    end
}

/// The message that a record is.
fn message(record: Record) -> Option<Message> {
    let Record { key, value, headers, .. } = record;
    let text = |name: &str| {
        let value = headers.iter().find(|(known, _)| known.as_str() == name)?.1.as_ref()?;
        std::str::from_utf8(value).ok()
    };
    let subject: Subject = text("subject")?.parse().ok()?;
    let id: MessageId = text("message-id")?.parse().ok()?;
    let mut message = Message::new(subject, value.unwrap_or_default()).with_id(id);
    message.key = key;
    for name in ["chaos-run", "chaos-id", "chaos-digest"] {
        message = message.with_header(name, text(name)?.to_owned()).ok()?;
    }
    Some(message)
}
