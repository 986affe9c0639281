//! Publishing: messages of all streams go out in batches over one connection, several at a time.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use messaging_core::Result;
use messaging_core::driver::{Assurance, Outgoing, Receipt, Sender};
use messaging_core::lane::lane_of;
use redis::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::NAME;
use super::driver::Shared;
use super::keys::Lane;
use crate::backoff::Backoff;
use crate::connection::{Link, Sharded, Together, Traffic};
use crate::error::{closed, from_server, unexpected};
use crate::wire::{EntryId, append, number};

/// The most messages sent in one piece.
const BATCH: usize = 512;

/// How many pieces are on the wire at once. One connection keeps their order.
const IN_FLIGHT: usize = 4;

/// A message and the lane it goes to.
struct Addressed {
    lane: Arc<Lane>,
    outgoing: Outgoing,
}

/// The queue to the task that writes.
#[derive(Debug)]
pub(super) struct Writer {
    queue: mpsc::UnboundedSender<Addressed>,
    closed: CancellationToken,
}

impl Writer {
    #[expect(clippy::disallowed_methods, reason = "the publishing window bounds it")]
    pub(super) fn start(shared: &Arc<Shared>) -> Self {
        let (queue, messages) = mpsc::unbounded_channel();
        let closed = CancellationToken::new();
        let write = write(Arc::clone(shared), messages, closed.clone());
        shared.tasks.spawn(Together::new(write));
        Self { queue, closed }
    }

    /// Takes no more; what was handed over still goes out.
    pub(super) fn close(&self) {
        self.closed.cancel();
    }
}

/// The way to one stream.
pub(super) struct StreamsSender {
    writer: Arc<Writer>,
    lanes: Vec<Arc<Lane>>,
    /// Messages without a key take turns among the lanes.
    turn: AtomicU32,
}

impl StreamsSender {
    pub(super) fn new(writer: Arc<Writer>, lanes: Vec<Lane>) -> Self {
        let lanes = lanes.into_iter().map(Arc::new).collect();
        Self { writer, lanes, turn: AtomicU32::new(0) }
    }

    fn lane(&self, outgoing: &Outgoing) -> Option<&Arc<Lane>> {
        let count = u32::try_from(self.lanes.len()).ok().and_then(std::num::NonZeroU32::new)?;
        let number = match &outgoing.message.key {
            _ if count.get() == 1 => 0,
            Some(key) => lane_of(key, count),
            None => self.turn.fetch_add(1, Ordering::Relaxed) % count,
        };
        self.lanes.get(number as usize)
    }
}

impl Sender for StreamsSender {
    fn send(&self, one: Outgoing) {
        let Some(lane) = self.lane(&one).filter(|_| !self.writer.closed.is_cancelled()) else {
            return one.resolve(Err(closed(NAME, "publish")));
        };
        let addressed = Addressed { lane: Arc::clone(lane), outgoing: one };
        if let Err(refused) = self.writer.queue.send(addressed) {
            refused.0.outgoing.resolve(Err(closed(NAME, "publish")));
        }
    }

    fn send_all(&self, many: &mut Vec<Outgoing>) {
        many.drain(..).for_each(|one| self.send(one));
    }
}

impl fmt::Debug for StreamsSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamsSender").field("lanes", &self.lanes).finish_non_exhaustive()
    }
}

/// Writes until it is closed and everything is out. What was on the wire when the connection broke
/// is dropped, which reads as unknown; what was not waits for the next connection.
async fn write(
    shared: Arc<Shared>,
    mut queue: mpsc::UnboundedReceiver<Addressed>,
    closed: CancellationToken,
) {
    let mut backoff = Backoff::default();
    let mut waiting = Vec::new();
    loop {
        if waiting.is_empty() && !receive(&mut queue, &mut waiting, &closed).await {
            return;
        }
        match shared.connector.connect_inline().await {
            Ok((link, traffic)) => {
                backoff.reset();
                if write_over(&shared, link, traffic, &mut queue, &mut waiting, &closed).await {
                    return;
                }
            }
            Err(_) => {
                // What has expired meanwhile is forgotten, so that a long outage holds no memory.
                let now = Instant::now();
                waiting.retain(|one| one.outgoing.deadline > now);
                tokio::select! {
                    () = sleep(backoff.next()) => {}
                    () = shared.dead.cancelled() => return refuse(queue, waiting),
                }
            }
        }
        if shared.dead.is_cancelled() {
            return refuse(queue, waiting);
        }
    }
}

