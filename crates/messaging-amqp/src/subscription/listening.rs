//! Listening at most once: a queue of its own, emptied at once; what does not fit is a counted gap.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::{Stream, StreamExt};
use messaging_core::driver::{Arrivals, Backoff, Event, Incoming, Subscription, Token};
use messaging_core::{Gap, Result, SubscribeSpec};
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::line::Line;
use super::member::{Member, Unopened};
use crate::connection::{Link, Role};
use crate::driver::Shared;

/// The most deliveries taken in one piece.
const BATCH: usize = 512;

/// Opens a listener.
pub(super) async fn open(shared: &Arc<Shared>, spec: &SubscribeSpec) -> Result<Subscription> {
    let member = Member::new(shared, spec)?;
    let link = Link::open(Arc::clone(&shared.config), Role::Consume).await?;
    let lines = member.open(&link).await.map_err(|unopened| unopened.error)?;
    let (most, most_bytes) = (spec.prefetch, spec.prefetch_bytes);
    let buffer = Arc::new(Buffer { most, most_bytes, state: Mutex::default() });
    let stop = CancellationToken::new();
    let heard = Heard { buffer: Arc::clone(&buffer), _stop: stop.clone().drop_guard() };
    let closing = shared.closing.clone();
    shared.tasks.spawn(async move {
        tokio::select! {
            () = listen(&member, &link, lines, &buffer) => {}
            () = stop.cancelled() => {}
            () = closing.cancelled() => {}
        }
        buffer.end();
        link.close(member.shared.config.timeout).await;
    });
    Ok(Subscription::at_most_once(heard.boxed()))
}

async fn listen(member: &Member, link: &Link, mut lines: Vec<Line>, buffer: &Buffer) {
    let mut backoff = Backoff::default();
    loop {
        if let Some(line) = lines.first_mut() {
            hear(member, line, buffer).await;
        }
        loop {
            sleep(backoff.next()).await;
            match member.open(link).await {
                Ok(opened) => {
                    lines = opened;
                    break;
                }
                Err(Unopened { error, .. }) => {
                    tracing::warn!(%error, "listening is not possible yet");
                }
            }
        }
        backoff.reset();
        buffer.reconnected();
    }
}

/// Takes what comes over one channel until that ends. Acks only make room for more.
async fn hear(member: &Member, line: &mut Line, buffer: &Buffer) {
    let mut deliveries = Vec::with_capacity(BATCH);
    let mut tag = 0;
    loop {
        let count = line.deliveries.recv_many(&mut deliveries, BATCH).await;
        if count == 0 {
            return;
        }
        tag += count as u64;
        let arrivals = deliveries.drain(..).map(|delivery| line.read(member, delivery));
        let arrivals = arrivals.filter(|arrival| arrival.fault.is_none());
        buffer.push(arrivals.filter_map(|arrival| {
            let token = Token { lane: 0, epoch: 0, id: 0 };
            Some(Incoming::new(arrival.message?, token))
        }));
        line.channel.ack(tag, true).await.ok();
    }
}

/// What was heard and not taken yet. The oldest makes room, and is counted.
#[derive(Debug)]
struct Buffer {
    most: NonZeroU32,
    /// One message is kept whatever its size.
    most_bytes: Option<usize>,
    state: Mutex<State>,
}

/// What is told in this order.
#[derive(Debug)]
enum Item {
    Message(Incoming),
    /// The connection was lost in between.
    Gap,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Item>,
    bytes: usize,
    missed: u64,
    /// Whether a gap made room, with what was before it.
    missed_gap: bool,
    ended: bool,
    waker: Option<Waker>,
}

