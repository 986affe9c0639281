//! What one subscription has fetched, what it has handed out, and what it may hand out next.

mod order;
mod ownership;
#[cfg(test)]
mod tests;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, UNIX_EPOCH};

use messaging_core::driver::{Arrivals, Event, Incoming, Settle, Settlement, Token};
use messaging_core::{Confirm, Error, Message, Settled};
use tokio::sync::Notify;
use tokio::time::Instant;

use self::order::KeyOrder;
use super::NAME;
use crate::wire::EntryId;

/// The state of one subscription. Its lock is held for moments only.
#[derive(Debug)]
pub(super) struct Desk {
    state: Mutex<State>,
    prefetch: usize,
    prefetch_bytes: usize,
    ordered: bool,
    /// Told when more may be fetched, or when there is nothing left to wait for. On a cluster each
    /// lane has a reader that waits.
    pub(super) room: Notify,
}

#[derive(Debug)]
struct State {
    lanes: Vec<LaneState>,
    /// Fetched and not handed out.
    ready: VecDeque<Fetched>,
    in_hand: HashMap<(u32, EntryId), Hand>,
    bytes: usize,
    /// Settled here, and not yet at the server: how often, as what stays in hand may be settled again
    /// before that.
    settling: HashMap<(u32, EntryId), u32>,
    /// The lanes that are being read at this moment.
    reading: HashSet<u32>,
    events: VecDeque<Event>,
    failure: Option<Error>,
    waker: Option<Waker>,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// Nobody takes messages any more; what is in hand can still be settled.
    Left,
    /// Nothing of it is ours any more.
    Closed,
}

#[derive(Debug, Default)]
struct LaneState {
    epoch: u32,
    /// Whether messages of it may be fetched and handed out.
    open: bool,
    /// Whether it is asked back, and kept until nothing of it is in hand.
    revoked: bool,
    /// Until when it is ours, by our own clock, where lanes have owners.
    until: Option<Instant>,
    in_hand: usize,
    order: KeyOrder,
}

/// An entry that is ours and in nobody's hands.
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    pub(super) lane: u32,
    pub(super) number: u32,
    pub(super) id: EntryId,
    pub(super) attempt: u32,
    pub(super) message: Arc<Message>,
}

#[derive(Debug)]
struct Hand {
    number: u32,
    attempt: u32,
    message: Arc<Message>,
}

/// A settlement on its way to the server.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) lane: u32,
    pub(super) id: EntryId,
    pub(super) attempt: u32,
    pub(super) message: Arc<Message>,
    pub(super) how: Settlement,
    pub(super) confirm: Option<Confirm<Settled>>,
}

