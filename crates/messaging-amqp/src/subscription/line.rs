//! A queue that is consumed over one channel.

use std::sync::Arc;

use amqprs::FieldTable;
use amqprs::channel::ConsumerMessage;
use messaging_core::driver::{Event, Parked};
use messaging_core::{Error, Subject};
use tokio::time::Instant;

use super::desk::Arrival;
use super::member::Member;
use crate::connection::{Channel, Deliveries, Events, Session};
use crate::error::Fault;
use crate::wire::{self, Trust};

/// One consumer on a channel of its own.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) lane: u32,
    /// The lane's epoch that this channel is.
    pub(super) epoch: u32,
    pub(super) queue: String,
    pub(super) channel: Channel,
    pub(super) events: Events,
    pub(super) deliveries: Deliveries,
    /// Whether it was cancelled by us and everything before that has come.
    pub(super) ended: bool,
    tag: String,
    /// The subject of the last delivery, and whether it is for this subscription: the next often
    /// has the same.
    last: Option<(Subject, bool)>,
}

impl Line {
    /// Consumes a queue, of which at most `prefetch` are unsettled.
    pub(super) async fn open(
        session: &Session,
        queue: String,
        (lane, epoch): (u32, u32),
        prefetch: u16,
        deadline: Instant,
    ) -> Result<Self, Fault> {
        let (channel, events) = session.channel(deadline).await?;
        channel.set_prefetch(prefetch, deadline).await?;
        let consumed = channel.consume(&queue, "", false, FieldTable::new(), deadline);
        let (tag, deliveries) = consumed.await?;
        let (ended, last) = (false, None);
        Ok(Self { lane, epoch, queue, channel, events, deliveries, ended, tag, last })
    }

    /// Waits until the server has written something after our last acks, by consuming an empty queue for
    /// a moment: what it sends for those acks is here by then.
    pub(super) async fn settle_down(&self, empty: &str, deadline: Instant) -> Result<(), Fault> {
        for _ in 0..2 {
            let consumed = self.channel.consume(empty, "", false, FieldTable::new(), deadline);
            let (tag, _) = consumed.await?;
            self.channel.cancel(&tag, deadline).await?;
        }
        Ok(())
    }

    /// Consumes another queue, which is empty, under the same tag.
    pub(super) async fn stand_in(&mut self, empty: &str, deadline: Instant) -> Result<(), Fault> {
        let consumed =
            self.channel.consume(empty, &self.tag, false, FieldTable::new(), deadline).await?;
        self.deliveries = consumed.1;
        Ok(())
    }

    /// Asks the server to send no more. What it has sent still comes.
    pub(super) async fn cancel(&self, deadline: Instant) {
        // A channel that is lost sends nothing either.
        self.channel.cancel(&self.tag, deadline).await.ok();
    }

    /// Reads a delivery.
    pub(super) fn read(&mut self, member: &Member, delivery: ConsumerMessage) -> Arrival {
        let ConsumerMessage { deliver: Some(deliver), basic_properties, content, .. } = delivery
        else {
            return Arrival { message: None, attempt: 1, returns: 0, copy: 0 };
        };
        let (subject, is_wanted) = match self.subject(member, deliver.routing_key()) {
            Ok(subject) => subject,
            Err(error) => {
                let reason = format!("a message of queue {}: {error}", member.source.name());
                member.desk.tell(Event::Parked(Parked::new(reason)));
                return Arrival { message: None, attempt: 1, returns: 0, copy: 0 };
            }
        };
        let is_ours = member.ours.iter().any(|exchange| **exchange == **deliver.exchange());
        let trust = if is_ours { Trust::Ours } else { Trust::Others };
        let properties = basic_properties.unwrap_or_default();
        let inbound = wire::incoming(subject, &properties, content.unwrap_or_default(), trust);
        // On 3.x the server believes a sender who writes its headers; the flag is its own.
        let returns = match deliver.redelivered() {
            true => u32::try_from(inbound.delivery_count).unwrap_or(u32::MAX).max(1),
            false => 0,
        };
        let message = is_wanted.then(|| Arc::new(inbound.message));
        let attempt = inbound.marks.attempts.saturating_add(1);
        Arrival { message, attempt, returns, copy: inbound.marks.copy }
    }

    fn subject(&mut self, member: &Member, routing_key: &str) -> Result<(Subject, bool), Error> {
        if let Some(known) = self.last.as_ref().filter(|(subject, _)| **subject == *routing_key) {
            return Ok(known.clone());
        }
        let subject: Subject = routing_key.parse()?;
        let is_wanted = member.wants(&subject);
        Ok(self.last.insert((subject, is_wanted)).clone())
    }
}
