//! From publish to handler, at half of the rate that the worker reaches.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use messaging::{Broker, Bytes, Publisher, Received, Worker};

use crate::bare::BOUND;
use crate::ours::{broker, publisher};
use crate::table::{ROUNDS, Row, Target};

const MESSAGES: u32 = 100_000;

pub(crate) fn rows() -> Vec<Row> {
    let mut rates = Vec::new();
    let mut bare = Vec::new();
    let mut ours = Vec::new();
    for _ in 0..ROUNDS {
        let rate = crate::runtime().block_on(most());
        rates.push(rate / 1_000.0);
        let (_, bare_rate) = crate::runtime().block_on(bare_at_rate(f64::INFINITY));
        let (p99, _) = crate::runtime().block_on(bare_at_rate(bare_rate / 2.0));
        bare.push(p99);
        ours.push(crate::runtime().block_on(at_rate(rate / 2.0)));
    }
    vec![
        Row::new("worker, one by one", "k msg/s", rates),
        Row::new("p99 over a bare channel and a task each, at half their rate", "µs", bare),
        Row::new("p99 from publish to handler at half that rate", "µs", ours)
            .target(Target::AtMost(100.0)),
    ]
}

type Latencies = Arc<Mutex<Vec<Duration>>>;

async fn worker(epoch: Instant) -> (Broker, Publisher<Bytes>, Worker, Latencies) {
    let broker = broker().await;
    let latencies: Latencies = Arc::new(Mutex::new(Vec::with_capacity(MESSAGES as usize)));
    let log = Arc::clone(&latencies);
    let handle = move |body: Received<Bytes>| {
        record(&log, epoch, &body);
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

/// The p99 in microseconds.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
async fn at_rate(rate: f64) -> f64 {
    let epoch = Instant::now();
    let (broker, publisher, worker, latencies) = worker(epoch).await;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let mut pace = Pace::new(epoch, rate);
        while let Some(body) = pace.next().await {
            publisher.publish(&body).await.unwrap();
        }
    });
    worker.settled(u64::from(MESSAGES)).await.unwrap();
    worker.stop().await.unwrap();
    broker.close().await.unwrap();
    p99(&latencies)
}

/// What the runtime and the machine take for themselves: the same through a bare channel, with a
/// task for each message. Also tells how many messages a second that were.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
async fn bare_at_rate(rate: f64) -> (f64, f64) {
    let epoch = Instant::now();
    let latencies: Latencies = Arc::new(Mutex::new(Vec::with_capacity(MESSAGES as usize)));
    let (sender, receiver) = async_channel::bounded::<Bytes>(BOUND);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let mut pace = Pace::new(epoch, rate);
        while let Some(body) = pace.next().await {
            sender.send(body).await.unwrap();
        }
    });
    let log = Arc::clone(&latencies);
    tasks.spawn(async move {
        let mut handlers = tokio::task::JoinSet::new();
        while let Ok(body) = receiver.recv().await {
            let log = Arc::clone(&log);
            handlers.spawn(async move { record(&log, epoch, &body) });
            while handlers.try_join_next().is_some() {}
        }
        handlers.join_all().await;
    });
    tasks.join_all().await;
    (p99(&latencies), f64::from(MESSAGES) / epoch.elapsed().as_secs_f64())
}

/// Bodies at a steady rate, each with the time it is due, so that a stall delays no later one
/// unseen.
struct Pace {
    epoch: Instant,
    begin: Duration,
    step: Duration,
    number: u32,
}

impl Pace {
    fn new(epoch: Instant, rate: f64) -> Self {
        let step = Duration::from_secs_f64(1.0 / rate);
        Self { epoch, begin: epoch.elapsed(), step, number: 0 }
    }

    async fn next(&mut self) -> Option<Bytes> {
        let due = self.begin + self.step * self.number;
        self.number += 1;
        while self.epoch.elapsed() < due {
            tokio::task::yield_now().await;
        }
        let mut body = vec![7; 256];
        body.splice(..8, (due.as_nanos() as u64).to_le_bytes());
        (self.number <= MESSAGES).then(|| body.into())
    }
}

fn record(latencies: &Latencies, epoch: Instant, body: &Bytes) {
    let due = body.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let took = epoch.elapsed().saturating_sub(Duration::from_nanos(due));
    latencies.lock().unwrap().push(took);
}

fn p99(latencies: &Latencies) -> f64 {
    let mut all = latencies.lock().unwrap().clone();
    all.sort_unstable();
    all.get(all.len() * 99 / 100).map_or(f64::NAN, |p99| p99.as_secs_f64() * 1e6)
}
