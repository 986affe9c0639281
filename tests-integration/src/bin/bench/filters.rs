//! What subscriptions cost that do not match.

use std::time::Instant;

use messaging::{Bytes, SubscribeSpec};

use crate::bare::body;
use crate::ours::{broker, consumer, publisher};
use crate::table::{ROUNDS, Row, Target};

const MESSAGES: u32 = 300_000;

pub(crate) fn rows() -> Vec<Row> {
    let ratios = (0..ROUNDS).map(|_| {
        let none = crate::runtime().block_on(seconds(0));
        crate::runtime().block_on(seconds(1_000)) / none
    });
    let name = "cost with 1,000 other subscriptions, of that with none";
    vec![Row::new(name, "×", ratios.collect()).target(Target::AtMost(1.2))]
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
async fn seconds(others: usize) -> f64 {
    let broker = broker().await;
    let mut held = Vec::new();
    for number in 0..others {
        let pattern = format!("tasks.other-{number}.#");
        let spec = SubscribeSpec::group(&format!("other-{number}"), [pattern]).unwrap();
        held.push(broker.subscribe::<Bytes>(spec).await.unwrap());
    }
    let publisher = publisher::<Bytes>(&broker).await;
    let mut consumer = consumer::<Bytes>(&broker).await;
    let began = Instant::now();
    for _ in 0..MESSAGES {
        publisher.publish(&body()).await.unwrap();
        consumer.next().await.unwrap().unwrap().ack();
    }
    began.elapsed().as_secs_f64()
}
