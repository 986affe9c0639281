//! What the layer costs over the bare RabbitMQ client, against one node of the benchmark's own, with
//! the same queues, properties and windows on all sides.
//!
//! Everything is persistent and confirmed. lapin stands beside it to compare with.

mod bare;
mod lapin;
mod ours;
mod place;

use std::time::Duration;

use futures::future::BoxFuture;
use xtask::brokers::{Kind, Options, Private};

use self::place::{Place, QueueKind};
use crate::cpu::Cpu;
use crate::table::{Row, Target};

/// How many messages each round publishes or consumes.
const MESSAGES: usize = 40_000;

/// How many deliveries are unsettled at most, on all sides.
const PREFETCH: u16 = 2_048;

/// After how many deliveries the bare client acks all of them at once.
const MULTIPLE: usize = 100;

/// How many rounds of each measurement are interleaved.
const ROUNDS: usize = 7;

/// What a round took.
struct Sample {
    time: Duration,
    processor: Duration,
}

/// Measures one round, from the moment that `began` gave.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
struct Meter(std::time::Instant, Cpu);

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
impl Meter {
    fn start() -> Self {
        Self(std::time::Instant::now(), Cpu::now())
    }

    fn stop(self) -> Sample {
        Sample { time: self.0.elapsed(), processor: self.1.elapsed() }
    }
}

type Work = fn(Place) -> BoxFuture<'static, Sample>;

/// A client, what it is called, and what the rate and the processor time of ours have to be of it.
struct Side {
    name: &'static str,
    work: Work,
    targets: Option<(Target, Target)>,
}

pub(crate) fn rows() -> Vec<Row> {
    let node = Private::start("bench", Options::new(Kind::RabbitMq)).unwrap();
    let url = node.env().into_iter().find(|(name, _)| name == "RABBITMQ_URL").unwrap().1;
    let beside = |name, work| Side { name, work, targets: None };
    let bare = |name, work| Side {
        name,
        work,
        targets: Some((Target::AtLeast(0.95), Target::AtMost(1.3))),
    };
    let mut rows = Vec::new();
    for (name, kind) in [("quorum", QueueKind::Quorum), ("classic", QueueKind::Classic)] {
        let sides = [
            bare("bare amqprs", bare::publish as Work),
            beside("lapin", lapin::publish),
            beside("ours", ours::publish),
        ];
        let place = Place { url: url.clone(), kind };
        rows.extend(compare(&format!("publish, confirmed, {name}"), &place, &sides));
    }
    let sides = [
        bare("bare amqprs, acks of 100", bare::consume_multiple as Work),
        beside("bare amqprs, single acks", bare::consume_single),
        beside("lapin, single acks", lapin::consume),
        beside("ours, one settlement per message", ours::consume),
    ];
    let place = Place { url, kind: QueueKind::Quorum };
    rows.extend(compare("consume, quorum", &place, &sides));
    rows
}

/// The rates of all sides and the processor time that each takes for a message; the last is ours.
fn compare(name: &str, place: &Place, sides: &[Side]) -> Vec<Row> {
    let mut rates = vec![Vec::new(); sides.len()];
    let mut costs = vec![Vec::new(); sides.len()];
    for _ in 0..ROUNDS {
        for (number, side) in sides.iter().enumerate() {
            let place = place.clone();
            let work = side.work;
            let sample = crate::runtime().block_on(async move {
                bare::empty(&place).await;
                // On a thread of the runtime, as an application's tasks are.
                tokio::spawn(work(place)).await.unwrap()
            });
            let messages = MESSAGES as f64;
            rates[number].push(messages / sample.time.as_secs_f64() / 1e3);
            costs[number].push(sample.processor.as_secs_f64() * 1e6 / messages);
        }
    }
    let ratio = |of: &[Vec<f64>], side: usize| {
        of.last().unwrap().iter().zip(&of[side]).map(|(ours, theirs)| ours / theirs).collect()
    };
    let mut rows = Vec::new();
    for (number, side) in sides.iter().enumerate() {
        let what = side.name;
        rows.push(Row::new(format!("{name}: {what}"), "k msg/s", rates[number].clone()));
        let time = format!("{name}: {what}, processor time");
        rows.push(Row::new(time, "µs/msg", costs[number].clone()));
    }
    for (number, side) in sides.iter().enumerate().take(sides.len() - 1) {
        let rate = Row::new(format!("  ours of {}", side.name), "×", ratio(&rates, number));
        let cost =
            Row::new(format!("  processor time of {}", side.name), "×", ratio(&costs, number));
        match side.targets {
            Some((least, most)) => rows.extend([rate.target(least), cost.target(most)]),
            None => rows.extend([rate, cost]),
        }
    }
    rows
}
