//! One partition as its owner has it: what is fetched, what is in hand, what is committed.

mod limit;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use messaging_core::Message;
use tokio::time::Instant;

use super::place::Place;
use super::unread::{Reader, Unread};
use crate::offsets::ledger::Ledger;
use crate::offsets::resume::{Resume, Standing};
use crate::read::record::Records;

/// A message that was read and is in nobody's hands.
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    pub(super) offset: i64,
    pub(super) attempt: u32,
    /// Set when it is taken in.
    pub(super) standing: Standing,
    pub(super) message: Arc<Message>,
    pub(super) stored_at: SystemTime,
    /// Where it was kept first, if it is a retry.
    pub(super) origin: Option<(i32, i64)>,
    /// A retry waits until then, and those behind it are due later.
    pub(super) not_before: Option<Instant>,
    /// When it went out, while it is in somebody's hands.
    pub(super) handed: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not ours.
    Closed,
    /// Ours, and its place is being looked up.
    Opening,
    Open,
    /// Asked back: nothing more of it goes out.
    Revoked,
}

/// The most bytes of one partition that may be kept unsettled in nobody's hands.
const KEPT: usize = 16 << 20;

/// What is unsettled and in nobody's hands: it waits to come again, behind another one of its key, or
/// until its copy is written.
#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    messages: usize,
    bytes: usize,
}

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) place: Place,
    pub(super) epoch: u32,
    pub(super) state: State,
    pub(super) ledger: Ledger<Fetched>,
    resume: Resume,
    /// Unsettled offsets of before that were not read yet.
    expected: VecDeque<i64>,
    ready: VecDeque<Fetched>,
    ready_bytes: usize,
    /// What was fetched from `read_at` on.
    unread: Unread,
    /// Where reading goes on.
    pub(super) read_at: i64,
    /// Of which topic it is read, among those of the same name; 0 while that is not known.
    pub(super) topic: u128,
    pub(super) in_hand: usize,
    /// Offsets whose copies are on their way, with the bytes of each.
    copying: BTreeMap<i64, usize>,
    /// Nothing at or above it goes out before a commit with a higher one was answered.
    pub(super) limit: i64,
    /// Whether a commit would say more than the last one did.
    pub(super) dirty: bool,
    /// Whether its clean end is committed.
    pub(super) ended: bool,
    /// Whether a place of it was ever committed by us.
    pub(super) placed: bool,
    /// The suspect that is alone in hand.
    trial: Option<i64>,
    /// What comes again: when, and in the order of offsets.
    again: BTreeMap<(Instant, i64), Fetched>,
    /// The keys of which a message is out, with those that wait behind it; in an ordered group.
    keys: Option<HashMap<Bytes, VecDeque<Fetched>>>,
    kept: Kept,
    /// Stands for at once in [`Lane::again`].
    opened: Instant,
}

impl Lane {
    pub(super) fn new(place: Place, ordered: bool) -> Self {
        Self {
            place,
            epoch: 0,
            state: State::Closed,
            ledger: Ledger::new(0),
            resume: Resume::at(0),
            expected: VecDeque::new(),
            ready: VecDeque::new(),
            ready_bytes: 0,
            unread: Unread::default(),
            read_at: 0,
            topic: 0,
            in_hand: 0,
            copying: BTreeMap::new(),
            limit: i64::MIN,
            dirty: false,
            ended: false,
            placed: false,
            trial: None,
            again: BTreeMap::new(),
            keys: ordered.then(HashMap::new),
            kept: Kept::default(),
            opened: Instant::now(),
        }
    }

    /// It is ours, from this place on.
    pub(super) fn open(&mut self, resume: Resume, committed: bool) {
        self.forget();
        self.state = State::Open;
        self.ledger = resume.ledger();
        self.expected = resume.open().collect();
        self.read_at = resume.start();
        self.resume = resume;
        // A place of our own is committed even if nothing comes (G7).
        self.dirty = true;
        self.limit = if committed { i64::MIN } else { i64::MAX };
        self.opened = Instant::now();
    }

