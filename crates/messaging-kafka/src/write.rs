//! Writing: batches per partition, one on its way at a time.
//!
//! Each partition that is written to has a [`lane`]: a queue and a task that forms batches of what
//! came together while the batch before was on its way. How a batch gets to the broker is a
//! [`link`]; there are two, with one interface: [`ours`], a request on our own connection, and
//! [`theirs`], rskafka. What a broker's answer means is in [`failure`].

mod failure;
mod lane;
mod link;
mod ours;
pub(crate) mod records;
mod theirs;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use self::lane::Lane;
use crate::cluster::Cluster;
use crate::config::KafkaConfig;

/// All lanes of a connection.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    lanes: Mutex<HashMap<(String, i32), Lane>>,
}

/// What the lanes share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) config: KafkaConfig,
    /// One for each lane.
    tasks: TaskTracker,
    /// Cancelled when no more is taken; what was handed over still goes out.
    closed: CancellationToken,
    /// Cancelled when nothing waits for the brokers any more.
    dead: CancellationToken,
    theirs: theirs::Clients,
}

impl Writer {
    pub(crate) fn new(cluster: Arc<Cluster>, config: KafkaConfig, dead: CancellationToken) -> Self {
        let (tasks, closed) = (TaskTracker::new(), CancellationToken::new());
        let theirs = theirs::Clients::default();
        let shared = Shared { cluster, config, tasks, closed, dead, theirs };
        Self { shared: Arc::new(shared), lanes: Mutex::default() }
    }

    /// The lane of a partition, which begins with its first use.
    pub(crate) fn lane(&self, topic: &str, partition: i32) -> Lane {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let start = || Lane::start(&self.shared, topic.to_owned(), partition);
        lanes.entry((topic.to_owned(), partition)).or_insert_with(start).clone()
    }

    /// Takes no more.
    pub(crate) fn close(&self) {
        self.shared.closed.cancel();
    }

    /// Waits until everything that was handed over is out, after [`Writer::close`].
    pub(crate) async fn flushed(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.shared.closed.is_cancelled()
    }
}

/// Milliseconds since 1970.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}
