//! What consumers, listeners and workers share: the event stream and the messages not yet started.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll, ready};

use futures::StreamExt;
use futures::stream::BoxStream;

use crate::broker::Shared;
use crate::delivery::{Received, Settling, Ticket, bounded};
use crate::driver::{Arrivals, Event, Incoming, Lanes, Settle, Settlement, Subscription, Token};
use crate::error::{Error, ErrorKind, Result};
use crate::observe::Notice;
use crate::payload::Payload;
use crate::spec::{Source, SubscribeSpec};

/// Turns driver events into messages, and answers those that are none.
pub(crate) struct Intake {
    events: BoxStream<'static, Result<Event>>,
    /// Delivered by the driver, at most `prefetch`, and not started by anybody.
    waiting: VecDeque<Incoming>,
    settling: Option<Arc<Settling>>,
    broker: Arc<Shared>,
    max_attempts: u32,
    reads_dead_letters: bool,
    /// Set after the last item, as a stream may not be polled then.
    ended: bool,
}

/// What one look at the driver brought.
pub(crate) enum Signal {
    /// There may be more messages.
    Messages,
    /// Messages were lost to us.
    Gap(crate::driver::Gap),
    /// Handlers of these lanes are to be cancelled.
    Lost(Lanes),
    /// Handlers of these deliveries are to be cancelled.
    Expired(Vec<Token>),
}

/// What became of a message before any handler saw it.
pub(crate) enum Admitted<T> {
    Delivery(Received<T>, Ticket),
    /// It was rejected: too many attempts, or not what its type says.
    Refused(Incoming, String),
}

impl Intake {
    pub(crate) fn new(
        subscription: Subscription,
        broker: Arc<Shared>,
        spec: &SubscribeSpec,
    ) -> Self {
        let settling = subscription.settler.map(|settler| {
            Arc::new(Settling {
                settler,
                topology: broker.topology(),
                timeout: spec.timeout,
                release_dropped: AtomicBool::new(false),
                _broker: Arc::clone(&broker),
            })
        });
        Self {
            events: subscription.events,
            waiting: VecDeque::new(),
            settling,
            broker,
            max_attempts: spec.max_attempts.get(),
            reads_dead_letters: matches!(spec.source, Source::DeadLetters(_)),
            ended: false,
        }
    }

    /// How many messages nobody has started.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn pop(&mut self) -> Option<Incoming> {
        self.waiting.pop_front()
    }

    /// Waits for the driver's next event and applies it to the waiting messages.
    pub(crate) fn poll_signal(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Signal>>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            let notice = match ready!(self.events.poll_next_unpin(cx)) {
                None => {
                    self.ended = true;
                    return Poll::Ready(None);
                }
                Some(Err(error)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                Some(Ok(Event::Messages(messages))) => {
                    self.receive(messages);
                    return Poll::Ready(Some(Ok(Signal::Messages)));
                }
                Some(Ok(Event::Gap(gap))) => {
                    self.broker.notice(&Notice::Gap(gap.clone()));
                    return Poll::Ready(Some(Ok(Signal::Gap(gap))));
                }
                Some(Ok(Event::Lost(lanes))) => {
                    self.waiting.retain(|incoming| !lanes.contains(incoming.token.lane));
                    self.broker.notice(&Notice::Lost(lanes.clone()));
                    return Poll::Ready(Some(Ok(Signal::Lost(lanes))));
                }
                Some(Ok(Event::Expired(expired))) => {
                    self.waiting.retain(|incoming| !expired.tokens.contains(&incoming.token));
                    self.broker.notice(&Notice::Expired(expired.clone()));
                    return Poll::Ready(Some(Ok(Signal::Expired(expired.tokens))));
                }
                Some(Ok(Event::Revoked(lanes))) => {
                    self.release(|incoming| lanes.contains(incoming.token.lane));
                    Notice::Revoked(lanes)
                }
                Some(Ok(Event::Assigned(lanes))) => Notice::Assigned(lanes),
                Some(Ok(Event::Parked(parked))) => Notice::Parked(parked),
                Some(Ok(Event::Reconnected)) => Notice::Reconnected,
            };
            self.broker.notice(&notice);
        }
    }

    /// Takes a large batch over as it is, where nothing waits before it.
    fn receive(&mut self, messages: Arrivals) {
        if self.waiting.is_empty() && messages.spilled() {
            self.waiting = messages.into_vec().into();
        } else {
            self.waiting.extend(messages);
        }
    }

    /// Decodes a message for a handler, or rejects it where no handler may see it.
    pub(crate) fn admit<T: Payload>(
        &self,
        settling: &Arc<Settling>,
        incoming: Incoming,
    ) -> Admitted<T> {
        let ticket = Ticket::new(Arc::clone(settling), incoming.token);
        if incoming.attempt > self.max_attempts {
            let reason = format!("not settled by {} attempts", self.max_attempts);
            return self.refuse(incoming, ticket, reason);
        }
        match T::decode(&incoming.message) {
            Ok(payload) => Admitted::Delivery(self.received(payload, incoming), ticket),
            Err(error) => self.refuse(incoming, ticket, error.to_string()),
        }
    }

    /// A message of an at-most-once subscription.
    pub(crate) fn received<T>(&self, payload: T, incoming: Incoming) -> Received<T> {
        Received::new(payload, incoming, self.reads_dead_letters)
    }

    fn refuse<T>(&self, incoming: Incoming, ticket: Ticket, reason: String) -> Admitted<T> {
        let reason = bounded(reason);
        ticket.settle(Settlement::Reject { reason: reason.clone() });
        self.broker.notice(&Notice::Refused {
            subject: incoming.message.subject.clone(),
            id: incoming.message.id.clone(),
            reason: reason.clone(),
        });
        Admitted::Refused(incoming, reason)
    }

    /// Gives back what nobody has started.
    pub(crate) fn release_waiting(&mut self) {
        self.release(|_| true);
    }

    fn release(&mut self, which: impl Fn(&Incoming) -> bool) {
        let Some(settling) = &self.settling else { return };
        let mut back: Vec<Settle> = Vec::new();
        self.waiting.retain(|incoming| {
            let released = which(incoming);
            if released {
                back.push(Settle::new(incoming.token, Settlement::Release));
            }
            !released
        });
        if !back.is_empty() {
            settling.settler.settle_all(&mut back);
        }
    }

    /// The settling half of an at-least-once subscription.
    pub(crate) fn require_settling(&self) -> Result<Arc<Settling>> {
        self.settling.clone().ok_or_else(|| {
            let text = "the driver opened an at-least-once subscription that can't be settled";
            Error::new(ErrorKind::Other, text).at(self.broker.name(), "subscribe")
        })
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.release_waiting();
    }
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake")
            .field("backend", &self.broker.name())
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}
