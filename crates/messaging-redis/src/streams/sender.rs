//! Publishing: messages of all streams go out in batches over one connection, several at a time.

mod holds;

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use messaging_core::Result;
use messaging_core::driver::{Assurance, Backoff, Outgoing, Receipt, Sender};
use messaging_core::lane::lane_of;
use redis::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use self::holds::Holds;
use super::NAME;
use super::driver::Shared;
use super::keys::Lane;
use crate::connection::{Link, Sharded, Together, Traffic, Written};
use crate::error::{closed, from_server, is_passing, unexpected};
use crate::wire::{EntryId, append};

/// The most messages sent in one piece.
const BATCH: usize = 512;

/// How many pieces are on the wire at once. One connection keeps their order.
const IN_FLIGHT: usize = 4;

/// A message and the lane it goes to.
struct Addressed {
    lane: Arc<Lane>,
    outgoing: Outgoing,
}

impl Addressed {
    /// Whether it may still be sent; if not, its caller knows that it was not.
    fn lives(&mut self, now: Instant) -> bool {
        now < self.outgoing.deadline || self.outgoing.begin(now)
    }
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
/// is dropped, which reads as unknown; what was not, or what the server refused for now, waits for
/// the next connection.
async fn write(
    shared: Arc<Shared>,
    mut queue: mpsc::UnboundedReceiver<Addressed>,
    closed: CancellationToken,
) {
    let mut backoff = Backoff::default();
    let mut waiting = Vec::new();
    let mut holds = Holds::default();
    loop {
        let is_idle = waiting.is_empty() && holds.is_empty();
        if is_idle && !receive(&mut queue, &mut waiting, &closed).await {
            return;
        }
        match shared.connector.connect_inline().await {
            Ok((link, traffic)) => {
                backoff.reset();
                let writing = Writing { shared: &shared, link, queue: &mut queue, closed: &closed };
                if writing.run(traffic, &mut waiting, &mut holds).await {
                    return;
                }
            }
            Err(_) => {
                // What has expired meanwhile is forgotten, so that a long outage holds no memory.
                let now = Instant::now();
                waiting.retain_mut(|one: &mut Addressed| one.lives(now));
                holds.forget(now);
                tokio::select! {
                    () = sleep(backoff.next()) => {}
                    () = shared.dead.cancelled() => {}
                }
            }
        }
        if shared.dead.is_cancelled() {
            return refuse(queue, holds.into_messages().chain(waiting));
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

fn refuse(mut queue: mpsc::UnboundedReceiver<Addressed>, waiting: impl Iterator<Item = Addressed>) {
    queue.close();
    let queued = std::iter::from_fn(move || queue.try_recv().ok());
    for Addressed { outgoing, .. } in waiting.chain(queued) {
        outgoing.resolve(Err(closed(NAME, "publish")));
    }
}

type Answered = (Vec<Addressed>, Written);

/// Writing over one connection.
struct Writing<'a> {
    shared: &'a Shared,
    link: Link,
    queue: &'a mut mpsc::UnboundedReceiver<Addressed>,
    closed: &'a CancellationToken,
}

impl Writing<'_> {
    /// Writes until the connection is of no more use, or `true`: until all is out after closing.
    async fn run(
        self,
        mut traffic: Traffic,
        waiting: &mut Vec<Addressed>,
        holds: &mut Holds,
    ) -> bool {
        let Self { shared, link, queue, closed } = self;
        let mut in_flight: FuturesOrdered<BoxFuture<'static, Answered>> = FuturesOrdered::new();
        let mut closing = pin!(closed.cancelled());
        let mut dying = pin!(shared.dead.cancelled());
        let mut is_closed = false;
        let mut has_ended = false;
        // Nothing more is sent then, and what is on the wire is waited for.
        let mut is_leaving = false;
        // What the server refuses until it serves must have nothing behind it that it takes.
        let mut room = 1;
        holds.start_over();
        loop {
            if is_leaving && in_flight.is_empty() {
                return false;
            }
            let may_send = !is_leaving && in_flight.len() < room;
            if may_send && (!waiting.is_empty() || holds.is_due(Instant::now())) {
                let batch = next_batch(waiting, holds);
                if !batch.is_empty() {
                    in_flight.push_back(send(link.again(), batch, shared.config.wait_replicas));
                }
                continue;
            }
            if is_closed && in_flight.is_empty() && holds.is_empty() {
                return true;
            }
            tokio::select! {
                biased;
                Some((batch, written)) = in_flight.next() => {
                    let is_broken = written.is_broken;
                    if resolve(batch, written, holds, waiting) {
                        // Another server may serve, and this one will not for a while.
                        is_leaving = true;
                        holds.postpone();
                    }
                    if is_broken && !link.is_cluster() {
                        // The confirms behind are dropped too.
                        return false;
                    }
                    is_leaving |= is_broken;
                    room = IN_FLIGHT;
                }
                received = queue.recv_many(waiting, BATCH), if waiting.is_empty() && !is_closed => {
                    is_closed = received == 0;
                }
                () = &mut closing, if !is_closed && waiting.is_empty() => is_closed = true,
                () = holds.due(), if may_send => {}
                () = &mut dying => return false,
                // The next turn finds out what that means for what is on the wire.
                () = &mut traffic, if !has_ended => (has_ended, is_leaving) = (true, true),
            }
        }
    }
}

/// Takes what may be sent now.
fn next_batch(waiting: &mut Vec<Addressed>, holds: &mut Holds) -> Vec<Addressed> {
    let now = Instant::now();
    holds.divert(waiting);
    let rest = waiting.split_off(waiting.len().min(BATCH));
    let mut batch = std::mem::replace(waiting, rest);
    holds.try_again(now, &mut batch);
    batch.retain_mut(|one| one.outgoing.begin(now));
    batch
}

fn send(mut link: Link, batch: Vec<Addressed>, replicas: u32) -> BoxFuture<'static, Answered> {
    Box::pin(async move {
        let commands = batch.iter().map(|Addressed { lane, outgoing }| Sharded {
            shard: lane.shard,
            command: append(&lane.key, &outgoing.message),
        });
        let written = link.write_all(commands.collect(), replicas).await;
        (batch, written)
    })
}

/// Says what became of a batch; `true` if the server refuses some of it for now.
fn resolve(
    batch: Vec<Addressed>,
    written: Written,
    holds: &mut Holds,
    waiting: &mut Vec<Addressed>,
) -> bool {
    let mut is_refused = false;
    for (mut one, answer) in batch.into_iter().zip(written.answers) {
        // Dropped, it reads as unknown.
        let Some(answer) = answer else {
            if !written.is_broken {
                holds.answered(&one.lane, true, waiting);
            }
            continue;
        };
        let outcome = outcome(&one.lane, &answer);
        match (answer, outcome) {
            (Value::ServerError(error), Err(refused)) if is_passing(&error) => {
                one.outgoing.withdraw(refused);
                holds.refused(one);
                is_refused = true;
            }
            (_, outcome) => {
                if !holds.is_empty() {
                    holds.answered(&one.lane, outcome.is_ok(), waiting);
                }
                one.outgoing.resolve(outcome);
            }
        }
    }
    is_refused
}

fn outcome(lane: &Lane, answer: &Value) -> Result<Receipt> {
    if let Value::ServerError(error) = answer {
        return Err(from_server(error, "publish").at(NAME, "publish"));
    }
    let id = EntryId::of(answer).ok_or_else(|| unexpected("publish"))?;
    Ok(Receipt::new(Assurance::Persisted, Some(id.position(NAME, lane.number))))
}