impl Desk {
    /// In an unordered group every lane is open to every member.
    pub(super) fn new(lanes: usize, prefetch: usize, bytes: Option<usize>, ordered: bool) -> Self {
        let lane = || LaneState::new(ordered);
        let state = State {
            lanes: std::iter::repeat_with(lane).take(lanes).collect(),
            ready: VecDeque::new(),
            in_hand: HashMap::new(),
            bytes: 0,
            settling: HashMap::new(),
            reading: HashSet::new(),
            events: VecDeque::new(),
            failure: None,
            waker: None,
            phase: Phase::Open,
        };
        let prefetch_bytes = bytes.unwrap_or(usize::MAX);
        let state = Mutex::new(state);
        Self { state, prefetch, prefetch_bytes, ordered, room: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many messages may be fetched now. In an ordered group, those that wait behind their key
    /// have a room of their own, so that one slow key does not stop its lane.
    pub(super) fn wanted(&self) -> usize {
        self.free(&self.lock())
    }

    /// How many are to be read now: none while there are too few to be worth a call.
    pub(super) fn worth_reading(&self) -> usize {
        let wanted = self.wanted();
        if self.is_worth_a_call(wanted) { wanted } else { 0 }
    }

    const fn is_worth_a_call(&self, wanted: usize) -> bool {
        wanted > 0 && wanted >= self.prefetch / 8
    }

    fn free(&self, state: &State) -> usize {
        if state.phase != Phase::Open || state.bytes >= self.prefetch_bytes {
            return 0;
        }
        let held: usize = state.lanes.iter().map(|lane| lane.order.held()).sum();
        let behind = held.saturating_sub(3 * self.prefetch + 1_024);
        // What is settled here and not at the server comes again if we die, so that is bounded too.
        let unsent = state.settling.len().saturating_sub(self.prefetch);
        self.prefetch.saturating_sub(state.in_hand.len() + state.ready.len() + behind + unsent)
    }

    /// Takes fetched messages in; gives back those that came too late.
    pub(super) fn fetched(&self, messages: Vec<Fetched>) -> Vec<Fetched> {
        let mut state = self.lock();
        if state.phase != Phase::Open {
            return messages;
        }
        let (ours, late): (Vec<_>, Vec<_>) = messages
            .into_iter()
            .partition(|f| state.lanes.get(f.lane as usize).is_some_and(|lane| lane.open));
        if !ours.is_empty() {
            state.ready.extend(ours);
            state.wake();
        }
        late
    }

    /// Takes in what a lane held when it became ours: before everything else of it, each not before
    /// its time.
    pub(super) fn inherited(&self, messages: Vec<(Fetched, Duration)>) {
        self.lock().inherit(messages);
    }

    /// What there is for the application now.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<Option<Result<Event, Error>>> {
        let mut guard = self.lock();
        let state = &mut *guard;
        if let Some(event) = state.events.pop_front() {
            return Poll::Ready(Some(Ok(event)));
        }
        if state.phase != Phase::Open {
            return Poll::Ready(state.failure.take().map(Err));
        }
        let now = Instant::now();
        let mut batch = Arrivals::new();
        while state.in_hand.len() < self.prefetch && state.bytes < self.prefetch_bytes {
            let Some(message) = state.next(self.ordered, now) else { break };
            batch.push(state.hand_out(message));
        }
        if batch.is_empty() {
            match &mut state.waker {
                Some(known) => known.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(Event::Messages(batch))))
    }

    /// When the next message in hand of an ordered group is due again.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.lock().lanes.iter().filter_map(|lane| lane.order.next_due()).min()
    }

    /// Looks again whether something is due.
    pub(super) fn wake(&self) {
        self.lock().wake();
    }

    pub(super) fn tell(&self, event: Event) {
        let mut state = self.lock();
        state.events.push_back(event);
        state.wake();
    }

    /// Ends the subscription, which can't go on.
    pub(super) fn fail(&self, error: Error) -> Vec<Job> {
        self.lock().failure = Some(error);
        self.leave()
    }

