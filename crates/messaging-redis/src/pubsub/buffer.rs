//! What has arrived and was not taken yet, bounded: the oldest makes room, and is counted.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use messaging_core::driver::{Arrivals, Event, Gap, Incoming, Parked};

/// The queue between the task that reads and the listener. The server cuts off who does not read,
/// so the reading task never waits for the listener.
#[derive(Debug)]
pub(super) struct Buffer {
    bound: Bound,
    state: Mutex<State>,
}

/// How much fits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub(super) messages: usize,
    /// A message larger than that fits alone.
    pub(super) bytes: usize,
    /// The most messages handed over in one piece.
    pub(super) piece: usize,
}

/// Something that arrived.
#[derive(Debug)]
pub(super) enum Item {
    /// A message and the bytes it takes.
    Message(Incoming, usize),
    /// A message that can't be read.
    Unreadable(String),
    /// The connection was lost, for this reason, and is back.
    Reconnected(String),
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Item>,
    bytes: usize,
    /// How many messages made room for others; they are older than everything in `items`.
    missed: u64,
    /// Why the connection was lost, where that made room too.
    lost: Option<String>,
    /// Set between the two events that a lost connection is.
    back: bool,
    ended: bool,
    waker: Option<Waker>,
}

impl Buffer {
    pub(super) fn new(bound: Bound) -> Self {
        Self { bound, state: Mutex::default() }
    }