impl Buffer {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, messages: impl Iterator<Item = Incoming>) {
        let mut state = self.lock();
        let most_bytes = self.most_bytes.unwrap_or(usize::MAX);
        for message in messages {
            state.bytes += message.message.bytes();
            state.items.push_back(Item::Message(message));
            while state.items.len() > self.most.get() as usize
                || (state.bytes > most_bytes && state.items.len() > 1)
            {
                state.forget_oldest();
            }
        }
        state.wake();
    }

    fn reconnected(&self) {
        let mut state = self.lock();
        if !matches!(state.items.back(), Some(Item::Gap)) {
            state.items.push_back(Item::Gap);
        }
        state.wake();
    }

    fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        state.wake();
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn forget_oldest(&mut self) {
        match self.items.pop_front() {
            Some(Item::Message(oldest)) => {
                self.bytes -= oldest.message.bytes();
                self.missed += 1;
            }
            Some(Item::Gap) => self.missed_gap = true,
            None => {}
        }
    }

    fn take(&mut self) -> Option<Event> {
        let missed = std::mem::take(&mut self.missed);
        let is_gap = matches!(self.items.front(), Some(Item::Gap));
        if std::mem::take(&mut self.missed_gap) || (missed == 0 && is_gap) {
            if is_gap {
                self.items.pop_front();
            }
            let reason = "the connection was lost, and the listener's queue with it";
            return Some(Event::Gap(Gap::new(None, reason)));
        }
        if missed > 0 {
            let reason = "the listener was slower than what came";
            return Some(Event::Gap(Gap::new(Some(missed), reason)));
        }
        let mut messages = Arrivals::new();
        while let Some(Item::Message(_)) = self.items.front()
            && let Some(Item::Message(message)) = self.items.pop_front()
        {
            self.bytes -= message.message.bytes();
            messages.push(message);
        }
        (!messages.is_empty()).then_some(Event::Messages(messages))
    }
}

/// What a listener hears. Dropping it ends its task.
#[derive(Debug)]
struct Heard {
    buffer: Arc<Buffer>,
    _stop: DropGuard,
}

impl Stream for Heard {
    type Item = Result<Event>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.buffer.lock();
        if let Some(event) = state.take() {
            return Poll::Ready(Some(Ok(event)));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use messaging_core::{Message, Subject};

    use super::*;

    fn message(body: &'static str) -> Incoming {
        let message = Message::new(Subject::from_static("events.n"), body);
        Incoming::new(message, Token { lane: 0, epoch: 0, id: 0 })
    }

    #[test]
    fn what_does_not_fit_is_a_gap_before_what_came_after() {
        let most = NonZeroU32::new(2).unwrap();
        let buffer = Buffer { most, most_bytes: None, state: Mutex::default() };
        buffer.push(["a", "b", "c"].into_iter().map(message));
        let mut state = buffer.lock();
        assert!(matches!(state.take(), Some(Event::Gap(gap)) if gap.missed == Some(1)));
        let Some(Event::Messages(heard)) = state.take() else { panic!("nothing was heard") };
        assert_eq!(heard.iter().map(|one| &one.message.body[..]).collect::<Vec<_>>(), [b"b", b"c"]);
        assert!(state.take().is_none());
    }

    #[test]
    fn a_gap_comes_after_what_was_heard_before_it() {
        let buffer = Buffer { most: NonZeroU32::MAX, most_bytes: None, state: Mutex::default() };
        buffer.push([message("a")].into_iter());
        buffer.reconnected();
        buffer.push([message("b")].into_iter());
        let mut state = buffer.lock();
        for body in ["a", "b"] {
            let Some(Event::Messages(heard)) = state.take() else { panic!("{body} is missing") };
            assert!(heard.iter().all(|one| one.message.body == body) && heard.len() == 1);
            let gap = state.take();
            assert_eq!(matches!(gap, Some(Event::Gap(gap)) if gap.missed.is_none()), body == "a");
        }
        assert_eq!(state.bytes, 0);
    }

    #[test]
    fn bytes_over_the_limit_are_a_gap_too_and_one_message_is_kept_whatever_its_size() {
        let size = message("a").message.bytes();
        let most = NonZeroU32::new(100).unwrap();
        let buffer = Buffer { most, most_bytes: Some(2 * size), state: Mutex::default() };
        let large = "one that fills it alone";
        for (bodies, missed) in [(["a", "b", "c"], 1), (["d", "e", large], 2)] {
            buffer.push(bodies.into_iter().map(message));
            let mut state = buffer.lock();
            let Some(Event::Gap(gap)) = state.take() else { panic!("nothing is missed") };
            let Some(Event::Messages(heard)) = state.take() else { panic!("nothing was heard") };
            let heard: Vec<_> = heard.iter().map(|one| &one.message.body[..]).collect();
            let kept = &bodies.map(str::as_bytes)[missed..];
            assert_eq!((gap.missed, &*heard), (Some(missed as u64), kept));
        }
    }
}