    /// Drops what is fetched, as whoever owns it next reads it again.
    pub(super) fn forget_fetched(&mut self) {
        // What is ready is not in the ledger: reading goes on before it.
        self.ledger.pass(self.ready.front().map_or(self.read_at, |front| front.offset));
        self.read_at = self.ledger.next();
        self.unread.clear();
        self.ready.clear();
        self.ready_bytes = 0;
        self.again.clear();
        if let Some(keys) = &mut self.keys {
            keys.clear();
        }
        self.kept = Kept::default();
        self.copying.values().for_each(|bytes| self.kept.add(*bytes));
    }

    fn forget(&mut self) {
        self.copying.clear();
        self.forget_fetched();
        self.in_hand = 0;
        self.trial = None;
        self.ended = false;
        self.topic = 0;
    }

    /// It is not ours any more: what is in hand of it is stale if it was `lost`.
    pub(super) fn close(&mut self, lost: bool) {
        self.state = State::Closed;
        self.epoch += u32::from(lost);
        self.forget();
        self.ledger = Ledger::new(0);
    }

    /// Whether it is read of another topic than this one of the same name, as far as both are known.
    pub(super) const fn is_of_another(&self, topic: u128) -> bool {
        self.topic != 0 && topic != 0 && self.topic != topic
    }

    /// How many bytes were fetched that are not handed out.
    pub(super) const fn waiting(&self) -> usize {
        self.ready_bytes + self.unread.bytes()
    }

    /// How many messages were read that are not handed out.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Whether more is to be fetched.
    pub(super) const fn wants(&self, budget: usize) -> bool {
        matches!(self.state, State::Open) && self.waiting() < budget
    }

    /// Where the next fetch begins.
    pub(super) fn fetch_at(&self) -> i64 {
        self.unread.end().unwrap_or(self.read_at)
    }

    /// Takes in what was fetched from `fetch_at` to `end`.
    pub(super) fn fetched(&mut self, batches: Vec<Records>, end: i64) {
        self.unread.push(batches, end);
        if self.unread.end().is_none() {
            self.pass(end);
        }
    }

    /// Reads on in what was fetched until something is ready; `false` if something was before, or
    /// nothing is now.
    pub(super) fn read(&mut self, reader: &mut Reader) -> bool {
        if self.state != State::Open || !self.ready.is_empty() || self.unread.end().is_none() {
            return false;
        }
        let (mut unread, place) = (std::mem::take(&mut self.unread), self.place.clone());
        while self.ready.is_empty()
            && let Some(next) =
                unread.read(&place, self.read_at, reader, |fetched| self.add(fetched))
        {
            self.pass(next);
        }
        self.unread = unread;
        !self.ready.is_empty()
    }

    /// Takes in what was read next.
    pub(super) fn add(&mut self, mut fetched: Fetched) {
        self.forget_expected(fetched.offset);
        if self.expected.front() == Some(&fetched.offset) {
            self.expected.pop_front();
        }
        fetched.standing = self.resume.standing(fetched.offset, fetched.attempt);
        let Standing::Open { attempt, .. } = fetched.standing else { return };
        fetched.attempt = attempt;
        self.ready_bytes += fetched.message.bytes() + 128;
        self.ready.push_back(fetched);
    }

    /// Everything that there is below `next` was read.
    pub(super) fn pass(&mut self, next: i64) {
        self.forget_expected(next);
        self.read_at = next;
        if self.ready.is_empty() {
            self.dirty |= self.ledger.next() < next;
        }
    }

    /// What was to come below an offset and was compacted or has expired meanwhile needs no settling.
    fn forget_expected(&mut self, offset: i64) {
        while let Some(gone) = self.expected.front().copied().filter(|at| *at < offset) {
            self.expected.pop_front();
            self.ledger.settle(gone);
            self.dirty = true;
        }
    }

