//! What one subscription has fetched, what it has handed out, and what it may hand out next.

mod commits;
mod counting;
mod ownership;
mod settling;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use messaging_core::driver::{Arrivals, Event, Incoming, Token};
use messaging_core::{Error, Patterns, Position};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::lane::{Fetched, Lane, State as LaneState};
use super::place::Place;
use super::unread::Reader;
use crate::NAME;
use crate::cluster::BrokerId;
use crate::group::Partition;
use crate::read::record::Records;

pub(super) use self::commits::Commit;
use self::commits::Confirming;
pub(super) use self::settling::{Copying, Purpose};

/// How many bytes may be fetched and not handed out, over all partitions.
const BUDGET: usize = 32 << 20;
/// The most messages that are handed over at once, so that they stay in the processor's cache.
const HAND_OVER: usize = 256;
/// How many records are read before others get their turn.
const TURN: usize = 4_096;
/// How much of that one partition may take.
const LANE_BUDGET: (usize, usize) = (1 << 20, 4 << 20);

/// The state of one subscription. Its lock is held for moments only.
#[derive(Debug)]
pub(crate) struct Desk {
    state: Mutex<State>,
    prefetch: usize,
    prefetch_bytes: usize,
    ordered: bool,
    /// Retries come again in the partition, not by way of a topic.
    in_place: bool,
    /// Whether there is a group whose progress is committed.
    commits: bool,
    /// Told when more may be fetched.
    pub(super) room: Notify,
    /// Told when there is something to commit now.
    pub(super) commit: Notify,
    /// Told when there are copies to write.
    pub(super) copies: Notify,
    /// Told when the application has found something that is due later.
    pub(super) timer: Notify,
    /// Told when a partition that was asked back may have become free, or the end is near.
    pub(super) keeper: Notify,
}

#[derive(Debug)]
struct State {
    lanes: Vec<Lane>,
    reader: Reader,
    numbers: HashMap<Partition, u32>,
    /// Who leads each lane, where that is known.
    leaders: HashMap<u32, BrokerId>,
    /// Where handing out goes on.
    turn: usize,
    in_hand: usize,
    bytes: usize,
    settlements: u64,
    confirms: Vec<Confirming>,
    copies: Vec<Copying>,
    /// Until when what we hold is surely ours, where a group decides that.
    until: Option<Instant>,
    events: VecDeque<Event>,
    failure: Option<Error>,
    waker: Option<Waker>,
    /// When the first of what the application found too early is due.
    due: Option<Instant>,
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

/// What to read of one partition.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) lane: u32,
    pub(super) epoch: u32,
    pub(super) place: Place,
    pub(super) offset: i64,
}

