//! A message in the hands of the application, and the ways to settle it.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::broker::Shared;
use crate::confirm::settle_one;
use crate::driver::{Incoming, Settle, Settled, Settlement, Settler, Token};
use crate::error::Result;
use crate::headers::ours;
use crate::message::Message;
use crate::position::Position;
use crate::topology::Topology;

/// A payload with the message it came in.
#[derive(Clone, Debug)]
pub struct Received<T> {
    payload: T,
    message: Arc<Message>,
    attempt: u32,
    epoch: u32,
    position: Option<Position>,
    stored_at: Option<SystemTime>,
    is_dead_letter: bool,
}

impl<T> Received<T> {
    pub(crate) fn new(payload: T, incoming: Incoming, is_dead_letter: bool) -> Self {
        let Incoming { message, token, attempt, position, stored_at, .. } = incoming;
        let epoch = token.epoch;
        Self { payload, message, attempt, epoch, position, stored_at, is_dead_letter }
    }

    /// The message: subject, id, key, headers, body.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }

    pub(crate) fn shared_message(&self) -> Arc<Message> {
        Arc::clone(&self.message)
    }

    /// 1 + the hand-overs of this message to this group that are known to have failed.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The epoch of the lane that it came from, which grows when the lane is lost. In an ordered
    /// group on Kafka it counts for the whole group: of two owners of a partition, the later one has
    /// the higher epoch, so that what the earlier one still writes can be told from it.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Where the stream keeps it, on backends with positions.
    #[must_use]
    pub const fn position(&self) -> Option<Position> {
        self.position
    }

    /// When the broker stored it, where it says so.
    #[must_use]
    pub const fn stored_at(&self) -> Option<SystemTime> {
        self.stored_at
    }

    /// Who gave it up and why, if this came from a subscription to dead letters.
    #[must_use]
    pub fn dead_letter(&self) -> Option<DeadLetter<'_>> {
        self.is_dead_letter.then(|| DeadLetter::of(&self.message))
    }

    /// The payload alone.
    #[must_use]
    pub fn into_payload(self) -> T {
        self.payload
    }
}

impl<T> Deref for Received<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.payload
    }
}

impl<T> DerefMut for Received<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.payload
    }
}

/// What the layer wrote on a message when it became a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter<'a> {
    /// The group that gave it up.
    pub group: &'a str,
    /// Why.
    pub reason: &'a str,
    /// After how many attempts.
    pub attempts: u32,
    /// Where it came from: stream, and position where there is one.
    pub origin: &'a str,
}

impl<'a> DeadLetter<'a> {
    /// Reads it off a message that a dead-letter stream keeps. What is missing reads as empty.
    #[must_use]
    pub fn of(message: &'a Message) -> Self {
        let text = |name| message.headers.text(name).unwrap_or_default();
        Self {
            group: text(ours::DEAD_LETTER_GROUP),
            reason: text(ours::DEAD_LETTER_REASON),
            attempts: text(ours::DEAD_LETTER_ATTEMPTS).parse().unwrap_or_default(),
            origin: text(ours::DEAD_LETTER_ORIGIN),
        }
    }
}

/// A message to be settled: acked, retried or rejected, each by value, so only once.
///
/// ```compile_fail,E0382
/// # async fn twice(delivery: messaging_core::Delivery<messaging_core::Bytes>) {
/// delivery.ack();
/// delivery.ack();
/// # }
/// ```
///
/// # Cancellation
/// Dropping it returns the message, which counts as an attempt.
#[must_use = "dropping a delivery returns the message and counts as an attempt"]
pub struct Delivery<T> {
    received: Received<T>,
    ticket: Ticket,
}

impl<T> Delivery<T> {
    pub(crate) const fn new(received: Received<T>, ticket: Ticket) -> Self {
        Self { received, ticket }
    }

    /// The work is done.
    pub fn ack(self) {
        let Self { received, ticket } = self;
        // The driver keeps the message until it is acked, so it is best the last to drop it.
        drop(received);
        ticket.ack();
    }

    /// The work is done; waits until the driver or broker has recorded it.
    ///
    /// # Errors
    /// As [`Ticket::ack_confirmed`].
    pub async fn ack_confirmed(self) -> Result<Settled> {
        self.ticket.ack_confirmed().await
    }

    /// It failed; hand it over again, not before `after` has passed.
    ///
    /// # Errors
    /// As [`Ticket::retry`].
    pub fn retry(self, after: Duration) -> Result<()> {
        self.ticket.retry(after)
    }

    /// It can't be handled; keep it as a dead letter.
    pub fn reject(self, reason: impl Into<String>) {
        self.ticket.reject(reason);
    }

