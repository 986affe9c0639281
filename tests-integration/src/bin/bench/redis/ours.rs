//! The same work through the layer.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::num::NonZeroU32;
use std::time::Instant;

use futures::FutureExt;
use futures::future::BoxFuture;
use messaging::redis::{PubSub, RedisConfig, Streams};
use messaging::{
    Broker, Bytes, Codec, ContentType, Encoded, Error, ErrorKind, Heard, Message, Payload,
    Publisher, SendSpec, SubscribeSpec,
};
use tokio::task::JoinSet;

use super::bare::JSON;
use super::{BATCH, IN_FLIGHT, Meter, Spent};
use crate::bare::{BOUND, body};

fn config(url: &str) -> RedisConfig {
    let get = |name: &str| Ok((name == "REDIS_URL").then(|| url.to_owned()));
    RedisConfig::from_variables(get).unwrap()
}

async fn streams(url: &str) -> (Broker, Publisher<Bytes>) {
    let driver = Streams::connect(config(url)).await.unwrap();
    let broker = Broker::builder(driver).window(BOUND, 64 << 20).open().await.unwrap();
    let publisher = broker.publisher(SendSpec::to("tasks").unwrap()).await.unwrap();
    (broker, publisher)
}

async fn fill(publisher: &Publisher<Bytes>, messages: usize) {
    let mut tasks = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let publisher = publisher.clone();
        tasks.spawn(async move {
            for _ in 0..messages / IN_FLIGHT / BATCH {
                for outcome in publisher.publish_all((0..BATCH).map(|_| body())).await {
                    outcome.unwrap();
                }
            }
        });
    }
    tasks.join_all().await;
}

pub(super) fn publish(url: String, messages: usize) -> BoxFuture<'static, Spent> {
    async move {
        let (broker, publisher) = streams(&url).await;
        let meter = Meter::start();
        fill(&publisher, messages).await;
        let spent = meter.stop();
        broker.close().await.unwrap();
        spent
    }
    .boxed()
}

pub(super) fn consume(url: String, messages: usize) -> BoxFuture<'static, Spent> {
    async move {
        // What is measured is consuming, so the bare client fills the stream on both sides.
        let (broker, _) = streams(&url).await;
        super::bare::publish(url.clone(), messages).await;
        let work = async move {
            let meter = Meter::start();
            let spec = SubscribeSpec::group("g", ["tasks.#"]).unwrap();
            let prefetch = NonZeroU32::new(4 * BATCH as u32).unwrap();
            let mut consumer = broker.subscribe::<Bytes>(spec.prefetch(prefetch)).await.unwrap();
            for _ in 0..messages {
                consumer.next().await.unwrap().unwrap().ack();
            }
            drop(consumer);
            // Closing waits until every ack is at the server.
            broker.close().await.unwrap();
            meter.stop()
        };
        tokio::spawn(work).await.unwrap()
    }
    .boxed()
}

/// JSON that is written already, as the bare client has it.
struct Written(&'static str);

impl Payload for Written {
    const STREAM: Option<&'static str> = None;

    fn encode(&self, _: Codec) -> messaging::Result<Encoded<'_>> {
        Ok(Encoded::new(Bytes::from_static(self.0.as_bytes()), ContentType::Json))
    }

    fn decode(message: &Message) -> messaging::Result<Self> {
        Err(Error::new(ErrorKind::Undecodable, format!("{} is not read here", message.id)))
    }
}

pub(super) fn pubsub(url: String, messages: usize) -> BoxFuture<'static, Spent> {
    async move {
        let driver = PubSub::connect(config(&url)).await.unwrap();
        let broker = Broker::builder(driver).window(BOUND, 64 << 20).open().await.unwrap();
        let spec = SubscribeSpec::broadcast(["tasks"]).unwrap();
        let mut listener = broker.listen::<Bytes>(spec).await.unwrap();
        let publisher = broker.publisher::<Written>(SendSpec::to("tasks").unwrap()).await.unwrap();
        let meter = Meter::start();
        let mut tasks = JoinSet::new();
        for _ in 0..IN_FLIGHT {
            let publisher = publisher.clone();
            tasks.spawn(async move {
                for _ in 0..messages / IN_FLIGHT / BATCH {
                    for outcome in publisher.publish_all((0..BATCH).map(|_| Written(JSON))).await {
                        outcome.unwrap();
                    }
                }
            });
        }
        tasks.spawn(async move {
            let mut heard = 0;
            while heard < messages {
                match listener.next().await.unwrap().unwrap() {
                    Heard::Message(_) => heard += 1,
                    Heard::Gap(gap) => heard += gap.missed.unwrap_or(0) as usize,
                    _ => {}
                }
            }
        });
        tasks.join_all().await;
        let spent = meter.stop();
        broker.close().await.unwrap();
        spent
    }
    .boxed()
}

pub(super) fn latency(url: String) -> BoxFuture<'static, f64> {
    async move {
        let (broker, publisher) = streams(&url).await;
        let work = async move {
            let mut all = Vec::new();
            for _ in 0..2_000 {
                let began = Instant::now();
                publisher.publish(&body()).await.unwrap();
                all.push(began.elapsed());
            }
            broker.close().await.unwrap();
            super::median(all)
        };
        tokio::spawn(work).await.unwrap()
    }
    .boxed()
}
