//! The recorder: what every process says, and what is open just now.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tests_integration::audit::{End, Event, Fate, History, Id, Outcome, Tenure, What};
use tokio::sync::watch;

use crate::clock::{self, SECOND};
use crate::group::{Group, PATTERN};
use crate::identity::{SUBJECT, key_text};
use crate::wire::{Held, Record, Saying};

/// A process, as it is known to the recorder; another number after a restart.
pub(crate) type Member = u32;

/// Everything that happened so far.
#[derive(Debug)]
pub(crate) struct Ledger {
    state: Mutex<State>,
    seen: watch::Sender<Seen>,
}

/// What was seen last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// How many publishes have got their last outcome, more or less: each return counts.
    pub(crate) returned: u64,
    /// When a publish was last confirmed.
    pub(crate) confirmed: u64,
    /// When each group last got something.
    pub(crate) delivered: [u64; Group::ALL.len()],
    /// How many each group has handled; nothing where there was no such group.
    pub(crate) handled: [Option<u64>; Group::ALL.len()],
    /// How many processes have said that they are ready.
    pub(crate) ready: u64,
    /// What waits, as the inspector says.
    pub(crate) lag: Option<u64>,
    pub(crate) drained: bool,
}

#[derive(Debug, Default)]
struct State {
    events: Vec<Event>,
    publishes: Open<Id>,
    deliveries: Open<(Member, Group, Id)>,
    ready: HashMap<Member, u64>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { state: Mutex::default(), seen: watch::Sender::new(Seen::default()) }
    }
}

impl Ledger {
    /// Takes down what a process said.
    pub(crate) fn take(&self, member: Member, records: &[Record]) {
        let mut state = self.lock();
        for record in records {
            state.take(member, record);
        }
        drop(state);
        self.seen.send_modify(|seen| records.iter().for_each(|record| seen.add(record)));
    }

    /// Takes down what the runner itself does or sees.
    pub(crate) fn note(&self, what: What) -> u64 {
        let at = clock::now();
        self.note_at(at, what);
        at
    }

    pub(crate) fn note_at(&self, at: u64, what: What) {
        self.lock().events.push(Event { at, what });
    }

    /// A process is no more: nothing of it is open.
    pub(crate) fn forget(&self, member: Member, at: u64) {
        self.lock().deliveries.close_all(at, |(owner, ..)| *owner == member);
    }

    /// Whether a publish was without an answer at a time not long ago.
    pub(crate) fn was_unconfirmed(&self, at: u64) -> bool {
        self.lock().publishes.was_open(at, |_| true)
    }

    /// Whether a publish was called and without an answer at any time between two not long ago.
    pub(crate) fn were_publishes(&self, from: u64, to: u64) -> bool {
        self.lock().publishes.was_open_within(from, to, |_| true)
    }

    /// Whether a delivery was without an end at a time not long ago: anybody's, or one member's.
    pub(crate) fn was_unsettled(&self, at: u64, of: Option<Member>) -> bool {
        self.lock().deliveries.was_open(at, |(owner, ..)| of.is_none_or(|of| of == *owner))
    }

    /// When a process has said that it was ready.
    pub(crate) fn ready_at(&self, member: Member) -> Option<u64> {
        self.lock().ready.get(&member).copied()
    }

    pub(crate) fn seen(&self) -> Seen {
        *self.seen.borrow()
    }

    /// Waits until something was seen.
    pub(crate) async fn until(&self, wanted: impl FnMut(&Seen) -> bool) {
        // It fails only where the ledger is gone.
        drop(self.seen.subscribe().wait_for(wanted).await);
    }

