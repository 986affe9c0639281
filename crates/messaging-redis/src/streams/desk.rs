//! What one subscription has fetched, what it has handed out, and what it may hand out next.

mod ledger;
mod order;
mod ownership;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, UNIX_EPOCH};

use messaging_core::driver::{Arrivals, Event, Incoming, Settle, Settlement, Token};
use messaging_core::{Confirm, Error, Message, Settled};
use tokio::sync::Notify;
use tokio::time::Instant;

pub(super) use self::ledger::HandOver;
use self::ledger::{Hand, Ledger};
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
    ledger: Ledger,
    /// The lanes that are being read at this moment, each as often as it is.
    reading: Vec<u32>,
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

/// A settlement on its way to the server.
#[derive(Debug)]
pub(super) struct Job {
    /// What the desk waits for.
    pub(super) of: Option<HandOver>,
    pub(super) lane: u32,
    pub(super) id: EntryId,
    pub(super) attempt: u32,
    /// What becomes a dead letter.
    pub(super) message: Option<Arc<Message>>,
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
            ledger: Ledger::default(),
            reading: Vec::new(),
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

    /// How many are to be read now, besides those on their way in: none while there are too few to be
    /// worth a call.
    pub(super) fn worth_reading(&self, on_their_way: usize) -> usize {
        let wanted = self.wanted().saturating_sub(on_their_way);
        if self.is_worth_a_call(wanted) { wanted } else { 0 }
    }

    const fn is_worth_a_call(&self, wanted: usize) -> bool {
        wanted > 0 && wanted >= self.prefetch / 8
    }

    fn free(&self, state: &State) -> usize {
        if state.phase != Phase::Open || state.ledger.bytes() >= self.prefetch_bytes {
            return 0;
        }
        // What is settled here and not at the server comes again if we die, so that is bounded too.
        let unsent = state.ledger.settling().saturating_sub(self.prefetch);
        let mut taken = state.ledger.in_hand() + state.ready.len() + unsent;
        if self.ordered {
            let held: usize = state.lanes.iter().map(|lane| lane.order.held()).sum();
            taken += held.saturating_sub(3 * self.prefetch + 1_024);
        }
        self.prefetch.saturating_sub(taken)
    }

    /// Takes fetched messages in; gives back those that came too late.
    pub(super) fn fetched(&self, messages: Vec<Fetched>) -> Vec<Fetched> {
        let mut state = self.lock();
        if state.phase != Phase::Open {
            return messages;
        }
        let mut late = Vec::new();
        let is_new = !messages.is_empty();
        for message in messages {
            if state.lanes.get(message.lane as usize).is_some_and(|lane| lane.open) {
                state.ready.push_back(message);
            } else {
                late.push(message);
            }
        }
        if is_new {
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
        let room = self.prefetch.saturating_sub(state.ledger.in_hand());
        let mut batch = Arrivals::with_capacity(room.min(state.ready.len()));
        while batch.len() < room && state.ledger.bytes() < self.prefetch_bytes {
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
        let Some(lane) = state.lanes.get_mut(settle.token.lane as usize) else {
            return Err(settle);
        };
        if lane.epoch != settle.token.epoch || state.phase == Phase::Closed {
            return Err(settle);
        }
        let of = HandOver::from_bits(settle.token.id);
        let Some(hand) = state.ledger.settle(of) else { return Err(settle) };
        lane.in_hand -= 1;
        let Settle { how, confirm, .. } = settle;
        let failed = u32::from(matches!(how, Settlement::Retry { .. } | Settlement::Abandon));
        let Hand { lane: number_of_lane, number, id, message, .. } = hand;
        let attempt = hand.attempt + failed;
        if self.ordered {
            let message = Arc::clone(&message);
            let message = Fetched { lane: number_of_lane, number, id, attempt, message };
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
        let message = matches!(how, Settlement::Reject { .. }).then_some(message);
        Ok(Job { of: Some(of), lane: number_of_lane, id, attempt, message, how, confirm })
    }

    /// Settlements have reached the server.
    pub(super) fn settled(&self, all: impl IntoIterator<Item = HandOver>) {
        let mut state = self.lock();
        all.into_iter().for_each(|of| state.ledger.settled(of));
        let reads = self.is_worth_a_call(self.free(&state));
        drop(state);
        if reads {
            self.room.notify_waiters();
        }
    }

    /// Whether an entry of ours is known here; if not, the answer that brought it was lost.
    pub(super) fn knows(&self, lane: u32, id: EntryId) -> bool {
        let state = self.lock();
        state.ledger.knows(lane, id)
            || state.ready.iter().any(|fetched| (fetched.lane, fetched.id) == (lane, id))
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
        for (of, Hand { lane, id, attempt, .. }) in state.ledger.settle_all() {
            jobs.push(Job::new(lane, id, attempt, Settlement::Release).awaited(of));
        }
        jobs
    }

    /// Whether the application has something in hand that it may settle soon.
    pub(super) fn has_more_in_hand(&self) -> bool {
        self.lock().ledger.in_hand() > 0
    }

    pub(super) fn has_left(&self) -> bool {
        self.lock().phase != Phase::Open
    }

    /// Whether nothing of it is in hand or on its way to the server.
    pub(super) fn is_done(&self) -> bool {
        let state = self.lock();
        state.phase != Phase::Open && state.ledger.is_empty()
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
        let hand = Hand { lane, number, id, attempt, message: Arc::clone(&message) };
        let of = self.ledger.hand_out(hand);
        let stored = UNIX_EPOCH + Duration::from_millis(id.millis);
        Incoming::new(message, Token { lane, epoch, id: of.to_bits() })
            .with_attempt(attempt)
            .stored(Some(id.position(NAME, number)), Some(stored))
    }

    fn give_up_ready(&mut self) -> Vec<Job> {
        // The last comes first: what is given back goes to the front.
        let back = self.ready.drain(..).rev().map(|Fetched { lane, id, attempt, .. }| {
            let of = self.ledger.return_unseen(lane, id);
            Job::new(lane, id, attempt, Settlement::Release).awaited(of)
        });
        back.collect()
    }
}

impl Job {
    /// A settlement that nobody waits for.
    pub(super) const fn new(lane: u32, id: EntryId, attempt: u32, how: Settlement) -> Self {
        Self { of: None, lane, id, attempt, message: None, how, confirm: None }
    }

    /// Whether it may go to the server a moment later: nobody waits for it.
    pub(super) const fn can_wait(&self) -> bool {
        matches!(self.how, Settlement::Ack) && self.confirm.is_none()
    }

    const fn awaited(mut self, of: HandOver) -> Self {
        self.of = Some(of);
        self
    }
}
