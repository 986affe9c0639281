//! One connection, from its opening to its end.
#![expect(
    clippy::disallowed_methods,
    reason = "the close is a task that nobody aborts; the window and the prefetch bound events"
)]

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use amqprs::connection::Connection;
use messaging_core::Result;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Role;
use super::channel::{Channel, Events, open_channel};
use super::events::{ChannelEvent, Listen};
use super::held::Held;
use crate::error::{Fault, Refusal};

/// How often the connection is asked whether it thinks it is open.
const LOOK: Duration = Duration::from_secs(1);
/// How often the server is asked for a sign of life, and how long it has for it.
const PROBE: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(2);
/// The client library never frees the number of a channel that the server has closed, and panics
/// when there is none left.
const MOST_CLOSES: u32 = 256;

/// One connection, from its opening to its end. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct Session(Arc<Live>);

struct Live {
    epoch: u32,
    role: Role,
    address: String,
    frame_max: u32,
    /// Taken when it ends, so that old handles keep nothing alive.
    connection: Mutex<Held<Connection>>,
    refusal: Arc<OnceLock<Refusal>>,
    /// Cancelled when the connection is over, whoever saw it first.
    ended: CancellationToken,
    why: OnceLock<String>,
    /// Whether it was we who ended it.
    is_given_up: AtomicBool,
    closes: AtomicU32,
    /// A publishing connection that the server does not read from.
    is_blocked: AtomicBool,
    /// Whether it has ever given a sign of life.
    has_answered: AtomicBool,
    tasks: TaskTracker,
}

/// What a session is made of.
pub(super) struct Parts {
    pub(super) connection: Connection,
    pub(super) address: String,
    pub(super) refusal: Arc<OnceLock<Refusal>>,
    pub(super) ended: CancellationToken,
}

impl Session {
    pub(super) fn new(parts: Parts, epoch: u32, role: Role, tasks: TaskTracker) -> Self {
        Self(Arc::new(Live {
            epoch,
            role,
            address: parts.address,
            frame_max: parts.connection.frame_max(),
            connection: Mutex::new(Held::new(parts.connection)),
            refusal: parts.refusal,
            ended: parts.ended,
            why: OnceLock::new(),
            is_given_up: AtomicBool::new(false),
            closes: AtomicU32::new(0),
            is_blocked: AtomicBool::new(false),
            has_answered: AtomicBool::new(false),
            tasks,
        }))
    }

    /// Which connection of its link this is; every reconnect counts one up.
    #[cfg(test)]
    pub(crate) fn epoch(&self) -> u32 {
        self.0.epoch
    }

    /// The node, without secrets.
    pub(crate) fn address(&self) -> &str {
        &self.0.address
    }

    /// The bytes of the largest frame that the server takes.
    pub(crate) fn frame_max(&self) -> usize {
        usize::try_from(self.0.frame_max).unwrap_or(usize::MAX)
    }

