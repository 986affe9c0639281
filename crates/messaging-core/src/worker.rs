//! The worker: a group member that runs a handler for each message.
//!
//! One dispatcher task takes messages in, starts up to `concurrency` handlers, and walks the failure
//! ladder: retry with growing delays, then the dead letters. What a handler returns is its
//! [`Verdict`].

mod builder;
mod dispatch;
mod ladder;
mod progress;
mod report;
mod retry;
mod verdict;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub use self::builder::WorkerBuilder;
use self::progress::Watched;
pub use self::report::{Outcome, WorkerReport};
pub use self::retry::RetryPolicy;
pub use self::verdict::{IntoVerdict, Verdict};
use crate::error::{Error, ErrorKind, Result};

/// A running worker. It was subscribed when [`WorkerBuilder::spawn`] returned.
///
/// # Cancellation
/// Dropping it stops it as [`Worker::stop`] does, unobserved.
#[derive(Debug)]
pub struct Worker {
    /// Dropped or sent: the dispatcher stops.
    stop: oneshot::Sender<()>,
    progress: Watched,
    dispatcher: JoinHandle<Result<()>>,
}

impl Worker {
    /// Waits until `count` messages have been settled for good: acked or dead-lettered.
    ///
    /// # Cancellation
    /// Harmless.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] if the worker has ended with fewer.
    pub async fn settled(&self, count: u64) -> Result<()> {
        if self.progress.settled(count).await {
            return Ok(());
        }
        let settled = self.report().settled();
        let text = format!("the worker ended with {settled} of {count} messages settled");
        Err(Error::new(ErrorKind::Closed, text))
    }

    /// What it has done so far.
    #[must_use]
    pub fn report(&self) -> WorkerReport {
        self.progress.report()
    }

    /// Waits until it has ended by itself, which it does only when its subscription can't go on;
    /// [`Worker::stop`] then tells why.
    pub async fn ended(&self) {
        self.progress.ended().await;
    }

    /// Stops it: takes no more, gives back what no handler has started, lets running handlers end
    /// within the grace time, cancels the rest and gives it back without counting an attempt.
    ///
    /// # Cancellation
    /// It goes on stopping, unobserved.
    ///
    /// # Errors
    /// The reason why its subscription could not go on, if it had ended by itself.
    pub async fn stop(self) -> Result<WorkerReport> {
        drop(self.stop);
        match self.dispatcher.await {
            Ok(ended) => ended.map(|()| self.progress.report()),
            Err(died) => {
                Err(Error::new(ErrorKind::Other, "the worker's dispatcher died").with_source(died))
            }
        }
    }
}
