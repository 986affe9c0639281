//! What the layer costs over the bare RabbitMQ client, against one node of the benchmark's own, with
//! the same queues, properties and windows on all sides.
//!
//! Everything is persistent and confirmed. lapin stands beside it to compare with. Where messages are
//! consumed, the clock runs from the first one on until the server has taken every ack. A quorum queue
//! is written a second time, seconds later; the next round begins when that is done.

mod bare;
mod lapin;
mod ours;
mod place;

use std::time::Duration;

use futures::future::BoxFuture;
use xtask::brokers::{Kind, Options, Private};

use self::place::{Place, QueueKind};
use crate::bare::BOUND;
use crate::cpu::{Cpu, rest};
use crate::table::{Row, Target};

/// How many messages each round publishes or consumes: so many windows.
const MESSAGES: usize = 24 * BOUND;

/// How many deliveries are unsettled at most, on all sides.
const PREFETCH: u16 = 2_048;

/// After how many deliveries the bare client acks all of them at once.
const MULTIPLE: usize = 100;

/// How many rounds of each measurement are interleaved.
const ROUNDS: usize = 9;

/// What a round took.
struct Sample {
    time: Duration,
    processor: Duration,
}

/// Measures one round.
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

const fn beside(name: &'static str, work: Work) -> Side {
    Side { name, work, targets: None }
}

const fn bare(name: &'static str, work: Work) -> Side {
    Side { name, work, targets: Some((Target::AtLeast(0.95), Target::AtMost(1.3))) }
}

pub(crate) fn publish() -> Vec<Row> {
    let (_node, url) = node();
    let mut rows = Vec::new();
    for (name, kind) in [("quorum", QueueKind::Quorum), ("classic", QueueKind::Classic)] {
        let sides = [
            bare("bare amqprs", bare::publish),
            beside("lapin", lapin::publish),
            beside("ours", ours::publish),
        ];
        let place = Place { url: url.clone(), kind };
        rows.extend(compare(&format!("publish, confirmed, {name}"), &place, &sides));
    }
    rows
}

pub(crate) fn consume() -> Vec<Row> {
    let (_node, url) = node();
    let sides = [
        bare("bare amqprs, acks of 100", bare::consume_multiple),
        beside("bare amqprs, single acks", bare::consume_single),
        beside("lapin, single acks", lapin::consume),
        beside("ours, one settlement per message", ours::consume),
    ];
    let place = Place { url, kind: QueueKind::Quorum };
    compare("consume, quorum", &place, &sides)
}

/// A node, and how to connect to it.
fn node() -> (Private, String) {
    let node = Private::start("bench", Options::new(Kind::RabbitMq)).unwrap();
    let url = node.variable("RABBITMQ_URL").unwrap();
    (node, url)
}

/// What the rounds of one side gave.
#[derive(Clone, Default)]
struct Figures {
    rates: Vec<f64>,
    costs: Vec<f64>,
}

/// The rates of all sides and the processor time that each takes for a message; the last is ours.
fn compare(name: &str, place: &Place, sides: &[Side]) -> Vec<Row> {
    let mut all = vec![Figures::default(); sides.len()];
    for _ in 0..ROUNDS {
        for (figures, side) in all.iter_mut().zip(sides) {
            let sample = sample(place.clone(), side.work);
            figures.rates.push(MESSAGES as f64 / sample.time.as_secs_f64() / 1e3);
            figures.costs.push(sample.processor.as_secs_f64() * 1e6 / MESSAGES as f64);
        }
    }
    let mut rows = Vec::new();
    for (figures, Side { name: what, .. }) in all.iter().zip(sides) {
        rows.push(Row::new(format!("{name}: {what}"), "k msg/s", figures.rates.clone()));
        let time = format!("{name}: {what}, processor time");
        rows.push(Row::new(time, "µs/msg", figures.costs.clone()));
    }
    let Some((ours, others)) = all.split_last() else { return rows };
    for (theirs, side) in others.iter().zip(sides) {
        let rate = ratio(&ours.rates, &theirs.rates);
        let rate = Row::new(format!("  ours of {}", side.name), "×", rate);
        let cost = ratio(&ours.costs, &theirs.costs);
        let cost = Row::new(format!("  processor time of {}", side.name), "×", cost);
        match side.targets {
            Some((least, most)) => rows.extend([rate.target(least), cost.target(most)]),
            None => rows.extend([rate, cost]),
        }
    }
    rows
}

#[expect(clippy::disallowed_methods, reason = "what is spawned is awaited at once")]
fn sample(place: Place, work: Work) -> Sample {
    crate::runtime().block_on(async move {
        bare::empty(&place).await;
        rest().await;
        // On a thread of the runtime, as an application's tasks are.
        tokio::spawn(work(place)).await.unwrap()
    })
}

fn ratio(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect()
}
