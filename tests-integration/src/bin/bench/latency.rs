//! From publish to handler, at half of the rate that the worker reaches.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use messaging::{Broker, Bytes, Publisher, Received, Worker};

use crate::ours::{broker, publisher};
use crate::table::{ROUNDS, Row, Target};

const MESSAGES: u32 = 100_000;

pub(crate) fn rows() -> Vec<Row> {
    let mut rates = Vec::new();
    let mut worst = Vec::new();
    for _ in 0..ROUNDS {
        let rate = crate::runtime().block_on(most());
        rates.push(rate / 1_000.0);
        worst.push(crate::runtime().block_on(at_rate(rate / 2.0)));
    }
    vec![
        Row::new("worker, one by one", "k msg/s", rates),
        Row::new("p99 from publish to handler at half that rate", "µs", worst)
            .target(Target::AtMost(100.0)),
    ]
}

type Latencies = Arc<Mutex<Vec<Duration>>>;

async fn worker(epoch: Instant) -> (Broker, Publisher<Bytes>, Worker, Latencies) {
    let broker = broker().await;
    let latencies: Latencies = Arc::new(Mutex::new(Vec::with_capacity(MESSAGES as usize)));
    let log = Arc::clone(&latencies);
    let handle = move |body: Received<Bytes>| {
        let sent = body.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        log.lock().unwrap().push(epoch.elapsed().saturating_sub(Duration::from_nanos(sent)));
        async {}
    };
    let worker = broker.worker("bench", ["tasks.#"]).prefetch(256).spawn(handle).await.unwrap();
    let publisher = publisher(&broker).await;
    (broker, publisher, worker, latencies)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
async fn most() -> f64 {
    let epoch = Instant::now();
    let (broker, publisher, worker, _) = worker(epoch).await;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        for _ in 0..MESSAGES {
            publisher.publish(&crate::bare::body()).await.unwrap();
        }
    });
    worker.settled(u64::from(MESSAGES)).await.unwrap();
    let rate = f64::from(MESSAGES) / epoch.elapsed().as_secs_f64();
    worker.stop().await.unwrap();
    broker.close().await.unwrap();
    rate
}

/// The p99 in microseconds. Each message has its time, so a stall delays no later one unseen.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
async fn at_rate(rate: f64) -> f64 {
    let epoch = Instant::now();
    let (broker, publisher, worker, latencies) = worker(epoch).await;
    let step = Duration::from_secs_f64(1.0 / rate);
    let begin = epoch.elapsed();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        for number in 0..MESSAGES {
            let due = begin + step * number;
            while epoch.elapsed() < due {
                tokio::task::yield_now().await;
            }
            let mut body = vec![7; 256];
            let sent = due.as_nanos() as u64;
            body.splice(..8, sent.to_le_bytes());
            publisher.publish(&Bytes::from(body)).await.unwrap();
        }
    });
    worker.settled(u64::from(MESSAGES)).await.unwrap();
    worker.stop().await.unwrap();
    broker.close().await.unwrap();
    let mut all = latencies.lock().unwrap().clone();
    all.sort_unstable();
    all.get(all.len() * 99 / 100).map_or(f64::NAN, |p99| p99.as_secs_f64() * 1e6)
}
