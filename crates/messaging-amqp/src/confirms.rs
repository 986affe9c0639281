//! Publishing with confirms: one task a channel hands over, so that numbers are the wire's order.

mod hearing;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod tests;
mod tracker;
mod writer;

use std::fmt;
use std::sync::Arc;

use amqprs::BasicProperties;
use futures::future::BoxFuture;
use messaging_core::{Error, ErrorKind, Result};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use self::writer::Writer;
use crate::connection::{Channel, Link};
use crate::error::{Refusal, check_short, closed};
use crate::wire::{Sender, fit};

/// What became of a publish.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The server has it, as durably as its queues are.
    Confirmed,
    /// It was `mandatory`, and nobody receives it.
    Returned(Refusal),
    /// A queue could not take it; another may have it.
    Nacked,
    /// It was on the wire when the channel ended, for this reason.
    Unknown(String),
    /// It is not at the server and will not be.
    Failed(Error),
}

/// What goes out in one publish.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    pub(crate) mandatory: bool,
    pub(crate) properties: BasicProperties,
    pub(crate) body: Vec<u8>,
}

/// Something to publish, held until its outcome is known.
pub(crate) trait Publication: Send + 'static {
    /// Asks, directly before the wire, whether it may still be sent. It may be asked again, for
    /// what is known not to have reached the server. `false`: its outcome is reported; it is dropped.
    fn begin(&mut self, now: Instant) -> bool;

    /// What goes onto the wire, where no frame has more bytes than `frame_max`.
    fn wire(&mut self, frame_max: usize) -> Result<Publish>;

    /// Whether it is the one with this id and routing key: a return names nothing else.
    fn is(&self, id: Option<&str>, routing_key: &str) -> bool;

    /// The exchange and the routing key that it is published to.
    fn route(&self) -> (&str, &str);

    /// Until when it may wait for a connection.
    fn deadline(&self) -> Instant;

    /// Says what became of it.
    fn finish(self, outcome: Outcome);
}

/// Declares what is published to, on every new channel.
pub(crate) type Setup =
    Box<dyn Fn(Channel, Instant) -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// A channel in confirm mode and its task, over every reconnect of a link.
pub(crate) struct Publisher<P> {
    queue: mpsc::UnboundedSender<P>,
    closed: CancellationToken,
    /// Cancelled when the task has ended.
    done: CancellationToken,
}

impl<P: Publication> Publisher<P> {
    /// Starts the task; it opens its channel when there is something to send.
    #[expect(
        clippy::disallowed_methods,
        reason = "the publishing window and the prefetch bound it"
    )]
    pub(crate) fn start(link: &Arc<Link>, setup: Setup) -> Self {
        let (queue, messages) = mpsc::unbounded_channel();
        let closed = CancellationToken::new();
        let writer = Writer::new(Arc::clone(link), setup, messages, closed.clone());
        let done = CancellationToken::new();
        let ending = done.clone().drop_guard();
        link.spawn(async move {
            let _ending = ending;
            writer.run().await;
        });
        Self { queue, closed, done }
    }

    /// Hands one over. It never blocks; what comes after [`Publisher::close`] fails.
    pub(crate) fn send(&self, one: P) {
        if self.closed.is_cancelled() {
            return one.finish(Outcome::Failed(closed("publish")));
        }
        if let Err(refused) = self.queue.send(one) {
            refused.0.finish(Outcome::Failed(closed("publish")));
        }
    }

    /// Takes no more. What was handed over still goes out, as long as the link is open; what has not
    /// by the link's end fails.
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }

    /// Closes it, and waits until every outcome is known; `false` if that is not so by `deadline`.
    pub(crate) async fn flush(&self, deadline: Instant) -> bool {
        self.close();
        timeout_at(deadline, self.done.cancelled()).await.is_ok()
    }
}

impl<P> Drop for Publisher<P> {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

impl<P> fmt::Debug for Publisher<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").finish_non_exhaustive()
    }
}

/// A publish of the layer's own: a retry copy, a dead letter.
pub(crate) struct Copy {
    publish: Publish,
    deadline: Instant,
    /// Taken when the outcome is known.
    answer: Option<oneshot::Sender<Outcome>>,
}

impl Publisher<Copy> {
    /// Publishes, and gives a handle to what became of it. What has not begun by `deadline` fails;
    /// a handle that ends without an answer says the same as [`Outcome::Unknown`].
    pub(crate) fn publish(
        &self,
        publish: Publish,
        deadline: Instant,
    ) -> oneshot::Receiver<Outcome> {
        let (answer, outcome) = oneshot::channel();
        self.send(Copy { publish, deadline, answer: Some(answer) });
        outcome
    }
}

impl Publication for Copy {
    fn begin(&mut self, now: Instant) -> bool {
        if now < self.deadline {
            return self.answer.as_ref().is_some_and(|answer| !answer.is_closed());
        }
        if let Some(answer) = self.answer.take() {
            let text = "the deadline passed before the message was on the wire";
            answer.send(Outcome::Failed(Error::new(ErrorKind::NotSent, text))).ok();
        }
        false
    }

    fn wire(&mut self, frame_max: usize) -> Result<Publish> {
        let Publish { exchange, routing_key, mandatory, properties, body } = &self.publish;
        check_short("exchange", exchange)?;
        check_short("routing key", routing_key)?;
        fit(properties, frame_max, Sender::Layer)?;
        Ok(Publish {
            exchange: exchange.clone(),
            routing_key: routing_key.clone(),
            mandatory: *mandatory,
            properties: properties.clone(),
            body: body.clone(),
        })
    }

    fn is(&self, id: Option<&str>, routing_key: &str) -> bool {
        self.publish.properties.message_id().map(String::as_str) == id
            && self.publish.routing_key == routing_key
    }

    fn route(&self) -> (&str, &str) {
        (&self.publish.exchange, &self.publish.routing_key)
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn finish(self, outcome: Outcome) {
        if let Some(answer) = self.answer {
            answer.send(outcome).ok();
        }
    }
}
