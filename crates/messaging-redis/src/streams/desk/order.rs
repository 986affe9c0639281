//! The order of keys in one lane: one message of a key is out at a time.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;
use tokio::time::Instant;

use super::Fetched;
use crate::wire::EntryId;

/// Which messages of a lane wait behind others of their key, or for their time.
#[derive(Debug, Default)]
pub(super) struct KeyOrder {
    /// The keys of which a message is out, with those that wait behind it.
    held: HashMap<Bytes, VecDeque<Fetched>>,
    /// Messages that are next of their key, the oldest first.
    next: BTreeMap<EntryId, Fetched>,
    /// Messages that come again at a time.
    delayed: BTreeMap<(Instant, EntryId), Fetched>,
}

impl KeyOrder {
    /// Lets a message through if no other of its key is out; else it waits behind that.
    pub(super) fn admit(&mut self, message: Fetched) -> Option<Fetched> {
        let Some(key) = message.message.key.clone() else { return Some(message) };
        match self.held.get_mut(&key) {
            Some(behind) => {
                behind.push_back(message);
                None
            }
            None => {
                self.held.insert(key, VecDeque::new());
                Some(message)
            }
        }
    }

    /// A message is settled for good: the next of its key may go.
    pub(super) fn finish(&mut self, message: &Fetched) {
        let Some(key) = &message.message.key else { return };
        match self.held.get_mut(key).map(VecDeque::pop_front) {
            Some(Some(following)) => self.again(following),
            Some(None) => drop(self.held.remove(key)),
            None => {}
        }
    }

    /// A message goes out next of its key.
    pub(super) fn again(&mut self, message: Fetched) {
        self.next.insert(message.id, message);
    }

    /// A message comes again at a time; its key waits.
    pub(super) fn delay(&mut self, message: Fetched, at: Instant) {
        self.delayed.insert((at, message.id), message);
    }

    /// A message that goes out now, ahead of those that have no key or a new one.
    pub(super) fn due(&mut self, now: Instant) -> Option<Fetched> {
        if let Some((_, message)) = self.next.pop_first() {
            return Some(message);
        }
        let entry = self.delayed.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.delayed.first_key_value().map(|((at, _), _)| *at)
    }

    /// How many messages wait.
    pub(super) fn held(&self) -> usize {
        let behind: usize = self.held.values().map(VecDeque::len).sum();
        behind + self.next.len() + self.delayed.len()
    }

    pub(super) fn knows(&self, id: EntryId) -> bool {
        self.next.contains_key(&id)
            || self.delayed.keys().any(|(_, known)| *known == id)
            || self.held.values().flatten().any(|fetched| fetched.id == id)
    }
}