    /// Parts the payload from the right to settle it, which another task may use later.
    pub fn into_parts(self) -> (Received<T>, Ticket) {
        (self.received, self.ticket)
    }

    /// Acks many at once, which costs less than one by one.
    pub fn ack_all(deliveries: impl IntoIterator<Item = Self>) {
        let deliveries = deliveries.into_iter();
        let mut batch: Vec<Settle> = Vec::with_capacity(deliveries.size_hint().0);
        let mut of: Option<Arc<Settling>> = None;
        for delivery in deliveries {
            let mut ticket = delivery.ticket;
            if let Some(settling) = &of
                && !Arc::ptr_eq(settling, &ticket.settling)
            {
                settling.settler.settle_all(&mut batch);
                of = None;
            }
            batch.push(ticket.spend(Settlement::Ack));
            of.get_or_insert_with(|| Arc::clone(&ticket.settling));
        }
        if let Some(settling) = of {
            settling.settler.settle_all(&mut batch);
        }
    }
}

impl<T> Deref for Delivery<T> {
    type Target = Received<T>;

    fn deref(&self) -> &Received<T> {
        &self.received
    }
}

impl<T: fmt::Debug> fmt::Debug for Delivery<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("received", &self.received).finish_non_exhaustive()
    }
}

/// The right to settle one delivery.
///
/// # Cancellation
/// Dropping it returns the message, which counts as an attempt.
#[must_use = "dropping a ticket returns the message and counts as an attempt"]
#[derive(Debug)]
pub struct Ticket {
    settling: Arc<Settling>,
    token: Token,
    spent: bool,
}

/// What the tickets of one subscription share.
#[derive(Debug)]
pub(crate) struct Settling {
    pub(crate) settler: Arc<dyn Settler>,
    pub(crate) topology: Arc<Topology>,
    pub(crate) timeout: Duration,
    /// Set once the worker stops: what it cuts off was never given a fair chance.
    pub(crate) release_dropped: AtomicBool,
    /// Deliveries that are out keep the connection: they can be settled after everything else of
    /// it was dropped.
    pub(crate) _broker: Arc<Shared>,
}

impl Ticket {
    pub(crate) const fn new(settling: Arc<Settling>, token: Token) -> Self {
        Self { settling, token, spent: false }
    }

    /// The work is done.
    pub fn ack(self) {
        self.settle(Settlement::Ack);
    }

    /// The work is done; waits until the driver or broker has recorded it.
    ///
    /// # Cancellation
    /// The ack is handed over when this is called; dropping the future loses the answer only.
    ///
    /// # Errors
    /// [`ErrorKind::Stale`](crate::ErrorKind::Stale) where the message is no longer ours;
    /// [`ErrorKind::OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown) without an answer in time.
    pub fn ack_confirmed(mut self) -> impl Future<Output = Result<Settled>> + Send + use<> {
        let (confirm, pending) = settle_one(Instant::now() + self.settling.timeout);
        let settle = self.spend(Settlement::Ack).confirmed(confirm);
        self.settling.settler.settle(settle);
        pending
    }

    /// It failed; hand it over again, not before `after` has passed, rounded up to a retry tier.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidDelay`](crate::ErrorKind::InvalidDelay) beyond the longest tier; the
    /// message is returned then.
    pub fn retry(self, after: Duration) -> Result<()> {
        let after = self.settling.topology.tier_for(after)?;
        self.settle(Settlement::Retry { after });
        Ok(())
    }

    /// It can't be handled; keep it as a dead letter with the reason, of which at most 1,000
    /// characters are kept.
    pub fn reject(self, reason: impl Into<String>) {
        self.settle(Settlement::Reject { reason: bounded(reason.into()) });
    }

    /// It never reached a handler; hand it over again without counting an attempt.
    pub fn release(self) {
        self.settle(Settlement::Release);
    }

    pub(crate) fn settle(mut self, how: Settlement) {
        let settle = self.spend(how);
        self.settling.settler.settle(settle);
    }

    fn spend(&mut self, how: Settlement) -> Settle {
        self.spent = true;
        Settle::new(self.token, how)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.spent {
            let how = if self.settling.release_dropped.load(Ordering::Acquire) {
                Settlement::Release
            } else {
                Settlement::Abandon
            };
            self.settling.settler.settle(Settle::new(self.token, how));
        }
    }
}

/// A reason as it is kept: it travels in a header, whose size is bounded.
pub(crate) fn bounded(mut reason: String) -> String {
    const MOST: usize = 1_000;
    if let Some((end, _)) = reason.char_indices().nth(MOST) {
        reason.truncate(end);
        reason.push('…');
    }
    reason
}
