//! The same work through the layer.

use std::num::{NonZeroU16, NonZeroU32};

use futures::FutureExt;
use futures::future::BoxFuture;
use messaging::rabbitmq::{Rabbit, RabbitConfig};
use messaging::{Broker, Bytes, SendSpec, SubscribeSpec};
use tokio::task::JoinSet;

use super::place::{Place, QUEUE};
use super::{MESSAGES, Meter, PREFETCH, Sample, bare};
use crate::bare::{BOUND, body};
use crate::cpu::rest;

/// How many messages are published in one piece.
const BATCH: usize = 256;

/// How many tasks publish: as many again as fill the window, so that it is always full, as on the
/// other sides.
const PUBLISHERS: usize = 2 * BOUND / BATCH;

async fn open(place: &Place) -> Broker {
    let get = |name: &str| Ok((name == "RABBITMQ_URL").then(|| place.url.clone()));
    let driver = Rabbit::connect(RabbitConfig::from_variables(get).unwrap()).await.unwrap();
    Broker::builder(driver).window(BOUND, 64 << 20).open().await.unwrap()
}

pub(super) fn publish(place: Place) -> BoxFuture<'static, Sample> {
    async move {
        let broker = open(&place).await;
        let publisher = broker.publisher::<Bytes>(SendSpec::to("tasks").unwrap()).await.unwrap();
        // The channel opens with the first message.
        publisher.publish(&body()).await.unwrap();
        let meter = Meter::start();
        let mut tasks = JoinSet::new();
        for _ in 0..PUBLISHERS {
            let publisher = publisher.clone();
            tasks.spawn(async move {
                for _ in 0..MESSAGES / BATCH / PUBLISHERS {
                    for outcome in publisher.publish_all((0..BATCH).map(|_| body())).await {
                        outcome.unwrap();
                    }
                }
            });
        }
        tasks.join_all().await;
        let sample = meter.stop();
        broker.close().await.unwrap();
        sample
    }
    .boxed()
}

fn spec() -> SubscribeSpec {
    let prefetch = NonZeroU32::from(NonZeroU16::new(PREFETCH).unwrap());
    SubscribeSpec::group(QUEUE, ["tasks"]).unwrap().prefetch(prefetch)
}

/// Puts the group's own queue in the place of the bare one, full, and lets the server write what it has
/// left to write of that.
pub(super) async fn fill(place: &Place) {
    bare::remove(place).await;
    let broker = open(place).await;
    drop(broker.subscribe::<Bytes>(spec()).await.unwrap());
    broker.close().await.unwrap();
    bare::fill(place).await;
    rest().await;
}

pub(super) fn consume(place: Place) -> BoxFuture<'static, Sample> {
    async move {
        fill(&place).await;
        let broker = open(&place).await;
        let mut meter = None;
        let mut consumer = broker.subscribe::<Bytes>(spec()).await.unwrap();
        for _ in 0..MESSAGES {
            let delivery = consumer.next().await.unwrap().unwrap();
            meter.get_or_insert_with(Meter::start);
            delivery.ack();
        }
        drop(consumer);
        // Closing waits until every ack is at the server.
        broker.close().await.unwrap();
        meter.unwrap().stop()
    }
    .boxed()
}