    /// Everything in the order of time.
    pub(crate) fn history(&self) -> History {
        let mut events = std::mem::take(&mut self.lock().events);
        events.sort_by_key(|event| event.at);
        History(events)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// Whether each of these groups got something since then.
    pub(crate) fn all_got(&self, groups: &[Group], since: u64) -> bool {
        let last = |group: &Group| self.delivered.get(*group as usize).copied();
        groups.iter().filter_map(last).all(|at| at >= since)
    }

    /// How far whoever is behind most has come.
    pub(crate) fn slowest(&self) -> u64 {
        self.handled.iter().flatten().copied().min().unwrap_or(0).min(self.returned)
    }

    fn add(&mut self, record: &Record) {
        match record.saying {
            Saying::Published { outcome, .. } => {
                self.returned += 1;
                if outcome == Outcome::Ok {
                    self.confirmed = self.confirmed.max(record.at);
                }
            }
            Saying::Delivered { group, .. } => {
                if let Some(last) = self.delivered.get_mut(group as usize) {
                    *last = record.at.max(*last);
                }
            }
            Saying::Ready => self.ready += 1,
            Saying::Lag(count) => self.lag = Some(count),
            Saying::Drained => self.drained = true,
            Saying::Handled { group, end: End::Ok, .. } => {
                if let Some(count) = self.handled.get_mut(group as usize) {
                    *count = Some(count.unwrap_or(0) + 1);
                }
            }
            Saying::Publishing { .. }
            | Saying::Handled { .. }
            | Saying::Acking { .. }
            | Saying::GivenBack { .. }
            | Saying::Gap { .. }
            | Saying::Parked { .. } => {}
        }
    }
}

impl State {
    fn take(&mut self, member: Member, record: &Record) {
        let at = record.at;
        match record.saying {
            Saying::Publishing { id, .. } => self.publishes.open(id, at),
            Saying::Published { id, .. } => self.publishes.close(id, at),
            Saying::Delivered { group, id, .. } => self.deliveries.open((member, group, id), at),
            Saying::Handled { group, id, .. } => self.deliveries.close((member, group, id), at),
            Saying::Ready => drop(self.ready.insert(member, at)),
            Saying::Acking { .. }
            | Saying::GivenBack { .. }
            | Saying::Gap { .. }
            | Saying::Parked { .. }
            | Saying::Lag(_)
            | Saying::Drained => {}
        }
        if let Some(what) = what(member, record.saying) {
            self.events.push(Event { at, what });
        }
    }
}

/// What a record says, in the auditor's words.
fn what(member: Member, saying: Saying) -> Option<What> {
    let of = |group: Group| group.name().to_owned();
    let tenure = |held: Option<Held>| {
        let of = |Held { lane, epoch }| Tenure { lane: lane.into(), epoch, owner: member };
        held.map(of)
    };
    Some(match saying {
        Saying::Publishing { id, key, digest } => {
            let (subject, key) = (SUBJECT.to_owned(), Some(key_text(key)));
            What::Publishing { id, subject, key, digest }
        }
        Saying::Published { id, outcome } => What::Published { id, outcome },
        Saying::Delivered { group, id, digest, held } => {
            What::Delivered { subscription: of(group), id, digest, tenure: tenure(held) }
        }
        Saying::Handled { group, id, end, held } => {
            What::Handled { subscription: of(group), id, end, tenure: tenure(held) }
        }
        Saying::Acking { group, id } => What::Acking { subscription: of(group), id },
        Saying::GivenBack { group, id } => What::GivenBack { subscription: of(group), id },
        Saying::Parked { group, id } => {
            What::Ended { subscription: of(group), id, fate: Fate::Parked }
        }
        Saying::Gap { group, missed } => What::Gap { subscription: of(group), missed },
        Saying::Ready | Saying::Lag(_) | Saying::Drained => return None,
    })
}

/// That a group exists.
pub(crate) fn subscribed(group: Group) -> What {
    What::Subscribed {
        subscription: group.name().to_owned(),
        patterns: vec![PATTERN.to_owned()],
        lossy: group.is_lossy(),
        ordered: group.is_ordered(),
    }
}

/// Things that have begun, and those that have ended not long ago.
#[derive(Debug)]
struct Open<K> {
    open: HashMap<K, u64>,
    closed: VecDeque<(K, u64, u64)>,
}

impl<K> Default for Open<K> {
    fn default() -> Self {
        Self { open: HashMap::new(), closed: VecDeque::new() }
    }
}

/// How long what has ended is remembered.
const REMEMBERED: u64 = 5 * SECOND;

impl<K: Copy + Eq + std::hash::Hash> Open<K> {
    fn open(&mut self, key: K, at: u64) {
        self.open.insert(key, at);
    }

    fn close(&mut self, key: K, at: u64) {
        if let Some(began) = self.open.remove(&key) {
            self.closed.push_back((key, began, at));
        }
        while self.closed.front().is_some_and(|(_, _, ended)| ended + REMEMBERED < at) {
            self.closed.pop_front();
        }
    }

    fn close_all(&mut self, at: u64, belongs: impl Fn(&K) -> bool) {
        let gone: Vec<K> = self.open.keys().filter(|key| belongs(key)).copied().collect();
        gone.into_iter().for_each(|key| self.close(key, at));
    }

    fn was_open(&self, at: u64, belongs: impl Fn(&K) -> bool) -> bool {
        self.was_open_within(at, at, belongs)
    }

    fn was_open_within(&self, from: u64, to: u64, belongs: impl Fn(&K) -> bool) -> bool {
        let mut still = self.open.iter();
        let mut ended = self.closed.iter().rev();
        still.any(|(key, began)| *began <= to && belongs(key))
            || ended.any(|(key, began, ended)| *began <= to && *ended >= from && belongs(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_open_at_a_time_is_known_afterwards() {
        let mut open = Open::default();
        open.open('a', 10);
        open.open('b', 20);
        open.close('a', 30);
        let was_open = |open: &Open<char>, at| open.was_open(at, |_| true);
        assert_eq!([5, 15, 30].map(|at| was_open(&open, at)), [false, true, true]);
        assert!(!open.was_open(40, |key| *key == 'a'));
        open.close_all(50, |_| true);
        assert!(open.was_open(45, |key| *key == 'b') && !was_open(&open, 60));
        assert!(open.was_open_within(48, 60, |key| *key == 'b'));
    }
}