    /// Adds what arrived together.
    pub(super) fn push(&self, items: impl IntoIterator<Item = Item>) {
        let mut state = self.lock();
        for item in items {
            state.push(item, self.bound);
        }
        let waker = if state.is_empty() { None } else { state.waker.take() };
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Says that nothing more comes. What is there can still be taken.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    pub(super) fn poll_next(&self, cx: &Context<'_>) -> Poll<Option<Event>> {
        let mut state = self.lock();
        if let Some(event) = state.take(self.bound) {
            return Poll::Ready(Some(event));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_empty(&self) -> bool {
        self.items.is_empty() && self.missed == 0 && self.lost.is_none() && !self.back
    }

    fn push(&mut self, item: Item, bound: Bound) {
        while self.items.len() >= bound.messages
            || (!self.items.is_empty() && self.bytes + item.bytes() > bound.bytes)
        {
            self.forget_oldest();
        }
        self.bytes += item.bytes();
        self.items.push_back(item);
    }

    fn forget_oldest(&mut self) {
        let Some(item) = self.items.pop_front() else { return };
        self.bytes -= item.bytes();
        match item {
            Item::Message(..) | Item::Unreadable(_) => self.missed += 1,
            Item::Reconnected(reason) => self.lost = Some(reason),
        }
    }

    fn take(&mut self, bound: Bound) -> Option<Event> {
        if std::mem::take(&mut self.back) {
            return Some(Event::Reconnected);
        }
        if let Some(reason) = self.lost.take() {
            return Some(self.gap_of_connection(reason));
        }
        if self.missed > 0 {
            let missed = std::mem::take(&mut self.missed);
            let reason = format!(
                "the listener fell more than {} messages or {} bytes behind",
                bound.messages, bound.bytes
            );
            return Some(Event::Gap(Gap::new(Some(missed), reason)));
        }
        match self.items.pop_front()? {
            Item::Unreadable(reason) => Some(Event::Parked(Parked::new(reason))),
            Item::Reconnected(reason) => Some(self.gap_of_connection(reason)),
            Item::Message(first, bytes) => {
                self.bytes -= bytes;
                let mut piece = Arrivals::with_capacity(bound.piece.min(self.items.len() + 1));
                piece.push(first);
                while piece.len() < bound.piece
                    && let Some((next, bytes)) = self.pop_message()
                {
                    self.bytes -= bytes;
                    piece.push(next);
                }
                Some(Event::Messages(piece))
            }
        }
    }

    fn pop_message(&mut self) -> Option<(Incoming, usize)> {
        match self.items.pop_front()? {
            Item::Message(incoming, bytes) => Some((incoming, bytes)),
            other => {
                self.items.push_front(other);
                None
            }
        }
    }

    fn gap_of_connection(&mut self, reason: String) -> Event {
        self.back = true;
        Event::Gap(Gap::new(None, reason))
    }
}

impl Item {
    const fn bytes(&self) -> usize {
        match self {
            Self::Message(_, bytes) => *bytes,
            Self::Unreadable(_) | Self::Reconnected(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use messaging_core::driver::Token;
    use messaging_core::{Message, Subject};

    use super::*;

    fn message(number: u8, bytes: usize) -> Item {
        let message = Message::new(Subject::from_static("events.n"), vec![number]);
        Item::Message(Incoming::new(message, Token { lane: 0, epoch: 0, id: 0 }), bytes)
    }

    fn buffer(messages: usize, bytes: usize, piece: usize) -> Buffer {
        Buffer::new(Bound { messages, bytes, piece })
    }

    /// Everything there is, as text.
    fn all(buffer: &Buffer) -> Vec<String> {
        let cx = Context::from_waker(Waker::noop());
        let mut all = Vec::new();
        while let Poll::Ready(Some(event)) = buffer.poll_next(&cx) {
            all.push(match event {
                Event::Messages(piece) => {
                    let number = |incoming: &Incoming| incoming.message.body[0].to_string();
                    piece.iter().map(number).collect::<Vec<_>>().join(" ")
                }
                Event::Gap(Gap { missed, .. }) => format!("missed {missed:?}"),
                Event::Parked(parked) => parked.reason,
                Event::Reconnected => "back".to_owned(),
                other => format!("{other:?}"),
            });
        }
        all
    }

    #[test]
    fn the_oldest_makes_room_and_is_counted_first() {
        let buffer = buffer(3, 100, 2);
        buffer.push((0..5).map(|number| message(number, 1)));
        assert_eq!(all(&buffer), ["missed Some(2)", "2 3", "4"]);
        buffer.push([message(5, 1)]);
        assert_eq!(all(&buffer), ["5"]);
    }

    #[test]
    fn bytes_are_bounded_and_a_large_message_fits_alone() {
        let buffer = buffer(10, 100, 10);
        buffer.push([message(0, 60), message(1, 60), message(2, 40)]);
        assert_eq!(all(&buffer), ["missed Some(1)", "1 2"]);
        buffer.push([message(3, 60), message(4, 500)]);
        assert_eq!(all(&buffer), ["missed Some(1)", "4"]);
        assert_eq!(buffer.lock().bytes, 0);
    }

    #[test]
    fn a_lost_connection_stays_known_when_it_makes_room() {
        let lost = || Item::Reconnected("gone".to_owned());
        let buffer = buffer(2, 100, 10);
        buffer.push([message(0, 1), lost(), message(1, 1)]);
        assert_eq!(all(&buffer), ["missed Some(1)", "missed None", "back", "1"]);
        buffer.push([message(0, 1), lost(), message(1, 1), message(2, 1)]);
        assert_eq!(all(&buffer), ["missed None", "back", "missed Some(1)", "1 2"]);
    }

    #[test]
    fn what_cannot_be_read_is_in_its_place() {
        let buffer = buffer(10, 100, 10);
        buffer.push([message(0, 1), Item::Unreadable("broken".to_owned()), message(1, 1)]);
        assert_eq!(all(&buffer), ["0", "broken", "1"]);
    }

    #[test]
    fn what_is_there_at_the_end_is_still_taken() {
        let buffer = buffer(10, 100, 10);
        buffer.push([message(0, 1)]);
        buffer.end();
        assert_eq!(all(&buffer), ["0"]);
        let cx = Context::from_waker(Waker::noop());
        assert!(matches!(buffer.poll_next(&cx), Poll::Ready(None)));
    }
}
