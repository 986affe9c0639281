//! The same work through the layer.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use messaging::redis::{PubSub, RedisConfig, Streams};
use messaging::{
    Broker, Bytes, ContentType, Heard, Message, Publisher, SendSpec, Subject, SubscribeSpec,
};
use tokio::task::JoinSet;

use super::bare::JSON;
use super::{BATCH, IN_FLIGHT};
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

pub(super) fn publish(url: String, messages: usize) -> BoxFuture<'static, Duration> {
    async move {
        let (broker, publisher) = streams(&url).await;
        let began = Instant::now();
        fill(&publisher, messages).await;
        let took = began.elapsed();
        broker.close().await.unwrap();
        took
    }
    .boxed()
}

pub(super) fn consume(url: String, messages: usize) -> BoxFuture<'static, Duration> {
    async move {
        // What is measured is consuming, so the bare client fills the stream on both sides.
        let (broker, _) = streams(&url).await;
        super::bare::publish(url.clone(), messages).await;
        let work = async move {
            let began = Instant::now();
            let spec = SubscribeSpec::group("g", ["tasks.#"]).unwrap();
            let prefetch = NonZeroU32::new(4 * BATCH as u32).unwrap();
            let mut consumer = broker.subscribe::<Bytes>(spec.prefetch(prefetch)).await.unwrap();
            for _ in 0..messages {
                consumer.next().await.unwrap().unwrap().ack();
            }
            drop(consumer);
            // Closing waits until every ack is at the server.
            broker.close().await.unwrap();
            began.elapsed()
        };
        tokio::spawn(work).await.unwrap()
    }
    .boxed()
}

pub(super) fn pubsub(url: String, messages: usize) -> BoxFuture<'static, Duration> {
    async move {
        let driver = PubSub::connect(config(&url)).await.unwrap();
        let broker = Broker::builder(driver).window(BOUND, 64 << 20).open().await.unwrap();
        let spec = SubscribeSpec::broadcast(["tasks"]).unwrap();
        let mut listener = broker.listen::<Bytes>(spec).await.unwrap();
        let publisher = broker.publisher::<Bytes>(SendSpec::to("tasks").unwrap()).await.unwrap();
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..IN_FLIGHT {
            let publisher = publisher.clone();
            tasks.spawn(async move {
                for _ in 0..messages / IN_FLIGHT / BATCH {
                    let mut pending = Vec::with_capacity(BATCH);
                    for _ in 0..BATCH {
                        let message = Message::new(Subject::from_static("tasks"), JSON)
                            .with_content_type(ContentType::Json);
                        pending.push(publisher.enqueue_message(message).await.unwrap());
                    }
                    for outcome in pending {
                        outcome.await.unwrap();
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
        let took = began.elapsed();
        broker.close().await.unwrap();
        took
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