    /// The message that goes out next, unsettled in the ledger from now on. Nothing new does while so
    /// many are kept.
    pub(super) fn next(&mut self, now: Instant, most_kept: usize) -> Option<Fetched> {
        let blocked = self.trial.is_some() && self.in_hand > 0;
        if self.state != State::Open || blocked {
            return None;
        }
        if self.again.first_key_value().is_some_and(|((at, _), _)| *at <= now) {
            let (_, fetched) = self.again.pop_first()?;
            self.kept.remove(fetched.message.bytes());
            return Some(fetched);
        }
        loop {
            let front = self.ready.front()?;
            let early = front.not_before.is_some_and(|at| at > now);
            let full = self.kept.messages > most_kept || self.kept.bytes > KEPT;
            if early || front.offset >= self.limit || full {
                return None;
            }
            let fetched = self.ready.pop_front()?;
            self.ready_bytes -= fetched.message.bytes() + 128;
            let Some(keys) = &mut self.keys else { return Some(fetched) };
            self.ledger.take(fetched.offset, fetched.attempt);
            let Some(key) = fetched.message.key.clone() else { return Some(fetched) };
            match keys.get_mut(&key) {
                Some(behind) => {
                    self.kept.add(fetched.message.bytes());
                    behind.push_back(fetched);
                }
                None => {
                    keys.insert(key, VecDeque::new());
                    return Some(fetched);
                }
            }
        }
    }

    /// When something that is fetched may go out that may not now.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let again = self.again.first_key_value().map(|((at, _), _)| *at);
        let ready = self.ready.front().and_then(|fetched| fetched.not_before);
        [again, ready].into_iter().flatten().min()
    }

    /// An offset comes again, after a while or at once, as this attempt.
    pub(super) fn come_again(
        &mut self,
        mut fetched: Fetched,
        attempt: u32,
        after: Option<Duration>,
    ) {
        fetched.attempt = attempt;
        self.ledger.set_attempt(fetched.offset, attempt);
        let at = after.map_or(self.opened, |after| Instant::now() + after);
        if self.state == State::Open {
            self.kept.add(fetched.message.bytes());
            self.again.insert((at, fetched.offset), fetched);
        }
        self.dirty = true;
    }

    /// A copy of it is on its way.
    pub(super) fn copy(&mut self, fetched: &Fetched) {
        let bytes = fetched.message.bytes();
        self.kept.add(bytes);
        self.copying.insert(fetched.offset, bytes);
    }

    /// The copy was written, or can't be.
    pub(super) fn copy_ended(&mut self, offset: i64) {
        if let Some(bytes) = self.copying.remove(&offset) {
            self.kept.remove(bytes);
        }
    }

    /// An offset needs nothing more.
    pub(super) fn settle(&mut self, offset: i64, key: Option<&Bytes>) -> bool {
        let known = self.ledger.settle(offset);
        self.dirty |= known;
        self.copy_ended(offset);
        if self.trial == Some(offset) {
            self.trial = None;
        }
        if let (Some(keys), Some(key)) = (&mut self.keys, key) {
            match keys.get_mut(key).map(VecDeque::pop_front) {
                Some(Some(next)) => drop(self.again.insert((self.opened, next.offset), next)),
                Some(None) => drop(keys.remove(key)),
                None => {}
            }
        }
        known
    }

    /// Whether it was asked back, nothing of it is in hand, and its clean end is committed.
    pub(super) fn is_released(&self) -> bool {
        self.state == State::Revoked && self.is_free() && !self.dirty && self.ended
    }

    /// Whether nothing of it is in hand or on its way.
    pub(super) fn is_free(&self) -> bool {
        self.in_hand == 0 && self.copying.is_empty()
    }

    /// It was asked back and is ours again: what was fetched and given back is read once more.
    pub(super) fn go_on(&mut self) {
        let mut progress = self.ledger.progress(0, None, usize::MAX);
        progress.open.retain(|open| {
            !self.copying.contains_key(&open.offset) && !self.ledger.is_in_hand(open.offset)
        });
        self.expected = progress.open.iter().map(|open| open.offset).collect();
        self.read_at = self.expected.front().copied().unwrap_or(progress.cut);
        self.resume = Resume::after(progress);
        if let Some(keys) = &mut self.keys {
            let hands = self.ledger.hands().filter_map(|hand| hand.message.key.clone());
            keys.extend(hands.map(|key| (key, VecDeque::new())));
        }
        self.state = State::Open;
        self.ended = false;
        self.dirty = true;
        // A clean end may be stored: nothing goes out before a limit is again.
        if self.limit != i64::MAX {
            self.limit = i64::MIN;
        }
    }
}

impl Kept {
    const fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes;
    }

    const fn remove(&mut self, bytes: usize) {
        self.messages -= 1;
        self.bytes -= bytes;
    }
}