/// Waits for messages; `false` once it is closed and nothing is left.
async fn receive(
    queue: &mut mpsc::UnboundedReceiver<Addressed>,
    into: &mut Vec<Addressed>,
    closed: &CancellationToken,
) -> bool {
    tokio::select! {
        biased;
        received = queue.recv_many(into, BATCH) => received > 0,
        () = closed.cancelled() => false,
    }
}

fn refuse(mut queue: mpsc::UnboundedReceiver<Addressed>, waiting: Vec<Addressed>) {
    queue.close();
    let queued = std::iter::from_fn(move || queue.try_recv().ok());
    for Addressed { outgoing, .. } in waiting.into_iter().chain(queued) {
        outgoing.resolve(Err(closed(NAME, "publish")));
    }
}

type Answered = (Vec<Addressed>, redis::RedisResult<Vec<Value>>);

/// Writes over one connection until it breaks, or `true`: until all is out after closing.
async fn write_over(
    shared: &Shared,
    link: Link,
    mut traffic: Traffic,
    queue: &mut mpsc::UnboundedReceiver<Addressed>,
    waiting: &mut Vec<Addressed>,
    closed: &CancellationToken,
) -> bool {
    let mut in_flight: FuturesOrdered<BoxFuture<'static, Answered>> = FuturesOrdered::new();
    let mut closing = pin!(closed.cancelled());
    let mut is_closed = false;
    let mut has_ended = false;
    loop {
        if has_ended && in_flight.is_empty() {
            return false;
        }
        if !has_ended && !waiting.is_empty() && in_flight.len() < IN_FLIGHT {
            let now = Instant::now();
            let mut batch = std::mem::take(waiting);
            batch.retain_mut(|one| one.outgoing.begin(now));
            if !batch.is_empty() {
                in_flight.push_back(send(link.again(), batch, shared.config.wait_replicas));
            }
            continue;
        }
        if is_closed && in_flight.is_empty() {
            return true;
        }
        tokio::select! {
            biased;
            Some((batch, answer)) = in_flight.next() => match answer {
                Ok(answers) => resolve(batch, answers, shared.config.wait_replicas),
                // The confirms are dropped, those behind them too.
                Err(_) => return false,
            },
            received = queue.recv_many(waiting, BATCH), if waiting.is_empty() && !is_closed => {
                is_closed = received == 0;
            }
            () = &mut closing, if !is_closed && waiting.is_empty() => is_closed = true,
            // The connection ended; the next turn finds out what that means for what is on the wire.
            () = &mut traffic, if !has_ended => has_ended = true,
        }
    }
}

fn send(mut link: Link, batch: Vec<Addressed>, replicas: u32) -> BoxFuture<'static, Answered> {
    Box::pin(async move {
        let mut commands: Vec<Sharded> = batch
            .iter()
            .map(|Addressed { lane, outgoing }| Sharded {
                shard: lane.shard,
                command: append(&lane.key, &outgoing.message),
            })
            .collect();
        if replicas > 0 {
            let mut command = redis::cmd("WAIT");
            command.arg(replicas).arg(1_000);
            commands.push(Sharded { shard: 0, command });
        }
        let answer = link.run_all(commands).await;
        (batch, answer)
    })
}

fn resolve(batch: Vec<Addressed>, mut answers: Vec<Value>, replicas: u32) {
    let is_replicated = replicas == 0
        || answers.pop().as_ref().and_then(number).is_some_and(|n| n >= i64::from(replicas));
    for (Addressed { lane, outgoing }, answer) in batch.into_iter().zip(answers) {
        match outcome(&lane, &answer) {
            // Too few replicas have it, and a failover may forget it: dropped, it reads as unknown.
            Ok(_) if !is_replicated => drop(outgoing),
            outcome => outgoing.resolve(outcome),
        }
    }
}

fn outcome(lane: &Lane, answer: &Value) -> Result<Receipt> {
    if let Value::ServerError(error) = answer {
        return Err(from_server(error, "publish").at(NAME, "publish"));
    }
    let id = EntryId::of(answer).ok_or_else(|| unexpected("publish"))?;
    Ok(Receipt::new(Assurance::Persisted, Some(id.position(NAME, lane.number))))
}
