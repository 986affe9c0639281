//! What the server refused for now, until it takes it or its deadline passes.

use std::collections::{HashMap, VecDeque};
use std::future::pending;

use messaging_core::driver::Backoff;
use messaging_core::{Error, ErrorKind};
use tokio::time::{Instant, sleep_until};

use super::super::NAME;
use super::super::keys::Lane;
use super::Addressed;

/// The lanes that the server refuses. What comes of one of them waits behind what was refused, and
/// only the first of it is on the wire: nothing overtakes.
#[derive(Default)]
pub(super) struct Holds {
    /// By key.
    lanes: HashMap<String, Held>,
    /// When all lanes are tried again; `None` while they are.
    due: Option<Instant>,
    backoff: Backoff,
}

#[derive(Default)]
struct Held {
    queue: VecDeque<Addressed>,
    /// Whether the message before the queue is on the wire.
    is_tried: bool,
}

impl Holds {
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Keeps a message that was refused. Those of a lane come in their order.
    pub(super) fn refused(&mut self, one: Addressed) {
        let held = self.lanes.entry(one.lane.key.clone()).or_default();
        if std::mem::take(&mut held.is_tried) {
            held.queue.push_front(one);
        } else {
            held.queue.push_back(one);
        }
    }

    /// Takes note that the server answered about a message of a lane, and lets go what it held up.
    pub(super) fn answered(&mut self, lane: &Lane, is_written: bool, free: &mut Vec<Addressed>) {
        let Some(held) = self.lanes.get(&lane.key) else { return };
        if held.is_tried {
            if let Some(held) = self.lanes.remove(&lane.key) {
                free.splice(0..0, held.queue);
            }
        } else if is_written && let Some(held) = self.lanes.remove(&lane.key) {
            // They came before what is written now, so it is too late for them.
            held.queue.into_iter().for_each(|one| one.outgoing.resolve(Err(overtaken())));
        }
        self.rest();
    }

    /// Takes what belongs to held lanes out of what is to be sent.
    pub(super) fn divert(&mut self, waiting: &mut Vec<Addressed>) {
        if self.lanes.is_empty() {
            return;
        }
        for one in std::mem::take(waiting) {
            match self.lanes.get_mut(&one.lane.key) {
                Some(held) => held.queue.push_back(one),
                None => waiting.push(one),
            }
        }
    }

    /// Adds the first message of every held lane, if it is time.
    pub(super) fn try_again(&mut self, now: Instant, batch: &mut Vec<Addressed>) {
        if !self.is_due(now) {
            return;
        }
        self.due = None;
        self.forget(now);
        for held in self.lanes.values_mut() {
            if let Some(first) = held.queue.pop_front() {
                held.is_tried = true;
                batch.push(first);
            }
        }
    }

    /// Forgets what has expired, so that a long outage holds no memory.
    pub(super) fn forget(&mut self, now: Instant) {
        self.lanes.retain(|_, held| {
            held.queue.retain_mut(|one| one.lives(now));
            held.is_tried || !held.queue.is_empty()
        });
        self.rest();
    }

    /// Sets when to try again, after a refusal.
    pub(super) fn postpone(&mut self) {
        self.due = self.due.or_else(|| Some(Instant::now() + self.backoff.next()));
    }

    /// On another connection: what was tried on the one before is lost, and all is tried anew.
    pub(super) fn start_over(&mut self) {
        self.lanes.values_mut().for_each(|held| held.is_tried = false);
        self.forget(Instant::now());
        if !self.lanes.is_empty() {
            self.postpone();
        }
    }

    fn rest(&mut self) {
        if self.lanes.is_empty() {
            *self = Self::default();
        }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Ends when it is time to try again.
    pub(super) async fn due(&self) {
        match self.due {
            Some(due) => sleep_until(due).await,
            None => pending().await,
        }
    }

    pub(super) fn into_messages(self) -> impl Iterator<Item = Addressed> {
        self.lanes.into_values().flat_map(|held| held.queue)
    }
}

fn overtaken() -> Error {
    let text = "the server refused it for now and took a later one, which it must not follow";
    Error::new(ErrorKind::Unavailable, text).at(NAME, "publish")
}
