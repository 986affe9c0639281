//! What one subscription has received, what it has handed out, and what it may hand out next.

mod arriving;
mod leaving;
mod losing;
mod settling;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use messaging_core::driver::{Arrivals, Event, Incoming, Token};
use messaging_core::{Confirm, Error, Message, Settled};
use tokio::sync::{Mutex as AsyncMutex, Notify};
use tokio::time::Instant;

pub(super) use self::arriving::Arrival;
use super::order::Order;
use super::past::Past;
use super::ring::{Acks, Alias, Ring, State as SlotState};
use crate::connection::Log;

/// The lane of a group's own queue.
pub(super) const MAIN: u32 = 0;

/// The lane of a group's suspects.
pub(super) const SUSPECTS: u32 = 1;

/// The most acked deliveries that are remembered until the server must know.
const MOST_REMEMBERED: u64 = 4_096;

/// The state of one subscription. Its lock is held for moments only.
#[derive(Debug)]
pub(crate) struct Desk {
    state: Mutex<State>,
    limits: Limits,
    returning: Returning,
    /// Told when there are acks or copies to be brought to the server, or the subscription ends.
    pub(super) work: Notify,
    /// Held by the one copy that is tried again of those that the server does not let us make: each
    /// try costs it a channel.
    pub(super) denied: AsyncMutex<()>,
}

/// How much may be unsettled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) prefetch: NonZeroU32,
    pub(super) bytes: Option<usize>,
    /// How many the server leaves unsettled at most, so that it knows of every ack before.
    pub(super) fetched: u16,
}

impl Limits {
    /// How many acks are worth to be brought to the server, which has that many fewer to send before
    /// it waits for them.
    fn ack_batch(&self) -> usize {
        (usize::from(self.fetched) / 8).clamp(1, 256)
    }
}

/// How a message comes again that was not settled for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Returning {
    /// As a confirmed copy. `trial_after` is how many returns by the server make a message a suspect
    /// that is tried alone.
    AsCopy { trial_after: u32 },
    /// It stays unsettled and is handed out again. `keyed` keeps what is behind its key back;
    /// `keeps_rejected` leaves what is rejected where it is.
    InPlace { keyed: bool, keeps_rejected: bool },
}

#[derive(Debug)]
struct State {
    lanes: Vec<Lane>,
    in_hand: usize,
    bytes: usize,
    /// How many copies are on their way.
    copying: usize,
    /// How many of them, or of those whose originals are not acked yet, go to the suspects.
    moving: usize,
    /// How many of these are confirmed.
    moved: usize,
    copies: Vec<Copy>,
    confirms: Vec<Confirm<Settled>>,
    events: VecDeque<Event>,
    failure: Option<Error>,
    waker: Option<Waker>,
    log: Log,
    /// Whether hands were full when the application looked last.
    stalled: bool,
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

/// A queue that is consumed, over one channel at a time.
#[derive(Debug)]
struct Lane {
    /// Which channel of it this is.
    epoch: u32,
    ring: Ring,
    order: Order,
    past: Past,
    /// What the server is to move to the dead letters.
    rejects: Vec<u64>,
}

/// A copy to be published; once it is confirmed, its original is acked.
#[derive(Debug)]
pub(super) struct Copy {
    pub(super) lane: u32,
    pub(super) of: Alias,
    pub(super) to: Target,
    pub(super) attempt: u32,
    pub(super) message: Arc<Message>,
    pub(super) confirm: Option<Confirm<Settled>>,
}

/// A copy that is confirmed, or can't be made.
#[derive(Debug)]
pub(super) struct Copied {
    pub(super) lane: u32,
    pub(super) of: Alias,
    /// Whether it went to the suspects.
    pub(super) moved: bool,
    /// Whether it was made; else the server moves the original to the dead letters.
    pub(super) is_made: bool,
}

/// Where a copy goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Back to the group.
    Group,
    /// Back to the group after this time.
    Tier(Duration),
    /// To the group's suspects.
    Suspects,
    /// To the dead letters.
    DeadLetters { reason: String },
}

/// What is to be brought to the server.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) acks: Vec<(u32, Acks)>,
    /// Lanes and tags of what the server moves to the dead letters; acks may cover them, and so come
    /// after.
    pub(super) rejects: Vec<(u32, u64)>,
    /// Whether there are more acks, which may wait a moment for others to go with them.
    pub(super) has_later: bool,
    pub(super) copies: Vec<Copy>,
    /// Resolved once the acks are handed over.
    pub(super) confirms: Vec<Confirm<Settled>>,
}

