use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use messaging_core::Result;
use messaging_core::driver::Event;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::driver::Connection;
use crate::store::{Seat, Taken};

/// What one subscription receives. Dropping it leaves the group.
pub(crate) struct Events {
    connection: Arc<Connection>,
    seat: Seat,
    /// Set to the time of the next retry, when there is nothing before.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Events {
    pub(crate) const fn new(connection: Arc<Connection>, seat: Seat) -> Self {
        Self { connection, seat, alarm: None }
    }

    /// Whether it is time to look again.
    fn poll_alarm(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if alarm.deadline() != until {
            alarm.as_mut().reset(until);
        }
        alarm.as_mut().poll(cx)
    }
}

impl Stream for Events {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let seat = self.seat;
            match self.connection.store.with(|state| state.take(seat, cx.waker())) {
                Taken::Event(event) => return Poll::Ready(Some(Ok(event))),
                Taken::Ended => return Poll::Ready(None),
                Taken::Nothing { until: None } => return Poll::Pending,
                Taken::Nothing { until: Some(until) } => {
                    if self.poll_alarm(until, cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let seat = self.seat;
        self.connection.store.with(|state| state.unseat(seat));
    }
}
