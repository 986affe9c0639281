//! The same work through the layer.

use std::num::NonZeroU32;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, try_join_all};
use messaging::config::parse_topology;
use messaging::kafka::Kafka;
use messaging::{Broker, Bytes, Consumer, Publisher, SendSpec, SubscribeSpec};
use tokio::task::JoinSet;

use super::{MESSAGES, Meter, PARTITIONS, Place, Spent};
use crate::bare::body;

/// How many tasks publish, and how much each hands over at once.
const IN_FLIGHT: usize = 4;
const BATCH: usize = 3_000;

/// How many messages may be under way.
const WINDOW: usize = 64 * 1_024;

/// How many messages are fetched ahead: as many as librdkafka does, unless told otherwise.
const PREFETCH: NonZeroU32 = NonZeroU32::new(100_000).unwrap();

pub(super) async fn open(place: &Place) -> Broker {
    let topology = format!(
        "tiers = [\"1s\"]\n[[stream]]\nname = \"tasks\"\nkind = \"work\"\npartitions = {PARTITIONS}\n"
    );
    let driver = Kafka::connect(place.config()).await.unwrap();
    let builder = Broker::builder(driver).topology(parse_topology(&topology).unwrap());
    builder.window(WINDOW, 256 << 20).open().await.unwrap()
}

pub(super) async fn publisher(broker: &Broker) -> Publisher<Bytes> {
    broker.publisher(SendSpec::to("tasks").unwrap()).await.unwrap()
}

pub(super) async fn consumer(broker: &Broker) -> Consumer<Bytes> {
    let spec = SubscribeSpec::group("ours", ["tasks.#"]).unwrap();
    broker.subscribe(spec.prefetch(PREFETCH)).await.unwrap()
}

pub(super) fn produce(place: Place) -> BoxFuture<'static, Spent> {
    async move {
        let broker = open(&place).await;
        let publisher = publisher(&broker).await;
        let meter = Meter::start();
        let mut tasks = JoinSet::new();
        for _ in 0..IN_FLIGHT {
            let publisher = publisher.clone();
            tasks.spawn(async move {
                for _ in 0..MESSAGES / IN_FLIGHT / BATCH {
                    for outcome in publisher.publish_all((0..BATCH).map(|_| body())).await {
                        outcome.unwrap();
                    }
                }
            });
        }
        tasks.join_all().await;
        let spent = meter.stop();
        broker.close().await.unwrap();
        spent
    }
    .boxed()
}

/// One settlement for each message. The clock runs from the first message on until all that was
/// settled is committed: the last of each partition says so.
pub(super) fn consume(place: Place) -> BoxFuture<'static, Spent> {
    async move {
        let broker = open(&place).await;
        let mut consumer = consumer(&broker).await;
        consumer.next().await.unwrap().unwrap().ack();
        let meter = Meter::start();
        let mut confirmed = Vec::with_capacity(PARTITIONS);
        let last = (MESSAGES / PARTITIONS - 1) as u128;
        for _ in 1..MESSAGES {
            let delivery = consumer.next().await.unwrap().unwrap();
            match delivery.position().unwrap().id() == last {
                true => confirmed.push(delivery.ack_confirmed()),
                false => delivery.ack(),
            }
        }
        try_join_all(confirmed).await.unwrap();
        let spent = meter.stop();
        drop(consumer);
        broker.close().await.unwrap();
        spent
    }
    .boxed()
}

/// The times of publishes, one after the other.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub(super) async fn one_by_one(place: &Place, count: usize) -> Vec<Duration> {
    let broker = open(place).await;
    let publisher = publisher(&broker).await;
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        let began = std::time::Instant::now();
        publisher.publish(&body()).await.unwrap();
        all.push(began.elapsed());
    }
    broker.close().await.unwrap();
    all
}
