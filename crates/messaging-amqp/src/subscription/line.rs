//! A queue that is consumed over one channel.

use std::sync::Arc;

use amqprs::FieldTable;
use amqprs::channel::ConsumerMessage;
use messaging_core::driver::{Event, Parked};
use messaging_core::{Error, StreamName, Subject, Topology};
use tokio::time::Instant;

use super::desk::Arrival;
use super::member::Member;
use super::source::Source;
use crate::connection::{Channel, Deliveries, Events, Session};
use crate::error::Fault;
use crate::topology::GroupShape;
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
    /// Room for what is read at once, used again and again.
    pub(super) arrivals: Vec<Arrival>,
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
        let (ended, last, arrivals) = (false, None, Vec::new());
        Ok(Self { lane, epoch, queue, channel, events, deliveries, ended, tag, last, arrivals })
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
            return Arrival::unseen();
        };
        let (subject, is_wanted, fault) = match self.subject(member, deliver.routing_key()) {
            Ok((subject, is_wanted)) => (subject, is_wanted, None),
            Err(error) => {
                let reason = format!("a message of queue {}: {error}", member.source.name());
                member.desk.tell(Event::Parked(Parked::new(reason)));
                let key = deliver.routing_key();
                // The dead letter is all that is left of the routing key.
                let fault = format!("{error}; its routing key is {}", key.escape_debug());
                (stand_in(&member.source, &member.shared.topology(), key), true, Some(fault))
            }
        };
        let is_ours = member.ours.iter().any(|exchange| **exchange == **deliver.exchange());
        let trust = if is_ours { Trust::Ours } else { Trust::Others };
        let properties = basic_properties.unwrap_or_default();
        let inbound = wire::incoming(subject, &properties, content.unwrap_or_default(), trust);
        // On 3.x the server believes a sender who writes its headers; the flag is its own, and so is
        // the count of a quorum queue with it. A classic queue counts nothing.
        let returns = match deliver.redelivered() {
            true if member.source.is_quorum(self.lane) => {
                u32::try_from(inbound.delivery_count).unwrap_or(u32::MAX).max(1)
            }
            true => 1,
            false => 0,
        };
        let message = is_wanted.then(|| Arc::new(inbound.message));
        let attempt = inbound.marks.attempts.saturating_add(1);
        Arrival { message, fault, attempt, returns, copy: inbound.marks.copy }
    }

    fn subject(&mut self, member: &Member, routing_key: &str) -> Result<(Subject, bool), Error> {
        if let Some(known) = self.last.as_ref().filter(|(subject, _)| **subject == *routing_key) {
            return Ok(known.clone());
        }
        let subject: Subject = routing_key.parse()?;
        // Dead letters are kept by stream.
        subject.stream().parse::<StreamName>()?;
        let is_wanted = member.wants(&subject);
        Ok(self.last.insert((subject, is_wanted)).clone())
    }
}

/// The subject of a dead letter whose routing key is none: the bare stream that it belongs to, so
/// that whoever looks at the dead letters of a known stream sees it.
fn stand_in(source: &Source, topology: &Topology, routing_key: &str) -> Subject {
    let first = routing_key.split('.').next().unwrap_or_default();
    let of_patterns = |patterns| {
        let streams = topology.streams_for(patterns).unwrap_or_default();
        streams.first().map(|stream| stream.name.name())
    };
    let received = || match source {
        Source::Group(GroupShape { patterns, .. }) | Source::Own { patterns } => {
            of_patterns(patterns)
        }
        Source::DeadLetters { stream, .. } => Some(stream.name()),
    };
    let known = topology.stream(first).map(|stream| stream.name.name());
    let stream = known.or_else(received).unwrap_or(first);
    stream.parse().unwrap_or(Subject::from_static("unreadable"))
}

#[cfg(test)]
mod tests {
    use messaging_core::Patterns;

    use super::*;

    fn shown(patterns: &str, routing_key: &str) -> String {
        let own = Source::Own { patterns: Patterns::new([patterns]).unwrap() };
        stand_in(&own, &Topology::default(), routing_key).to_string()
    }

    #[test]
    fn a_dead_letter_without_a_legal_subject_is_of_a_stream_that_somebody_can_look_at() {
        assert_eq!(shown("tasks.#", "tasks.my task"), "tasks");
        assert_eq!(shown("#", &format!("tasks.{}", "x".repeat(249))), "tasks");
        let first = Topology::default().streams[0].name.to_string();
        for foreign in ["", "my tasks.x", "unknown.my x"] {
            assert_eq!(shown("#", foreign), first);
        }
    }
}
