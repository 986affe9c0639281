//! rskafka, with batches that are prepared before the clock runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use futures::future::BoxFuture;
use messaging::MessageId;
use rskafka::chrono::DateTime;
use rskafka::client::partition::{Compression, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::Record;
use tokio::task::JoinSet;

use super::{MESSAGES, Meter, PARTITIONS, Place, Spent};
use crate::cpu::rest;

const BATCH: usize = 3_000;

async fn connect(place: &Place) -> Client {
    ClientBuilder::new(vec![place.address()]).build().await.unwrap()
}

pub(super) async fn partition(place: &Place, number: usize) -> Arc<PartitionClient> {
    let client = connect(place).await;
    let handling = UnknownTopicHandling::Retry;
    let number = i32::try_from(number).unwrap();
    Arc::new(client.partition_client(place.topic(), number, handling).await.unwrap())
}

/// The fields that ours have, so that the broker has the same work.
pub(super) fn record() -> Record {
    let headers = [
        ("subject", b"tasks".to_vec()),
        ("message-id", MessageId::generate().to_string().into_bytes()),
        ("content-type", b"application/octet-stream".to_vec()),
    ];
    let headers: BTreeMap<_, _> = headers.map(|(name, value)| (name.to_owned(), value)).into();
    let value = Some(crate::bare::body().to_vec());
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let timestamp = DateTime::from_timestamp_millis(since.as_millis() as i64).unwrap();
    Record { key: None, value, headers, timestamp }
}

/// Makes the topic, with messages in it or without, and waits until the server has done what that, and
/// the topic before, left it to do.
pub(super) async fn prepare(place: &Place, filled: bool) {
    let client = connect(place).await;
    let controller = client.controller_client().unwrap();
    let partitions = i32::try_from(PARTITIONS).unwrap();
    controller.create_topic(place.topic(), partitions, 1, 10_000).await.unwrap();
    if filled {
        produce(place.clone()).await;
    }
    rest().await;
}

/// The disk has not room for all rounds.
pub(super) async fn remove(place: &Place) {
    let controller = connect(place).await.controller_client().unwrap();
    controller.delete_topic(place.topic(), 10_000).await.unwrap();
}

pub(super) fn produce(place: Place) -> BoxFuture<'static, Spent> {
    async move {
        let mut prepared = Vec::new();
        for number in 0..PARTITIONS {
            let batch = || (0..BATCH).map(|_| record()).collect::<Vec<_>>();
            let batches: Vec<_> = (0..MESSAGES / PARTITIONS / BATCH).map(|_| batch()).collect();
            prepared.push((partition(&place, number).await, batches));
        }
        let meter = Meter::start();
        let mut tasks = JoinSet::new();
        for (partition, batches) in prepared {
            tasks.spawn(async move {
                for batch in batches {
                    partition.produce(batch, Compression::NoCompression).await.unwrap();
                }
            });
        }
        tasks.join_all().await;
        meter.stop()
    }
    .boxed()
}

pub(super) fn fetch(place: Place) -> BoxFuture<'static, Spent> {
    async move {
        let mut partitions = Vec::new();
        for number in 0..PARTITIONS {
            partitions.push(partition(&place, number).await);
        }
        let meter = Meter::start();
        let mut tasks = JoinSet::new();
        for partition in partitions {
            tasks.spawn(async move { read(&partition).await });
        }
        tasks.join_all().await;
        meter.stop()
    }
    .boxed()
}

async fn read(partition: &PartitionClient) {
    let mut next = 0;
    let all = i64::try_from(MESSAGES / PARTITIONS).unwrap();
    while next < all {
        let (records, _) = partition.fetch_records(next, 1..1 << 20, 500).await.unwrap();
        next = records.last().map_or(next, |last| last.offset + 1);
        std::hint::black_box(records);
    }
}

/// The times of publishes, one after the other, in microseconds.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub(super) async fn one_by_one(place: &Place, count: usize) -> Vec<Duration> {
    let partition = partition(place, 0).await;
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        let began = std::time::Instant::now();
        partition.produce(vec![record()], Compression::NoCompression).await.unwrap();
        all.push(began.elapsed());
    }
    all
}
