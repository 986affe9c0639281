//! An at-most-once subscription: a bounded queue that counts what it had to drop.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::SystemTime;

use messaging_core::driver::{Event, Gap, Incoming, Token};
use messaging_core::{Message, Patterns, Position};

use super::BATCH;

#[derive(Debug)]
pub(super) struct Listener {
    pub(super) connection: u64,
    pub(super) patterns: Patterns,
    pub(super) waker: Option<Waker>,
    limit: usize,
    queue: VecDeque<Incoming>,
    missed: u64,
}

impl Listener {
    pub(super) const fn new(connection: u64, patterns: Patterns, limit: usize) -> Self {
        Self { connection, patterns, waker: None, limit, queue: VecDeque::new(), missed: 0 }
    }

    /// Adds a message; the oldest one makes room.
    pub(super) fn push(&mut self, message: &Arc<Message>, position: Position, at: SystemTime) {
        if self.queue.len() == self.limit {
            self.queue.pop_front();
            self.missed += 1;
        }
        let token = Token { lane: 0, epoch: 0, id: 0 };
        self.queue
            .push_back(Incoming::new(Arc::clone(message), token).stored(Some(position), Some(at)));
    }

    /// What was dropped comes first: it was older than everything in the queue.
    pub(super) fn take(&mut self) -> Option<Event> {
        if self.missed > 0 {
            let missed = std::mem::take(&mut self.missed);
            let reason = format!("the listener fell more than {} messages behind", self.limit);
            return Some(Event::Gap(Gap::new(Some(missed), reason)));
        }
        let count = self.queue.len().min(BATCH);
        (count > 0).then(|| Event::Messages(self.queue.drain(..count).collect()))
    }
}

#[cfg(test)]
mod tests {
    use messaging_core::Subject;

    use super::*;
    use crate::store::position;

    #[test]
    fn a_slow_listener_misses_the_oldest_and_is_told_how_many() {
        let patterns = Patterns::new(["debates.#"]).unwrap();
        let mut listener = Listener::new(0, patterns, 10);
        for number in 0..501 {
            let subject = Subject::from_static("debates.n");
            let message = Arc::new(Message::new(subject, number.to_string()));
            listener.push(&message, position(number), SystemTime::now());
        }
        let Some(Event::Gap(gap)) = listener.take() else { panic!("nothing was missed") };
        assert_eq!(gap.missed, Some(491));
        let Some(Event::Messages(heard)) = listener.take() else { panic!("nothing was heard") };
        let bodies: Vec<_> = heard.iter().map(|incoming| &incoming.message.body[..]).collect();
        assert_eq!((bodies.len(), bodies[0], bodies[9]), (10, &b"491"[..], &b"500"[..]));
        assert!(listener.take().is_none());
    }
}
