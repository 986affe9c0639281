//! The role of a consumer: a worker whose handlers take time and sometimes fail.

use std::time::Duration;

use messaging::{Broker, Bytes, Received, RetryPolicy, Verdict, Worker};
use serde::{Deserialize, Serialize};
use tests_integration::audit::{End, Id};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::group::{ATTEMPTS, CONCURRENCY, Group, PATTERN, PREFETCH};
use crate::identity::Identity;
use crate::nature::Nature;
use crate::role::{Control, Order};
use crate::wire::{Reporter, Saying};

/// A consumer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Consumer {
    pub(crate) identity: Identity,
    pub(crate) group: Group,
    pub(crate) control: Option<Control>,
}

/// Works until it is told to end. A subscription that can't go on is made anew.
pub(crate) async fn run(
    broker: &Broker,
    consumer: Consumer,
    mut orders: mpsc::Receiver<Order>,
    reporter: Reporter,
) -> messaging::Result<()> {
    loop {
        let worker = match work(broker, &consumer, &reporter).await {
            Ok(worker) => worker,
            Err(error) if error.is_retryable() => {
                sleep(Duration::from_millis(200)).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        reporter.say([Saying::Ready]);
        tokio::select! {
            // Orders can only be to end.
            _ = orders.recv() => {
                worker.stop().await?;
                return Ok(());
            }
            () = worker.ended() => {}
        }
    }
}

async fn work(
    broker: &Broker,
    consumer: &Consumer,
    reporter: &Reporter,
) -> messaging::Result<Worker> {
    let mut builder = broker
        .worker(consumer.group.name(), [PATTERN])
        .concurrency(CONCURRENCY)
        .prefetch(PREFETCH)
        .attempts(ATTEMPTS)
        .grace(Duration::from_secs(5))
        .retry(RetryPolicy::exponential(Duration::from_millis(100), Duration::from_millis(400)));
    if consumer.group.is_ordered() {
        builder = builder.ordered();
    }
    let handler = Handler { consumer: consumer.clone(), reporter: reporter.clone() };
    builder.spawn(move |received| handler.clone().handle(received)).await
}

#[derive(Clone)]
struct Handler {
    consumer: Consumer,
    reporter: Reporter,
}

impl Handler {
    async fn handle(self, received: Received<Bytes>) -> Verdict {
        let (id, digest) = self.consumer.identity.read(received.message());
        let group = self.consumer.group;
        self.reporter.say([Saying::Delivered { group, id, digest }]);
        let attempt = received.attempt();
        if self.consumer.control == Some(Control::AckEarly) {
            self.reporter.say([Saying::Acking { group, id }]);
            self.work_unseen(id, attempt);
            return Verdict::Ack;
        }
        if self.work(id, attempt).await {
            self.reporter
                .say([Saying::Handled { group, id, end: End::Ok }, Saying::Acking { group, id }]);
            return Verdict::Ack;
        }
        let failed = Saying::Handled { group, id, end: End::Failed };
        // With the last attempt it becomes a dead letter, which is read back at the end.
        if attempt < ATTEMPTS {
            self.reporter.say([failed, Saying::GivenBack { group, id }]);
        } else {
            self.reporter.say([failed]);
        }
        Verdict::fail(format!("attempt {attempt} was to fail"))
    }

    /// Does the work; `false` where it is to fail.
    async fn work(&self, id: Id, attempt: u32) -> bool {
        let nature = Nature::of(self.consumer.identity.seed, self.consumer.group, id);
        sleep(nature.work).await;
        attempt > nature.failures
    }

    #[expect(clippy::disallowed_methods, reason = "nobody waits for it: that is the mistake")]
    fn work_unseen(self, id: Id, attempt: u32) {
        tokio::spawn(async move {
            let end = if self.work(id, attempt).await { End::Ok } else { End::Failed };
            self.reporter.say([Saying::Handled { group: self.consumer.group, id, end }]);
        });
    }
}
