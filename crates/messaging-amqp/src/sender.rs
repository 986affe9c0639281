//! Publishing: messages of all streams go out over one channel, in order, several in flight.

use std::fmt;
use std::sync::Arc;

use messaging_core::driver::{Assurance, Outgoing, Receipt, Sender};
use messaging_core::topology::StreamKind;
use messaging_core::{Error, ErrorKind, Result};
use tokio::time::Instant;

use crate::NAME;
use crate::confirms::{Outcome, Publication, Publish, Publisher, Setup};
use crate::connection::Link;
use crate::wire::{self, Marks, Outbound};

/// The way of the application's messages.
#[derive(Debug)]
pub(crate) struct Sending {
    publisher: Arc<Publisher<Addressed>>,
    max_body: usize,
}

impl Sending {
    /// Starts its task on the publishing connection.
    pub(crate) fn start(link: &Arc<Link>, setup: Setup) -> Self {
        let publisher = Arc::new(Publisher::start(link, setup));
        Self { publisher, max_body: link.config().max_body_bytes }
    }

    /// The way to a stream of this kind, through this exchange.
    pub(crate) fn sender(&self, exchange: &str, kind: StreamKind) -> Arc<dyn Sender> {
        Arc::new(RabbitSender {
            publisher: Arc::clone(&self.publisher),
            exchange: exchange.into(),
            kind,
            max_body: self.max_body,
        })
    }

    /// Takes no more; what was handed over still goes out.
    pub(crate) fn close(&self) {
        self.publisher.close();
    }

    /// Closes it, and waits until every outcome is known; `false` if that is not so by `deadline`.
    pub(crate) async fn flush(&self, deadline: Instant) -> bool {
        self.publisher.flush(deadline).await
    }
}

/// The way to one stream.
struct RabbitSender {
    publisher: Arc<Publisher<Addressed>>,
    exchange: Arc<str>,
    kind: StreamKind,
    max_body: usize,
}

impl Sender for RabbitSender {
    fn send(&self, one: Outgoing) {
        let size = one.message.body.len();
        if size > self.max_body {
            let limit = self.max_body;
            let text =
                format!("body of {}: {size} bytes, the limit is {limit}", one.message.subject);
            let error = Error::new(ErrorKind::TooLarge { size, limit }, text);
            return one.resolve(Err(error.at(NAME, "publish")));
        }
        let exchange = Arc::clone(&self.exchange);
        self.publisher.send(Addressed { exchange, kind: self.kind, outgoing: one });
    }

    fn send_all(&self, many: &mut Vec<Outgoing>) {
        many.drain(..).for_each(|one| self.send(one));
    }
}

impl fmt::Debug for RabbitSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitSender").field("exchange", &self.exchange).finish_non_exhaustive()
    }
}

/// A message of the application and where it goes.
struct Addressed {
    exchange: Arc<str>,
    kind: StreamKind,
    outgoing: Outgoing,
}

impl Publication for Addressed {
    fn begin(&mut self, now: Instant) -> bool {
        self.outgoing.begin(now)
    }

    #[inline]
    fn wire(&mut self, frame_max: usize) -> Result<Publish> {
        let Outbound { properties, routing_key, body } =
            wire::outgoing(&self.outgoing.message, Marks::default())?;
        let message = &self.outgoing.message;
        // What the layer itself writes fits into any frame.
        if message.key.is_some() || !message.headers.is_empty() {
            wire::fit(&properties, frame_max, wire::Sender::Application)?;
        }
        let exchange = self.exchange.to_string();
        Ok(Publish { exchange, routing_key, mandatory: true, properties, body })
    }

    fn is(&self, id: Option<&str>, routing_key: &str) -> bool {
        let message = &self.outgoing.message;
        *message.subject == *routing_key && id == Some(message.id.text(&mut [0; 36]))
    }

    fn route(&self) -> (&str, &str) {
        (&self.exchange, &self.outgoing.message.subject)
    }

    fn deadline(&self) -> Instant {
        self.outgoing.deadline
    }

    fn finish(self, outcome: Outcome) {
        let Self { kind, outgoing, .. } = self;
        let failed = |kind, text| Err(Error::new(kind, text).at(NAME, "publish"));
        let result = match outcome {
            Outcome::Confirmed => Ok(Receipt::new(Assurance::Persisted, None)),
            Outcome::Returned(_) if kind == StreamKind::Log => {
                Ok(Receipt::new(Assurance::NoReceiver, None))
            }
            Outcome::Returned(refusal) => {
                let subject = &outgoing.message.subject;
                let text = format!(
                    "nobody receives {subject} ({refusal}): create a group for it, or make its stream a log"
                );
                failed(ErrorKind::Unroutable, text)
            }
            // With several queues, others may have it.
            Outcome::Nacked => {
                let text = "a queue could not take the message".to_owned();
                failed(ErrorKind::OutcomeUnknown, text)
            }
            Outcome::Unknown(why) => failed(ErrorKind::OutcomeUnknown, why),
            Outcome::Failed(error) => Err(error.at(NAME, "publish")),
        };
        outgoing.resolve(result);
    }
}
