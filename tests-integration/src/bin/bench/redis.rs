//! What the layer costs over the bare Redis client, against one server of the benchmark's own.
//!
//! The server keeps no append-only file: with one, both sides wait for the disk.

mod bare;
mod ours;

use std::time::{Duration, Instant};

use xtask::brokers::{Kind, Options, Private};

use crate::cpu::Cpu;
use crate::table::{ROUNDS, Row, Target};

const MESSAGES: usize = 512 * 4 * 40;

/// How many messages or entries go in one piece, on both sides.
const BATCH: usize = 512;

/// How many pieces are on their way at once, on both sides.
const IN_FLIGHT: usize = 4;

/// The groups of rows, each against a server of its own.
pub(crate) const PARTS: &[crate::Part] = &[
    ("XADD, confirmed", || throughput("XADD, confirmed", bare::publish, ours::publish)),
    ("XREADGROUP and XACK", || throughput("XREADGROUP and XACK", bare::consume, ours::consume)),
    ("PUBLISH and SUBSCRIBE", || throughput("PUBLISH and SUBSCRIBE", bare::pubsub, ours::pubsub)),
    ("one confirmed publish at a time", latency),
];

fn start() -> (Private, String) {
    let options = Options::new(Kind::Redis).with_setting("appendonly", "no");
    let server = Private::start("bench", options).unwrap();
    let url = server.variable("REDIS_URL").unwrap();
    (server, url)
}

fn latency() -> Vec<Row> {
    let (_server, url) = start();
    let mut latencies = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (all, one) in latencies.iter_mut().zip([bare::latency, ours::latency]) {
            flush(&url);
            all.push(crate::runtime().block_on(one(url.clone())));
        }
    }
    let [bare, ours] = latencies;
    let ratio = ours.iter().zip(&bare).map(|(ours, bare)| ours / bare).collect();
    vec![
        Row::new("one confirmed XADD at a time, p50, bare", "µs", bare),
        Row::new("one confirmed publish at a time, p50", "µs", ours),
        Row::new("  of bare", "×", ratio).target(Target::AtMost(1.2)),
    ]
}

type Work = fn(String, usize) -> futures::future::BoxFuture<'static, Spent>;

/// What the work took, without what was prepared for it.
struct Spent {
    took: Duration,
    cpu: Duration,
}

struct Meter {
    began: Instant,
    cpu: Cpu,
}

impl Meter {
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
    fn start() -> Self {
        Self { began: Instant::now(), cpu: Cpu::now() }
    }

    fn stop(self) -> Spent {
        Spent { took: self.began.elapsed(), cpu: self.cpu.elapsed() }
    }
}

/// The rate of both sides, and the processor time that each takes for a message.
fn throughput(name: &str, bare: Work, ours: Work) -> Vec<Row> {
    let (_server, url) = start();
    let mut rates = [Vec::new(), Vec::new()];
    let mut costs = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (side, work) in [bare, ours].into_iter().enumerate() {
            flush(&url);
            let Spent { took, cpu } = crate::runtime().block_on(work(url.clone(), MESSAGES));
            let cost = cpu.as_secs_f64() * 1e6 / MESSAGES as f64;
            rates.get_mut(side).unwrap().push(MESSAGES as f64 / took.as_secs_f64() / 1e3);
            costs.get_mut(side).unwrap().push(cost);
        }
    }
    let ratios = |of: &[Vec<f64>; 2]| of[1].iter().zip(&of[0]).map(|(a, b)| a / b).collect();
    let (rate, cost) = (ratios(&rates), ratios(&costs));
    let ([bare_rate, our_rate], [bare_cost, our_cost]) = (rates, costs);
    vec![
        Row::new(format!("{name}, bare"), "k msg/s", bare_rate),
        Row::new(format!("{name}, ours"), "k msg/s", our_rate),
        Row::new("  of bare", "×", rate).target(Target::AtLeast(0.85)),
        Row::new(format!("{name}, processor time, bare"), "µs/msg", bare_cost),
        Row::new(format!("{name}, processor time, ours"), "µs/msg", our_cost),
        Row::new("  of bare", "×", cost).target(Target::AtMost(1.3)),
    ]
}

/// The median in microseconds.
fn median(mut all: Vec<Duration>) -> f64 {
    all.sort_unstable();
    all.get(all.len() / 2).map_or(f64::NAN, |median| median.as_secs_f64() * 1e6)
}

fn flush(url: &str) {
    let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
    redis::cmd("FLUSHALL").exec(&mut connection).unwrap();
}
