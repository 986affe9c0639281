//! A lane: the queue to one partition and the task that empties it, a batch at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use messaging_core::driver::{Assurance, Backoff, Outgoing, Receipt};
use messaging_core::{Error, ErrorKind, Position};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Shared;
use super::failure::{Failure, not_sent, unknown};
use super::link::{Link, Written};
use crate::NAME;
use crate::error::closed;
use crate::wire;

/// The way to one partition. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    queue: mpsc::UnboundedSender<Outgoing>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many batches were begun.
    batches: AtomicU64,
    /// Whether the partition can't be written to now.
    stuck: AtomicBool,
}

impl Lane {
    #[expect(clippy::disallowed_methods, reason = "the publishing window bounds it")]
    pub(super) fn start(shared: &Arc<Shared>, topic: String, partition: i32) -> Self {
        let (queue, messages) = mpsc::unbounded_channel();
        let state = Arc::new(State::default());
        let task = Task {
            link: Link::new(shared, topic.clone(), partition),
            shared: Arc::clone(shared),
            topic,
            partition,
            state: Arc::clone(&state),
            queue: messages,
            waiting: Vec::new(),
            backoff: Backoff::default(),
            missing: None,
            limit: usize::MAX,
            not_before: None,
        };
        shared.tasks.spawn(task.run());
        Self { queue, state }
    }

    /// Hands a message over.
    pub(crate) fn send(&self, one: Outgoing) {
        if let Err(refused) = self.queue.send(one) {
            refused.0.resolve(Err(closed("publish")));
        }
    }

    /// How many batches were begun.
    pub(crate) fn batches(&self) -> u64 {
        self.state.batches.load(Ordering::Relaxed)
    }

    /// Whether the partition can't be written to now.
    pub(crate) fn is_stuck(&self) -> bool {
        self.state.stuck.load(Ordering::Relaxed)
    }
}

struct Task {
    shared: Arc<Shared>,
    topic: String,
    partition: i32,
    state: Arc<State>,
    queue: mpsc::UnboundedReceiver<Outgoing>,
    /// In order; at most a batch, and what a failed one gave back.
    waiting: Vec<Outgoing>,
    link: Link,
    backoff: Backoff,
    /// Since when the topic is not there, as far as brokers say.
    missing: Option<Instant>,
    /// The most bytes of a batch, where the topic takes less than we would send.
    limit: usize,
    /// When the broker wants the next batch at the earliest.
    not_before: Option<Instant>,
}

/// How long a topic may seem not to be there: a broker that starts knows none yet, with ZooKeeper for
/// seconds.
const MISSING: Duration = Duration::from_secs(10);

impl Task {
    /// Writes until it is closed and everything is out.
    async fn run(mut self) {
        let dead = self.shared.dead.clone();
        let writing = async {
            while self.collect().await {
                self.write().await;
            }
        };
        tokio::select! {
            () = writing => {}
            () = dead.cancelled() => {}
        }
        self.queue.close();
        let queued = std::iter::from_fn(|| self.queue.try_recv().ok());
        for outgoing in self.waiting.drain(..).chain(queued) {
            outgoing.resolve(Err(closed("publish")));
        }
    }

    /// Waits for messages, and with linger for a full batch; `false` once it is closed and nothing
    /// is left.
    async fn collect(&mut self) -> bool {
        let batch = self.shared.config.batch;
        let closed = &self.shared.closed;
        if self.waiting.is_empty() {
            let received = tokio::select! {
                biased;
                received = self.queue.recv_many(&mut self.waiting, batch.messages) => received,
                () = closed.cancelled() => 0,
            };
            if received == 0 {
                return false;
            }
        }
        let full = Instant::now() + batch.linger;
        while !batch.linger.is_zero() && self.waiting.len() < batch.messages {
            let room = batch.messages - self.waiting.len();
            tokio::select! {
                biased;
                received = self.queue.recv_many(&mut self.waiting, room) => if received == 0 { break },
                () = sleep_until(full) => break,
                () = closed.cancelled() => break,
            }
        }
        true
    }