impl Desk {
    pub(super) fn new(
        prefetch: usize,
        bytes: Option<usize>,
        ordered: bool,
        in_place: bool,
        commits: bool,
        patterns: Option<Patterns>,
    ) -> Self {
        let state = State {
            lanes: Vec::new(),
            reader: Reader::new(patterns, TURN),
            numbers: HashMap::new(),
            leaders: HashMap::new(),
            turn: 0,
            in_hand: 0,
            bytes: 0,
            settlements: 0,
            confirms: Vec::new(),
            copies: Vec::new(),
            until: None,
            events: VecDeque::new(),
            failure: None,
            waker: None,
            due: None,
            phase: Phase::Open,
        };
        Self {
            state: Mutex::new(state),
            prefetch,
            prefetch_bytes: bytes.unwrap_or(usize::MAX),
            ordered,
            in_place,
            commits,
            room: Notify::new(),
            commit: Notify::new(),
            copies: Notify::new(),
            timer: Notify::new(),
            keeper: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        state.reader.rest();
        // A process that was stopped for a while finds its partitions gone before anybody says so.
        let is_ours = state.until.is_none_or(|until| now < until);
        let freed = is_ours && self.fill(state, now, &mut batch);
        state.events.extend(state.reader.take_parked());
        let event = match batch.is_empty() {
            true => state.events.pop_front(),
            false => Some(Event::Messages(batch)),
        };
        if event.is_none() {
            self.wait(state, now, cx);
        }
        let commits = self.commits && state.lanes.iter().any(Lane::wants_commit);
        drop(guard);
        if commits {
            self.commit.notify_one();
        }
        if freed {
            self.room.notify_waiters();
        }
        event.map_or(Poll::Pending, |event| Poll::Ready(Some(Ok(event))))
    }

    /// Nothing may go out now: the application is told when that changes.
    fn wait(&self, state: &mut State, now: Instant, cx: &Context<'_>) {
        if state.reader.is_tired() {
            // There is more to read, but others want to work too.
            cx.waker().wake_by_ref();
        }
        match &mut state.waker {
            Some(known) => known.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        let due = state.lanes.iter().filter_map(Lane::next_due);
        state.due = due.filter(|at| *at > now).min();
        if state.due.is_some() {
            self.timer.notify_one();
        }
    }

    /// Takes what may go out now; whether a partition had no room for more and has now.
    fn fill(&self, state: &mut State, now: Instant, batch: &mut Arrivals) -> bool {
        let mut freed = false;
        let most_kept = 3 * self.prefetch + 1_024;
        let lanes = state.lanes.len();
        let budget = state.budget();
        let most = HAND_OVER.min(self.prefetch.saturating_sub(state.in_hand));
        for at in 0..lanes {
            let number = (state.turn + at) % lanes;
            let Some(lane) = state.lanes.get_mut(number) else { break };
            let was_full = !lane.wants(budget);
            while batch.len() < most && state.bytes < self.prefetch_bytes {
                let Some(mut fetched) = lane.next(now, most_kept) else {
                    match lane.read(&mut state.reader) {
                        true => continue,
                        false => break,
                    }
                };
                if batch.is_empty() {
                    batch.reserve(most.min(1 + lane.ready()));
                }
                fetched.handed = Some(now);
                state.in_hand += 1;
                state.bytes += fetched.message.bytes();
                lane.in_hand += 1;
                batch.push(incoming(lane, number, &fetched));
                lane.ledger.hand_out(fetched.offset, fetched.attempt, fetched);
            }
            freed |= was_full && lane.wants(budget);
            if batch.len() >= most || state.bytes >= self.prefetch_bytes || state.reader.is_tired()
            {
                state.turn = (number + 1) % lanes;
                break;
            }
        }
        freed
    }

    /// What is to be read from a broker now, of the partitions that are `share`'s, and whether there is
    /// more that has no room. The broker fills its answer from the front, and gives a large batch
    /// only there: with `turn` everybody comes first at some time.
    pub(super) fn wanted(
        &self,
        broker: BrokerId,
        share: impl Fn(u32) -> bool,
        turn: usize,
    ) -> (Vec<Wanted>, bool) {
        let state = self.lock();
        if state.phase != Phase::Open {
            return (Vec::new(), false);
        }
        let budget = state.budget();
        let mut wanted = Vec::new();
        let mut full = false;
        for (number, lane) in (0..).zip(&state.lanes) {
            let is_there = share(number) && state.leaders.get(&number) == Some(&broker);
            if !is_there || lane.state != LaneState::Open {
                continue;
            }
            if !lane.wants(budget) {
                full = true;
                continue;
            }
            let (epoch, place, offset) = (lane.epoch, lane.place.clone(), lane.fetch_at());
            wanted.push(Wanted { lane: number, epoch, place, offset });
        }
        let first = turn % wanted.len().max(1);
        wanted.rotate_left(first);
        (wanted, full)
    }

    /// Takes in what was fetched of a partition from where it was wanted to `end`.
    pub(super) fn fetched(&self, wanted: &Wanted, batches: Vec<Records>, end: i64) {
        let mut state = self.lock();
        let Some(lane) = state.lanes.get_mut(wanted.lane as usize) else { return };
        let current = lane.state == LaneState::Open
            && lane.epoch == wanted.epoch
            && lane.fetch_at() == wanted.offset;
        if !current {
            return;
        }
        let arrived = !batches.is_empty();
        lane.fetched(batches, end);
        let commits = self.commits && lane.wants_commit();
        if arrived {
            state.wake();
        }
        drop(state);
        if commits {
            self.commit.notify_one();
        }
    }

    pub(super) fn tell(&self, event: Event) {
        let mut state = self.lock();
        state.events.push_back(event);
        state.wake();
    }

    /// When the application has to look again for what it found too early.
    pub(super) fn due(&self) -> Option<Instant> {
        self.lock().due
    }

    /// Makes the application look for what is due.
    pub(super) fn wake(&self) {
        let mut state = self.lock();
        state.due = None;
        state.wake();
    }

    /// Ends the subscription, which can't go on.
    pub(super) fn fail(&self, error: Error) {
        let mut state = self.lock();
        if state.phase == Phase::Open {
            state.failure = Some(error);
        }
        drop(state);
        self.leave();
    }

    /// Nobody takes messages any more.
    pub(super) fn leave(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Left;
        }
        state.wake();
        drop(state);
        self.room.notify_waiters();
        self.keeper.notify_one();
    }
}

impl State {
    /// How many bytes of each partition may be fetched and not handed out.
    fn budget(&self) -> usize {
        (BUDGET / self.lanes.len().max(1)).clamp(LANE_BUDGET.0, LANE_BUDGET.1)
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

fn incoming(lane: &Lane, number: usize, fetched: &Fetched) -> Incoming {
    let id = u128::from(fetched.offset.unsigned_abs());
    let token = Token { lane: u32::try_from(number).unwrap_or(u32::MAX), epoch: lane.epoch, id };
    let (partition, offset) =
        fetched.origin.unwrap_or((lane.place.partition.number, fetched.offset));
    let position = Position::new(NAME, partition.unsigned_abs(), u128::from(offset.unsigned_abs()));
    Incoming::new(Arc::clone(&fetched.message), token)
        .with_attempt(fetched.attempt)
        .stored(Some(position), Some(fetched.stored_at))
}
