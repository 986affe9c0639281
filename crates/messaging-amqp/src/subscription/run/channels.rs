//! The channels of a subscription: what comes over them, and how they are left.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use amqprs::channel::ConsumerMessage;
use tokio::time::{Instant, timeout};

use super::super::desk::{MAIN, SUSPECTS};
use super::super::line::Line;
use super::super::member::Member;
use super::{BATCH, End};
use crate::connection::ChannelEvent;

/// What a look at the channels brought.
pub(super) enum Received {
    /// Deliveries, in the buffer.
    Deliveries,
    Ended(End),
}

pub(super) async fn receive(
    main: &mut Line,
    mut suspects: Option<&mut Line>,
    buffer: &mut Vec<ConsumerMessage>,
    leaving: bool,
) -> (u32, Received) {
    let (lane, count) = poll_fn(|cx| {
        if let Some(line) = suspects.as_deref_mut().filter(|line| !line.ended)
            && let Poll::Ready(count) = line.deliveries.poll_recv_many(cx, buffer, BATCH)
        {
            return Poll::Ready((SUSPECTS, count));
        }
        if main.ended {
            return Poll::Pending;
        }
        main.deliveries.poll_recv_many(cx, buffer, BATCH).map(|count| (MAIN, count))
    })
    .await;
    if count > 0 {
        return (lane, Received::Deliveries);
    }
    let line = match suspects {
        Some(suspects) if lane == SUSPECTS => suspects,
        _ => main,
    };
    if leaving && line.is_alive() {
        // It was cancelled by us.
        line.ended = true;
        return (lane, Received::Deliveries);
    }
    (lane, Received::Ended(why(line).await))
}

/// Why no more deliveries come over a channel.
async fn why(line: &mut Line) -> End {
    while let Ok(Some(event)) = timeout(Duration::from_secs(1), line.events.recv()).await {
        match event {
            ChannelEvent::Cancelled(tag) => {
                tracing::debug!(queue = line.queue, tag, "the server ended a consumer");
                return End::Cancelled(line.lane);
            }
            ChannelEvent::Closed(refusal) => {
                tracing::warn!(queue = line.queue, %refusal, "the server closed a consumer's channel");
                return End::Lost;
            }
            ChannelEvent::Acked { .. }
            | ChannelEvent::Nacked { .. }
            | ChannelEvent::Returned { .. } => {}
        }
    }
    End::Lost
}

pub(super) fn take_in(member: &Member, line: &mut Line, buffer: &mut Vec<ConsumerMessage>) {
    let mut arrivals = std::mem::take(&mut line.arrivals);
    arrivals.extend(buffer.drain(..).map(|delivery| line.read(member, delivery)));
    member.desk.arrived(line.lane, line.epoch, arrivals.drain(..));
    line.arrivals = arrivals;
}

/// Asks for no more deliveries, and takes in those that were on their way.
///
/// A quorum queue returns what it sends to a consumer that is gone by then, and counts that; so the
/// server is first given time for our last acks, after which it has no room to send more. A classic
/// queue may send some after its answer, and the client library keeps those for a consumer of the same
/// tag only; so there is one. Both times the marker is consumed, in which nothing ever is.
pub(super) async fn leave(member: &Member, lines: &mut [Line]) {
    let deadline = Instant::now() + member.shared.config.timeout;
    let marker = member.source.marker(&member.shared.names);
    for line in lines {
        if let Some(marker) = &marker {
            // A channel that is lost sends nothing either.
            line.settle_down(marker, deadline).await.ok();
        }
        line.cancel(deadline).await;
        let mut all = Vec::new();
        while line.deliveries.recv_many(&mut all, BATCH).await > 0 {
            take_in(member, line, &mut all);
        }
        if let Some(marker) = &marker
            && line.stand_in(marker, deadline).await.is_ok()
        {
            while let Ok(delivery) = line.deliveries.try_recv() {
                take_in(member, line, &mut vec![delivery]);
            }
        } else {
            line.ended = true;
        }
    }
}

/// Waits until the server has answered something after our last acks, so that it has those too before
/// the channel closes.
pub(super) async fn part(member: &Member, lines: &[Line]) {
    let deadline = Instant::now() + member.shared.config.timeout;
    for line in lines.iter().filter(|line| line.is_alive()) {
        if member.source.is_ordered() {
            // What is kept back has to return before another member gets anything.
            line.channel.set_prefetch(1, deadline).await.ok();
        } else {
            line.cancel(deadline).await;
        }
    }
}

impl Line {
    /// Whether its channel and connection are still there.
    fn is_alive(&self) -> bool {
        self.channel.refusal().is_none() && !self.channel.session().is_over()
    }
}
