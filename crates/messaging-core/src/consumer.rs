//! At-least-once consumption: a stream of deliveries.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::Stream;

use crate::delivery::{Delivery, Settling};
use crate::error::Result;
use crate::intake::{Admitted, Intake};
use crate::payload::Payload;

/// A stream of deliveries, each to be settled.
///
/// # Guarantees
/// At least once: a message comes again until it is acked or dead-lettered. A message that can't be
/// decoded, or that has used up its attempts, is dead-lettered and never an item. The only error is
/// the last item, when the subscription can't go on.
///
/// # Cancellation
/// Waiting for the next delivery loses nothing. Dropping the consumer returns what it has not given
/// out, without counting an attempt; deliveries that are out can still be settled.
#[must_use = "dropping a consumer leaves its group"]
pub struct Consumer<T> {
    intake: Intake,
    settling: Arc<Settling>,
    payload: PhantomData<fn() -> T>,
}

impl<T: Payload> Consumer<T> {
    pub(crate) fn new(intake: Intake) -> Result<Self> {
        let settling = intake.require_settling()?;
        Ok(Self { intake, settling, payload: PhantomData })
    }

    /// Waits for the next delivery; `None` after the subscription has ended.
    ///
    /// # Errors
    /// The reason why the subscription can't go on; nothing follows.
    pub async fn next(&mut self) -> Option<Result<Delivery<T>>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Waits until there is something, then gives everything that is there: at least one.
    ///
    /// # Errors
    /// As [`Consumer::next`].
    pub async fn next_batch(&mut self) -> Option<Result<Vec<Delivery<T>>>> {
        loop {
            let mut batch = Vec::with_capacity(self.intake.waiting());
            while let Some(incoming) = self.intake.pop() {
                if let Admitted::Delivery(received, ticket) =
                    self.intake.admit(&self.settling, incoming)
                {
                    batch.push(Delivery::new(received, ticket));
                }
            }
            if !batch.is_empty() {
                return Some(Ok(batch));
            }
            match poll_fn(|cx| self.intake.poll_signal(cx)).await {
                None => return None,
                Some(Err(error)) => return Some(Err(error)),
                Some(Ok(_)) => {}
            }
        }
    }
}

impl<T: Payload> Stream for Consumer<T> {
    type Item = Result<Delivery<T>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            while let Some(incoming) = self.intake.pop() {
                match self.intake.admit(&self.settling, incoming) {
                    Admitted::Delivery(received, ticket) => {
                        return Poll::Ready(Some(Ok(Delivery::new(received, ticket))));
                    }
                    Admitted::Refused(..) => {}
                }
            }
            match ready!(self.intake.poll_signal(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(_)) => {}
            }
        }
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("intake", &self.intake).finish_non_exhaustive()
    }
}