    /// Writes the batch that waits first, or puts it off.
    async fn write(&mut self) {
        if let Some(time) = self.not_before.take() {
            sleep_until(time).await;
        }
        let now = Instant::now();
        // Some may be begun: given back by a try that wrote nothing.
        for one in self.waiting.extract_if(.., |one| one.deadline <= now) {
            one.resolve(Err(late(&self.topic).at(NAME, "publish")));
        }
        let Some(patience) = self.waiting.iter().map(|one| one.deadline).max() else { return };
        let prepared = timeout_at(patience, self.link.prepare()).await;
        let prepared = prepared.unwrap_or_else(|_| {
            let text = format!("topic {}: no broker was found in time", self.topic);
            Err(Error::new(ErrorKind::Timeout, text))
        });
        if let Err(error) = prepared {
            return self.put_off(&error).await;
        }
        let mut batch = self.take();
        let now = Instant::now();
        batch.retain_mut(|one| one.begin(now));
        let Some(deadline) = batch.iter().map(|one| one.deadline).max() else { return };
        self.state.batches.fetch_add(1, Ordering::Relaxed);
        match self.link.produce(&batch, deadline).await {
            Ok(written) => self.written(batch, &written),
            Err(Failure::Unknown(error)) => {
                for one in batch {
                    one.resolve(Err(unknown(&error).at(NAME, "publish")));
                }
                self.link.reset();
                self.renew().await;
            }
            Err(Failure::Refused(error)) => {
                let (kind, text) = (error.kind(), error.to_string());
                for one in batch {
                    let refused = Error::new(kind.clone(), text.clone());
                    one.resolve(Err(refused.at(NAME, "publish")));
                }
            }
            Err(Failure::TooLarge(_)) => self.split(batch).await,
            Err(Failure::NotWritten(error)) => {
                self.give_back(batch);
                self.link.reset();
                self.put_off(&error).await;
            }
        }
    }

    /// The longest batch from the front of what waits.
    fn take(&mut self) -> Vec<Outgoing> {
        let batch = self.shared.config.batch;
        let mut bytes = batch.bytes.min(self.limit);
        let mut count = 0;
        for one in self.waiting.iter().take(batch.messages) {
            match bytes.checked_sub(wire::size(&one.message)) {
                Some(rest) => bytes = rest,
                None => break,
            }
            count += 1;
        }
        if count == self.waiting.len() {
            return std::mem::take(&mut self.waiting);
        }
        let rest = self.waiting.split_off(count.max(1));
        std::mem::replace(&mut self.waiting, rest)
    }

    fn written(&mut self, batch: Vec<Outgoing>, written: &Written) {
        self.backoff.reset();
        self.missing = None;
        self.state.stuck.store(false, Ordering::Relaxed);
        if !written.throttled.is_zero() {
            self.not_before = Some(Instant::now() + written.throttled);
        }
        let lane = self.partition.cast_unsigned();
        for (one, offset) in batch.into_iter().zip(written.first..) {
            let position = Position::new(NAME, lane, offset.cast_unsigned().into());
            one.resolve(Ok(Receipt::new(Assurance::Persisted, Some(position))));
        }
    }

    /// Makes smaller batches of one that was too large; one message alone is refused.
    async fn split(&mut self, mut batch: Vec<Outgoing>) {
        let bytes: usize = batch.iter().map(|one| wire::size(&one.message)).sum();
        if batch.len() > 1 {
            self.limit = bytes / 2;
            return self.give_back(batch);
        }
        let asking = crate::topics::largest_message(&self.shared.cluster, &self.topic);
        let limit = asking.await.unwrap_or_default();
        for one in batch.drain(..) {
            let size = wire::size(&one.message);
            let text = format!(
                "a record of about {size} bytes, the limit of topic {} is {limit} (max.message.bytes)",
                self.topic
            );
            let kind = ErrorKind::TooLarge { size, limit };
            one.resolve(Err(Error::new(kind, text).at(NAME, "publish")));
        }
    }

    fn give_back(&mut self, mut batch: Vec<Outgoing>) {
        batch.append(&mut self.waiting);
        self.waiting = batch;
    }

    /// Waits for a better time. Messages whose time ends before are told that they were not sent, and
    /// all of them if the topic does not come to be there.
    async fn put_off(&mut self, error: &Error) {
        self.state.stuck.store(true, Ordering::Relaxed);
        self.missing = match error.kind() {
            ErrorKind::NotFound => self.missing.or_else(|| Some(Instant::now())),
            _ => None,
        };
        let is_missing = self.missing.is_some_and(|since| since.elapsed() >= MISSING);
        if is_missing || *error.kind() == ErrorKind::Denied {
            self.missing = None;
            self.state.stuck.store(false, Ordering::Relaxed);
            for one in self.waiting.drain(..) {
                let refused = Error::new(error.kind().clone(), error.to_string());
                one.resolve(Err(refused.at(NAME, "publish")));
            }
            return;
        }
        let next = Instant::now() + self.backoff.next();
        for one in self.waiting.extract_if(.., |one| one.deadline <= next) {
            one.resolve(Err(not_sent(error).at(NAME, "publish")));
        }
        if !self.waiting.is_empty() {
            sleep_until(next).await;
            return self.renew().await;
        }
        // The next message may not have the time to find out who leads by now, and nobody but it would
        // find out that the partition can be written to again.
        self.renew().await;
        self.state.stuck.store(false, Ordering::Relaxed);
    }

    /// Asks who leads the partition now. If nobody can say, the next try finds out.
    async fn renew(&self) {
        if let Err(error) = self.shared.cluster.refresh().await {
            tracing::debug!(topic = self.topic, %error, "the cluster's view can't be renewed");
        }
    }
}

fn late(topic: &str) -> Error {
    Error::new(ErrorKind::NotSent, format!("topic {topic}: nothing could be written in time"))
}
