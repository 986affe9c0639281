//! The role of a consumer: a worker whose handlers take time and sometimes fail.

use std::sync::Arc;
use std::time::Duration;

use messaging::{Broker, Bytes, Received, RetryPolicy, Verdict, Worker};
use serde::{Deserialize, Serialize};
use tests_integration::audit::{End, Id};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::sleep;

use crate::backend::kafka::highest;
use crate::group::{ATTEMPTS, CONCURRENCY, Group, PATTERN, PREFETCH};
use crate::identity::Identity;
use crate::nature::Nature;
use crate::role::{Control, Order};
use crate::wire::{Held, Reporter, Saying};

/// A consumer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Consumer {
    pub(crate) identity: Identity,
    pub(crate) group: Group,
    /// Its place in the group, from 1 on.
    pub(crate) number: u32,
    pub(crate) control: Option<Control>,
    /// Whether its deliveries tell under which ownership of a lane they are.
    pub(crate) fenced: bool,
}

/// Works until it is told to end. A subscription that can't go on is made anew.
pub(crate) async fn run(
    broker: &Broker,
    consumer: Consumer,
    mut orders: mpsc::Receiver<Order>,
    reporter: Reporter,
) -> messaging::Result<()> {
    if consumer.control == Some(Control::CommitHighest) {
        return highest::run(broker, consumer, orders, reporter).await;
    }
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
    let queue = Arc::new(Semaphore::new(1));
    let handler = Handler { consumer: consumer.clone(), reporter: reporter.clone(), queue };
    builder.spawn(move |received| handler.clone().handle(received)).await
}

#[derive(Clone)]
struct Handler {
    consumer: Consumer,
    reporter: Reporter,
    /// Lets one at a time through, where there is a queue behind the handlers: that is a mistake.
    queue: Arc<Semaphore>,
}

impl Handler {
    async fn handle(self, received: Received<Bytes>) -> Verdict {
        let (id, digest) = self.consumer.identity.read(received.message());
        let attempt = received.attempt();
        let held = self.held(&received);
        if self.consumer.control == Some(Control::NoFencing) {
            return self.handle_queued(id, digest, attempt, held).await;
        }
        self.handle_now(id, digest, attempt, held).await
    }

    fn held(&self, received: &Received<Bytes>) -> Option<Held> {
        let position = received.position().filter(|_| self.consumer.fenced)?;
        let lane = u8::try_from(position.lane()).ok()?;
        Some(Held { lane, epoch: received.epoch() })
    }

    /// Whoever cancels the handler does not reach what is in the queue.
    #[expect(clippy::disallowed_methods, reason = "nobody ends it: that is the mistake")]
    async fn handle_queued(self, id: Id, digest: u64, attempt: u32, held: Option<Held>) -> Verdict {
        let (tell, told) = oneshot::channel();
        tokio::spawn(async move {
            let queue = Arc::clone(&self.queue);
            let turn = queue.acquire().await;
            let verdict = self.handle_now(id, digest, attempt, held).await;
            drop(turn);
            // Perhaps nobody waits any more.
            drop(tell.send(verdict));
        });
        told.await.unwrap_or_else(|_| Verdict::fail("the queue is gone"))
    }

    async fn handle_now(self, id: Id, digest: u64, attempt: u32, held: Option<Held>) -> Verdict {
        let group = self.consumer.group;
        self.reporter.say([Saying::Delivered { group, id, digest, held }]);
        if self.consumer.control == Some(Control::AckEarly) {
            self.reporter.say([Saying::Acking { group, id }]);
            self.work_unseen(id, attempt, held);
            return Verdict::Ack;
        }
        if self.work(id, attempt).await {
            self.reporter.say([
                Saying::Handled { group, id, end: End::Ok, held },
                Saying::Acking { group, id },
            ]);
            return Verdict::Ack;
        }
        let failed = Saying::Handled { group, id, end: End::Failed, held };
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
    fn work_unseen(self, id: Id, attempt: u32, held: Option<Held>) {
        tokio::spawn(async move {
            let end = if self.work(id, attempt).await { End::Ok } else { End::Failed };
            self.reporter.say([Saying::Handled { group: self.consumer.group, id, end, held }]);
        });
    }
}