    /// Settles one hand-over. `Err` gives a settlement back that comes too late.
    pub(super) fn settle(&self, settle: Settle) -> Result<Job, Settle> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let id = EntryId::from_bits(settle.token.id);
        let Some(lane) = state.lanes.get_mut(settle.token.lane as usize) else {
            return Err(settle);
        };
        let place = (settle.token.lane, id);
        if lane.epoch != settle.token.epoch || state.phase == Phase::Closed {
            return Err(settle);
        }
        let Some(hand) = state.in_hand.remove(&place) else { return Err(settle) };
        state.bytes -= hand.message.bytes();
        *state.settling.entry(place).or_default() += 1;
        lane.in_hand -= 1;
        let Settle { token, how, confirm, .. } = settle;
        let failed = u32::from(matches!(how, Settlement::Retry { .. } | Settlement::Abandon));
        let attempt = hand.attempt + failed;
        if self.ordered {
            let message = Fetched {
                lane: token.lane,
                number: hand.number,
                id,
                attempt,
                message: Arc::clone(&hand.message),
            };
            match &how {
                Settlement::Ack | Settlement::Reject { .. } => {
                    lane.order.finish(&message);
                }
                Settlement::Retry { after } => lane.order.delay(message, Instant::now() + *after),
                Settlement::Abandon | Settlement::Release => lane.order.again(message),
            }
        }
        // Without order and with nothing fetched, there is nothing for the application to look at.
        if self.ordered || !state.ready.is_empty() {
            state.wake();
        }
        let reads = self.is_worth_a_call(self.free(state));
        drop(guard);
        if reads {
            self.room.notify_waiters();
        }
        Ok(Job { lane: token.lane, id, attempt, message: hand.message, how, confirm })
    }

    /// Settlements have reached the server.
    pub(super) fn settled(&self, places: &[(u32, EntryId)]) {
        let mut state = self.lock();
        for place in places {
            if let Entry::Occupied(mut count) = state.settling.entry(*place) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
        let reads = self.is_worth_a_call(self.free(&state));
        drop(state);
        if reads {
            self.room.notify_waiters();
        }
    }

    /// Whether an entry of ours is known here; if not, the answer that brought it was lost.
    pub(super) fn knows(&self, lane: u32, id: EntryId) -> bool {
        let state = self.lock();
        let place = (lane, id);
        state.in_hand.contains_key(&place)
            || state.settling.contains_key(&place)
            || state.ready.iter().any(|fetched| (fetched.lane, fetched.id) == place)
            || state.lanes.get(lane as usize).is_some_and(|lane| lane.order.knows(id))
    }

    /// Nobody takes messages any more: gives back what nobody has in hand.
    pub(super) fn leave(&self) -> Vec<Job> {
        let mut state = self.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Left;
        }
        let jobs = state.give_up_ready();
        state.wake();
        drop(state);
        self.room.notify_waiters();
        jobs
    }

    /// As [`Desk::leave`], and gives back what is in hand too.
    pub(super) fn close(&self) -> Vec<Job> {
        let mut jobs = self.leave();
        let mut state = self.lock();
        state.phase = Phase::Closed;
        state.bytes = 0;
        for ((lane, id), hand) in std::mem::take(&mut state.in_hand) {
            *state.settling.entry((lane, id)).or_default() += 1;
            jobs.push(Job::release(lane, id, hand.attempt, hand.message));
        }
        jobs
    }

    pub(super) fn has_left(&self) -> bool {
        self.lock().phase != Phase::Open
    }

    /// Whether nothing of it is in hand or on its way to the server.
    pub(super) fn is_done(&self) -> bool {
        let state = self.lock();
        state.phase != Phase::Open && state.in_hand.is_empty() && state.settling.is_empty()
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The message that goes out next.
    fn next(&mut self, ordered: bool, now: Instant) -> Option<Fetched> {
        if !ordered {
            return self.ready.pop_front();
        }
        for lane in self.lanes.iter_mut().filter(|lane| lane.hands_out(now)) {
            if let Some(message) = lane.order.due(now) {
                return Some(message);
            }
        }
        while let Some(message) = self.ready.pop_front() {
            let Some(lane) = self.lanes.get_mut(message.lane as usize) else { continue };
            // It stays pending under our name, where the next owner finds it.
            if !lane.hands_out(now) {
                continue;
            }
            if let Some(message) = lane.order.admit(message) {
                return Some(message);
            }
        }
        None
    }

    fn hand_out(&mut self, fetched: Fetched) -> Incoming {
        let Fetched { lane, number, id, attempt, message } = fetched;
        let mut epoch = 0;
        if let Some(lane) = self.lanes.get_mut(lane as usize) {
            lane.in_hand += 1;
            epoch = lane.epoch;
        }
        self.bytes += message.bytes();
        let hand = Hand { number, attempt, message: Arc::clone(&message) };
        self.in_hand.insert((lane, id), hand);
        let stored = UNIX_EPOCH + Duration::from_millis(id.millis);
        Incoming::new(message, Token { lane, epoch, id: id.to_bits() })
            .with_attempt(attempt)
            .stored(Some(id.position(NAME, number)), Some(stored))
    }

    fn give_up_ready(&mut self) -> Vec<Job> {
        let mut jobs: Vec<Job> = Vec::with_capacity(self.ready.len());
        // The last comes first: what is given back goes to the front.
        for Fetched { lane, id, attempt, message, .. } in self.ready.drain(..).rev() {
            *self.settling.entry((lane, id)).or_default() += 1;
            jobs.push(Job::release(lane, id, attempt, message));
        }
        jobs
    }
}

impl Job {
    fn release(lane: u32, id: EntryId, attempt: u32, message: Arc<Message>) -> Self {
        Self { lane, id, attempt, message, how: Settlement::Release, confirm: None }
    }
}
