//! Growth of resident memory over many messages.

use messaging::{Bytes, Delivery};
use tokio::task::JoinSet;

use crate::bare::body;
use crate::ours::{BATCH, broker, consumer, publisher};
use crate::table::{Row, Target};

const FIRST: usize = 1_000_000;
const ALL: usize = 50_000_000;

pub(crate) fn rows() -> Vec<Row> {
    let growth = crate::runtime().block_on(async {
        let broker = broker().await;
        let (publisher, mut consumer) =
            (publisher::<Bytes>(&broker).await, consumer::<Bytes>(&broker).await);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            for _ in 0..ALL / BATCH {
                publisher.publish_all((0..BATCH).map(|_| body())).await;
            }
            0
        });
        tasks.spawn(async move {
            let (mut received, mut first) = (0, None);
            while received < ALL / BATCH * BATCH {
                let batch = consumer.next_batch().await.unwrap().unwrap();
                received += batch.len();
                Delivery::ack_all(batch);
                if received >= FIRST {
                    first.get_or_insert_with(resident);
                }
            }
            resident().saturating_sub(first.unwrap_or_default())
        });
        tasks.join_all().await.into_iter().sum::<u64>()
    });
    let growth = growth as f64 / 1_048_576.0;
    let name = "growth of resident memory over 50 million messages";
    vec![Row::new(name, "MiB", vec![growth]).target(Target::AtMost(16.0))]
}

/// The resident memory of this process, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4_096
}