impl Desk {
    pub(super) fn new(lanes: usize, limits: Limits, returning: Returning) -> Self {
        let lane = || Lane {
            epoch: 0,
            ring: Ring::new(u64::from(limits.fetched).min(MOST_REMEMBERED)),
            order: Order::default(),
            past: Past::default(),
            rejects: Vec::new(),
        };
        let state = State {
            lanes: std::iter::repeat_with(lane).take(lanes).collect(),
            in_hand: 0,
            bytes: 0,
            copying: 0,
            moving: 0,
            moved: 0,
            copies: Vec::new(),
            confirms: Vec::new(),
            events: VecDeque::new(),
            failure: None,
            waker: None,
            log: Log::default(),
            stalled: false,
            phase: Phase::Open,
        };
        let (work, denied) = (Notify::new(), AsyncMutex::default());
        Self { state: Mutex::new(state), limits, returning, work, denied }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What there is for the application now.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<Option<Result<Event, Error>>> {
        let mut state = self.lock();
        if let Some(event) = state.events.pop_front() {
            return Poll::Ready(Some(Ok(event)));
        }
        if state.phase != Phase::Open {
            return Poll::Ready(state.failure.take().map(Err));
        }
        let batch = self.hand_out(&mut state);
        if !batch.is_empty() {
            return Poll::Ready(Some(Ok(Event::Messages(batch))));
        }
        match &mut state.waker {
            Some(known) => known.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    fn hand_out(&self, state: &mut State) -> Arrivals {
        let prefetch = self.limits.prefetch.get() as usize;
        let most_bytes = self.limits.bytes.unwrap_or(usize::MAX);
        let in_place = matches!(self.returning, Returning::InPlace { .. }).then(Instant::now);
        let keyed = matches!(self.returning, Returning::InPlace { keyed: true, .. });
        let mut batch = Arrivals::new();
        // Suspects are few and stop for nobody.
        for (number, lane) in state.lanes.iter_mut().enumerate().rev() {
            let number = u32::try_from(number).unwrap_or_default();
            // If one of them kills this process, no other may be there twice.
            if number == SUSPECTS && state.moving > 0 {
                continue;
            }
            let room = prefetch.saturating_sub(state.in_hand);
            batch.reserve(lane.ring.most_waiting().min(room));
            while state.in_hand < prefetch && state.bytes < most_bytes {
                let tag = match in_place {
                    None => lane.ring.next_waiting(),
                    Some(now) => lane.next_in_place(now, keyed),
                };
                let Some(tag) = tag else { break };
                let Some(slot) = lane.ring.get_mut(tag) else { break };
                let Some(message) = slot.content.message() else { continue };
                slot.state = SlotState::InHand;
                state.in_hand += 1;
                state.bytes += message.bytes();
                let token = Token { lane: number, epoch: lane.epoch, id: tag.into() };
                let incoming = Incoming::new(Arc::clone(message), token);
                batch.push(incoming.with_attempt(slot.attempt));
            }
        }
        state.stalled = state.in_hand >= prefetch || state.bytes >= most_bytes;
        batch
    }

    /// What is to be brought to the server now, or with what has waited long enough. A subscription
    /// that was left acks everything at once in the end: the server keeps single acks back where they
    /// are many, and forgets those when the channel closes.
    pub(super) fn take_work(&self, has_waited: bool) -> Work {
        let mut guard = self.lock();
        let state = &mut *guard;
        let mut work = Work::default();
        let waits = state.phase != Phase::Open && state.in_hand + state.copying > 0;
        let all = has_waited || state.is_urgent();
        for (number, lane) in (0..).zip(&mut state.lanes) {
            work.rejects.extend(lane.rejects.drain(..).map(|tag| (number, tag)));
            match lane.ring.acks() {
                1.. if waits => {}
                1.. if all => work.acks.push((number, lane.ring.take_acks())),
                count if count >= self.limits.ack_batch() => {
                    work.acks.push((number, lane.ring.take_acks()));
                }
                count => work.has_later |= count > 0,
            }
        }
        work.copies = std::mem::take(&mut state.copies);
        work.confirms = std::mem::take(&mut state.confirms);
        work
    }

    /// The first time after `from` at which a message that is kept back goes out again.
    pub(super) fn next_due(&self, from: Instant) -> Option<Instant> {
        self.lock().lanes.iter().filter_map(|lane| lane.order.next_due(from)).min()
    }

    /// What was taken as work has been handed over to the connection.
    pub(super) fn flushed(&self) {
        let mut state = self.lock();
        if state.moved > 0 {
            state.moving -= std::mem::take(&mut state.moved);
            state.wake();
        }
    }

    /// Looks again whether something is due.
    pub(super) fn wake(&self) {
        self.lock().wake();
    }

    /// Whether the log is to be told of copies that fail.
    pub(super) fn is_log_due(&self) -> bool {
        self.lock().log.is_due()
    }

    pub(super) fn tell(&self, event: Event) {
        let mut state = self.lock();
        state.events.push_back(event);
        state.wake();
    }
}

impl Lane {
    /// The message that goes out next where retries are in place.
    fn next_in_place(&mut self, now: Instant, keyed: bool) -> Option<u64> {
        if let Some(tag) = self.order.due(now) {
            return Some(tag);
        }
        while let Some(tag) = self.ring.next_waiting() {
            let slot = self.ring.get_mut(tag)?;
            let key = slot.key(keyed);
            if self.order.admit(tag, key) {
                return Some(tag);
            }
            slot.state = SlotState::Withheld;
        }
        None
    }
}

impl State {
    /// Whether acks go out at once: somebody waits for one. The server has room enough meanwhile.
    fn is_urgent(&self) -> bool {
        self.moved > 0 || self.phase != Phase::Open || !self.confirms.is_empty()
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Puts a copy in the way, of a delivery that counts as being copied.
    fn copy(&mut self, copy: Copy) {
        self.copying += 1;
        self.moving += usize::from(copy.to == Target::Suspects);
        self.copies.push(copy);
    }
}
