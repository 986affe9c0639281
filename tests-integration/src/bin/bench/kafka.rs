//! What the layer costs over rskafka and over rdkafka, against one broker of the benchmark's own: 8
//! partitions, one copy, every message confirmed by all of it.
//!
//! rskafka writes batches that were prepared before; rdkafka is a program of its own
//! ([`peer`]), as it needs a C compiler.

mod bare;
mod idle;
mod latency;
mod ours;
mod peer;

use std::time::Duration;

use futures::future::BoxFuture;
use messaging::kafka::KafkaConfig;
use messaging::kafka::config::Address;
use xtask::brokers::{Kind, Options, Private};

use self::peer::Peer;
use crate::cpu::Cpu;
use crate::table::{Row, Target};

/// How many messages a round publishes or consumes.
const MESSAGES: usize = 3_000 * PARTITIONS * 36;
const PARTITIONS: usize = 8;

/// How many rounds of each measurement are interleaved.
const ROUNDS: usize = 7;

/// The groups of rows, each against a broker of its own.
pub(crate) const PARTS: &[crate::Part] = &[
    ("kafka produce", produce),
    ("kafka consume", consume),
    ("kafka, one confirmed publish at a time", latency::rows),
    ("kafka, join and idle", idle::rows),
];

/// Where a round works: at a broker, with topics of its own.
#[derive(Clone, Debug)]
struct Place {
    port: u16,
    prefix: String,
}

impl Place {
    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn topic(&self) -> String {
        format!("{}.tasks", self.prefix)
    }

    fn config(&self) -> KafkaConfig {
        let config = KafkaConfig::default().with_servers([Address::new("127.0.0.1", self.port)]);
        config.with_prefix(&self.prefix).unwrap()
    }
}

/// A broker that takes the batches of rskafka, which are larger than usual, and keeps nothing for
/// long: a round's messages are not needed in the next.
fn start() -> (Private, u16) {
    let options = Options::new(Kind::Kafka)
        .with_setting("message.max.bytes", "4194304")
        .with_setting("log.segment.delete.delay.ms", "1000");
    let node = Private::start("bench", options).unwrap();
    let port = node.address("kafka-1").unwrap().port();
    (node, port)
}

/// What the work took, without what was prepared for it.
struct Spent {
    took: Duration,
    cpu: Duration,
}

struct Meter(std::time::Instant, Cpu);

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
impl Meter {
    fn start() -> Self {
        Self(std::time::Instant::now(), Cpu::now())
    }

    fn stop(&self) -> Spent {
        Spent { took: self.0.elapsed(), cpu: self.1.elapsed() }
    }
}

type Work = fn(Place) -> BoxFuture<'static, Spent>;

/// What the rounds of one side gave.
#[derive(Default)]
struct Figures {
    rates: Vec<f64>,
    costs: Vec<f64>,
}

impl Figures {
    fn add(&mut self, spent: &Spent) {
        self.rates.push(MESSAGES as f64 / spent.took.as_secs_f64() / 1e3);
        self.costs.push(spent.cpu.as_secs_f64() * 1e6 / MESSAGES as f64);
    }

    fn rows(&self, name: &str) -> [Row; 2] {
        [
            Row::new(name, "k msg/s", self.rates.clone()),
            Row::new(format!("{name}, processor time"), "µs/msg", self.costs.clone()),
        ]
    }
}

fn ratio(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect()
}

/// One kind of work, as everybody does it.
struct Task {
    name: &'static str,
    /// What the program with rdkafka calls it.
    order: &'static str,
    /// Whether messages are there before.
    filled: bool,
    bare: Work,
    /// What the bare client does.
    how: &'static str,
    ours: Work,
    /// What our rate has to be of the others'.
    of_bare: Option<Target>,
    of_peer: Target,
}

fn produce() -> Vec<Row> {
    compare(&Task {
        name: "produce",
        order: "produce",
        filled: false,
        bare: bare::produce,
        how: "prepared batches of 3,000",
        ours: ours::produce,
        of_bare: Some(Target::AtLeast(0.5)),
        of_peer: Target::AtLeast(1.0),
    })
}

fn consume() -> Vec<Row> {
    compare(&Task {
        name: "consume in a group",
        order: "consume",
        filled: true,
        bare: bare::fetch,
        how: "fetching without a group",
        ours: ours::consume,
        of_bare: None,
        of_peer: Target::AtLeast(0.9),
    })
}

/// Ours beside rskafka and rdkafka.
fn compare(task: &Task) -> Vec<Row> {
    let (_node, port) = start();
    let peer = Peer::find();
    let [mut of_rskafka, mut of_rdkafka, mut of_ours] = <[Figures; 3]>::default();
    for round in 0..ROUNDS {
        let place = |side: &str| Place { port, prefix: format!("{side}{round}") };
        of_rskafka.add(&run(place("rskafka"), task.filled, task.bare));
        of_ours.add(&run(place("ours"), task.filled, task.ours));
        if let Ok(peer) = &peer {
            let place = place("rdkafka");
            crate::runtime().block_on(bare::prepare(&place, task.filled));
            of_rdkafka.add(&peer.run(task.order, &place));
            crate::runtime().block_on(bare::remove(&place));
        }
    }
    let name = task.name;
    let mut rows = Vec::new();
    rows.extend(of_rskafka.rows(&format!("{name}: rskafka, {}", task.how)));
    rows.extend(of_ours.rows(&format!("{name}: ours")));
    let rate = Row::new("  ours of rskafka", "×", ratio(&of_ours.rates, &of_rskafka.rates));
    rows.push(match task.of_bare {
        Some(target) => rate.target(target),
        None => rate,
    });
    match peer {
        Ok(_) => {
            rows.extend(of_rdkafka.rows(&format!("{name}: rdkafka")));
            let rate = ratio(&of_ours.rates, &of_rdkafka.rates);
            let cost = ratio(&of_ours.costs, &of_rdkafka.costs);
            let rate = Row::new("  ours of rdkafka", "×", rate).target(task.of_peer);
            let cost = Row::new("  processor time of rdkafka", "×", cost);
            rows.extend([rate, cost.target(Target::AtMost(1.0))]);
        }
        Err(why) => rows.push(Row::new(format!("{name}: rdkafka, not built: {why}"), "", vec![])),
    }
    rows
}

#[expect(clippy::disallowed_methods, reason = "what is spawned is awaited at once")]
fn run(place: Place, filled: bool, work: Work) -> Spent {
    crate::runtime().block_on(async move {
        bare::prepare(&place, filled).await;
        // On a thread of the runtime, as an application's tasks are.
        let spent = tokio::spawn(work(place.clone())).await.unwrap();
        bare::remove(&place).await;
        spent
    })
}
