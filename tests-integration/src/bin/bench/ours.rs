//! The same work through the layer.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use messaging::memory::Memory;
use messaging::{
    Broker, Bytes, Consumer, Delivery, Payload, Publisher, SendSpec, SubscribeSpec, Task,
};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::bare::{BOUND, body};

/// How many messages are published or settled in one piece where batches are measured.
pub(crate) const BATCH: usize = 256;

pub(crate) async fn broker() -> Broker {
    Broker::builder(Memory::new()).window(BOUND, 64 << 20).open().await.unwrap()
}

pub(crate) async fn publisher<T: Payload>(broker: &Broker) -> Publisher<T> {
    broker.publisher(SendSpec::to("tasks").unwrap()).await.unwrap()
}

pub(crate) async fn consumer<T: Payload>(broker: &Broker) -> Consumer<T> {
    let spec = SubscribeSpec::group("bench", ["tasks.#"]).unwrap();
    let prefetch = NonZeroU32::new(1_024).unwrap();
    broker.subscribe(spec.prefetch(prefetch)).await.unwrap()
}

/// Counts down what is left to receive; the last receiver tells the others.
struct Left(AtomicUsize, Notify);

impl Left {
    fn took(&self, count: usize) {
        if self.0.fetch_sub(count, Ordering::AcqRel) == count {
            self.1.notify_waiters();
        }
    }

    fn is_none(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}

/// Messages per second, published, received and acked one by one.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub(crate) fn one_by_one(messages: usize) -> f64 {
    crate::runtime().block_on(async {
        let broker = broker().await;
        let (publisher, mut consumer) =
            (publisher(&broker).await, consumer::<Bytes>(&broker).await);
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            for _ in 0..messages {
                publisher.publish(&body()).await.unwrap();
            }
        });
        tasks.spawn(async move {
            for _ in 0..messages {
                consumer.next().await.unwrap().unwrap().ack();
            }
        });
        tasks.join_all().await;
        messages as f64 / began.elapsed().as_secs_f64()
    })
}

/// Messages per second in batches, from `pairs` publishers to as many members of a group.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub(crate) fn batches(pairs: usize, messages: usize) -> f64 {
    crate::runtime().block_on(async {
        let broker = broker().await;
        let left = Arc::new(Left(AtomicUsize::new(messages), Notify::new()));
        let mut members = Vec::new();
        for _ in 0..pairs {
            members.push((publisher::<Bytes>(&broker).await, consumer::<Bytes>(&broker).await));
        }
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        for (publisher, mut consumer) in members {
            tasks.spawn(async move {
                for _ in 0..messages / pairs / BATCH {
                    for outcome in publisher.publish_all((0..BATCH).map(|_| body())).await {
                        outcome.unwrap();
                    }
                }
            });
            let left = Arc::clone(&left);
            tasks.spawn(async move {
                let done = left.1.notified();
                let mut done = std::pin::pin!(done);
                done.as_mut().enable();
                while !left.is_none() {
                    tokio::select! {
                        biased;
                        batch = consumer.next_batch() => {
                            let batch = batch.unwrap().unwrap();
                            let count = batch.len();
                            Delivery::ack_all(batch);
                            left.took(count);
                        }
                        () = &mut done => {}
                    }
                }
            });
        }
        tasks.join_all().await;
        messages as f64 / began.elapsed().as_secs_f64()
    })
}

/// Tasks per second, written and read as JSON, one by one.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub(crate) fn json(task: &Task, messages: usize) -> f64 {
    crate::runtime().block_on(async {
        let broker = broker().await;
        let (publisher, mut consumer) = (publisher(&broker).await, consumer::<Task>(&broker).await);
        let task = task.clone();
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            for _ in 0..messages {
                publisher.publish(&task).await.unwrap();
            }
        });
        tasks.spawn(async move {
            for _ in 0..messages {
                let delivery = consumer.next().await.unwrap().unwrap();
                std::hint::black_box(&delivery.payload);
                delivery.ack();
            }
        });
        tasks.join_all().await;
        messages as f64 / began.elapsed().as_secs_f64()
    })
}