    /// What its tasks run in.
    pub(super) fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }

    /// Opens a channel whose events come through a queue. The queue's end is the channel's.
    pub(crate) async fn channel(&self, deadline: Instant) -> Result<(Channel, Events), Fault> {
        let (sender, events) = mpsc::unbounded_channel::<ChannelEvent>();
        Ok((self.channel_for(sender, deadline).await?, events))
    }

    /// Opens a channel whose events go to `listener`; its drop is the channel's end.
    pub(crate) async fn channel_for(
        &self,
        listener: impl Listen,
        deadline: Instant,
    ) -> Result<Channel, Fault> {
        open_channel(self, listener, deadline).await
    }

    /// Whether it is over.
    pub(crate) fn is_over(&self) -> bool {
        self.0.ended.is_cancelled()
    }

    /// Waits for its end.
    pub(crate) async fn ended(&self) {
        self.0.ended.cancelled().await;
    }

    /// Whether somebody has ended it: the server with a word, or we. Else it dies of itself.
    pub(crate) fn is_ended(&self) -> bool {
        self.0.refusal.get().is_some() || self.0.is_given_up.load(Ordering::Relaxed)
    }

    /// Why it ended.
    pub(crate) fn why(&self) -> String {
        if let Some(why) = self.0.why.get() {
            return why.clone();
        }
        match self.0.refusal.get() {
            Some(refusal) => format!("{} closed the connection: {refusal}", self.0.address),
            None => format!("the connection to {} ended", self.0.address),
        }
    }

    /// Whether the server has stopped reading from it, as it does when memory or disk run short.
    pub(crate) fn is_blocked(&self) -> bool {
        self.0.is_blocked.load(Ordering::Relaxed)
    }

    /// Whether it has ever given a sign of life.
    pub(super) fn has_answered(&self) -> bool {
        self.0.has_answered.load(Ordering::Relaxed)
    }

    /// Notes that publishes are, or are no longer, left without an answer for long.
    pub(crate) fn set_blocked(&self, is_blocked: bool) {
        if self.0.is_blocked.swap(is_blocked, Ordering::Relaxed) != is_blocked {
            let address = &self.0.address;
            if is_blocked {
                tracing::warn!(address, "the server answers no publish; it may be short of memory");
            } else {
                tracing::info!(address, "the server answers publishes again");
            }
        }
    }

    /// Ends it. Whatever waits for an answer of the server gets none.
    pub(crate) fn end(&self, why: &str) {
        self.0.why.set(format!("the connection to {} was ended: {why}", self.0.address)).ok();
        self.0.is_given_up.store(true, Ordering::Relaxed);
        self.0.ended.cancel();
    }

    /// A request was not answered in time, and its answer may still come: the client library does
    /// not survive that, so the connection is given up. One that the server has stopped reading
    /// from is only waited for.
    pub(super) fn expired(&self, what: &str) {
        if !(self.0.role == Role::Publish && self.is_blocked()) {
            self.end(&format!("{what} was not answered in time"));
        }
    }

    pub(super) fn count_close(&self) {
        if self.0.closes.fetch_add(1, Ordering::Relaxed) + 1 >= MOST_CLOSES {
            self.end("the server has closed many of its channels, and their numbers are used up");
        }
    }

    pub(super) fn connection(&self) -> Option<Connection> {
        self.0.connection.lock().unwrap_or_else(PoisonError::into_inner).get().cloned()
    }

    fn is_open(&self) -> bool {
        self.connection().is_some_and(|connection| connection.is_open())
    }

    /// Looks after it until it is over.
    pub(super) async fn watch_over(&self) {
        let probing = async {
            if let Err(fault) = self.probe().await {
                let error = fault.at("the probe");
                self.0.why.set(format!("{}: {error}", self.0.address)).ok();
            }
        };
        let looking = async {
            let mut look = interval(LOOK);
            while self.is_open() {
                look.tick().await;
            }
        };
        tokio::select! {
            () = self.ended() => {}
            () = looking => {}
            () = probing => {}
        }
        self.0.ended.cancel();
    }

    /// Asks for a sign of life again and again, on a channel of its own. A publishing connection
    /// without one is blocked, not lost: its heartbeats tell the difference.
    async fn probe(&self) -> Result<(), Fault> {
        let (channel, _events) = self.channel(Instant::now() + PROBE).await?;
        let mut ticks = interval(PROBE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            channel.sign_of_life(PATIENCE, self.0.role == Role::Publish).await?;
            self.0.has_answered.store(true, Ordering::Relaxed);
        }
    }

    /// Closes the connection in order. The close lasts until the server answers or is seen dead.
    pub(super) fn take_down(&self) {
        let mut held = self.0.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = held.take() {
            self.0.tasks.spawn(async move { connection.close().await.ok() });
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("address", &self.0.address)
            .field("epoch", &self.0.epoch)
            .finish_non_exhaustive()
    }
}
