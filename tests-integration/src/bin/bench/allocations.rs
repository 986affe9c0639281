//! Allocations for one message from publish to ack, its body among them.

use messaging::Bytes;

use crate::bare::body;
use crate::ours::{broker, consumer, publisher};
use crate::table::{ROUNDS, Row, Target};

const MESSAGES: u64 = 20_000;

pub(crate) fn rows() -> Vec<Row> {
    // One thread, as allocations are counted per thread.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (publisher, mut consumer) = runtime.block_on(async {
        let broker = broker().await;
        (publisher::<Bytes>(&broker).await, consumer::<Bytes>(&broker).await)
    });
    let mut round = |messages| {
        runtime.block_on(async {
            for _ in 0..messages {
                publisher.publish(&body()).await.unwrap();
                consumer.next().await.unwrap().unwrap().ack();
            }
        });
    };
    round(MESSAGES);
    let rounds = (0..ROUNDS).map(|_| {
        let counted = allocation_counter::measure(|| round(MESSAGES));
        counted.count_total as f64 / MESSAGES as f64
    });
    vec![
        Row::new("allocations a message, one by one", "", rounds.collect())
            .target(Target::AtMost(4.0)),
    ]
}
