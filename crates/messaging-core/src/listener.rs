//! At-most-once reception: a stream of what was heard and of what was missed.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::Stream;

use crate::delivery::Received;
use crate::driver::Gap;
use crate::error::{Error, Result};
use crate::intake::{Intake, Signal};
use crate::message::Message;
use crate::payload::Payload;

/// A stream of messages that are never settled and never come again.
///
/// # Guarantees
/// At most once. Losses that can be seen are items ([`Heard::Gap`]), never silence. A listener that
/// does not keep up loses messages; it never slows a publisher down.
///
/// # Cancellation
/// Waiting for the next item loses nothing.
#[must_use = "dropping a listener ends its subscription"]
pub struct Listener<T> {
    intake: Intake,
    payload: PhantomData<fn() -> T>,
}

/// An item of a [`Listener`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Heard<T> {
    /// A message.
    Message(Received<T>),
    /// Messages were missed.
    Gap(Gap),
}

impl<T: Payload> Listener<T> {
    pub(crate) const fn new(intake: Intake) -> Self {
        Self { intake, payload: PhantomData }
    }

    /// Waits for the next item; `None` after the subscription has ended.
    ///
    /// # Errors
    /// An [`Undecodable`](crate::ErrorKind::Undecodable) message is an error among other items, as
    /// there is no place to keep it; after any other error nothing follows.
    pub async fn next(&mut self) -> Option<Result<Heard<T>>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl<T: Payload> Stream for Listener<T> {
    type Item = Result<Heard<T>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(incoming) = self.intake.pop() {
                let heard = T::decode(&incoming.message)
                    .map_err(|error| named(&incoming.message, error))
                    .map(|payload| Heard::Message(self.intake.received(payload, incoming)));
                return Poll::Ready(Some(heard));
            }
            match ready!(self.intake.poll_signal(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(Signal::Gap(gap))) => return Poll::Ready(Some(Ok(Heard::Gap(gap)))),
                Some(Ok(Signal::Messages | Signal::Lost(_) | Signal::Expired(_))) => {}
            }
        }
    }
}

/// Says which message an undecodable body belongs to, as nothing else will.
fn named(message: &Message, error: Error) -> Error {
    let text = format!("message {} to {} was not read", message.id, message.subject);
    Error::new(error.kind().clone(), text).with_source(error)
}

impl<T> fmt::Debug for Listener<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("intake", &self.intake).finish_non_exhaustive()
    }
}
