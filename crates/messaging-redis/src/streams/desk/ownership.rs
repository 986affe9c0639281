//! Which lanes are ours, and what of them is on its way.

use std::collections::VecDeque;
use std::time::Duration;

use messaging_core::driver::{Event, Lanes};
use tokio::time::Instant;

use super::order::KeyOrder;
use super::{Desk, Fetched, LaneState, State};

impl LaneState {
    pub(super) fn new(ordered: bool) -> Self {
        Self { open: !ordered, ..Self::default() }
    }

    /// Whether messages of it may go out. A process that was stopped for a while finds its leases
    /// run out before anybody has told it.
    pub(super) fn hands_out(&self, now: Instant) -> bool {
        !self.revoked && self.until.is_some_and(|until| now < until)
    }
}

impl Desk {
    /// The lanes that may be read, which stay ours until `end_reading`. `only` is the one of a
    /// reader that has one.
    pub(in super::super) fn begin_reading(&self, only: Option<u32>) -> Vec<u32> {
        let mut state = self.lock();
        let open = state.lanes.iter().zip(0..).filter(|(lane, number)| {
            lane.open && !lane.revoked && only.is_none_or(|only| only == *number)
        });
        let open: Vec<u32> = open.map(|(_, number)| number).collect();
        state.reading.extend(&open);
        open
    }

    pub(in super::super) fn end_reading(&self, lanes: &[u32]) {
        let mut state = self.lock();
        for lane in lanes {
            if let Some(at) = state.reading.iter().position(|read| read == lane) {
                state.reading.swap_remove(at);
            }
        }
    }

    /// Whether a lane is being read at this moment.
    pub(in super::super) fn is_read(&self, number: u32) -> bool {
        self.lock().reading.contains(&number)
    }

    /// Whether a lane is ours, with what is pending of it under our name.
    pub(in super::super) fn is_ours(&self, number: u32) -> bool {
        self.lock().lanes.get(number as usize).is_some_and(|lane| lane.open)
    }

    /// One more lane there is, as its stream is new.
    pub(in super::super) fn add_lane(&self) {
        self.lock().lanes.push(LaneState::new(self.ordered));
        self.room.notify_waiters();
    }

    /// A lane of an ordered group is ours from now on, with what it held: that comes before all that
    /// is read of it.
    pub(in super::super) fn assign(
        &self,
        number: u32,
        until: Instant,
        held: Vec<(Fetched, Duration)>,
    ) {
        let mut state = self.lock();
        if let Some(lane) = state.lanes.get_mut(number as usize) {
            lane.open = true;
            lane.revoked = false;
            lane.until = Some(until);
        }
        state.events.push_back(Event::Assigned(Lanes::from_iter([number])));
        state.inherit(held);
        self.room.notify_waiters();
    }

    /// A lane stays ours for longer.
    pub(in super::super) fn renew(&self, number: u32, until: Instant) {
        if let Some(lane) = self.lock().lanes.get_mut(number as usize) {
            lane.until = Some(until);
        }
    }

    /// A lane is asked back.
    pub(in super::super) fn revoke(&self, number: u32) {
        let mut state = self.lock();
        if let Some(lane) = state.lanes.get_mut(number as usize) {
            lane.revoked = true;
        }
        state.events.push_back(Event::Revoked(Lanes::from_iter([number])));
        state.wake();
    }

    /// Whether nothing of a revoked lane is in hand, or on its way to or from the server.
    pub(in super::super) fn is_free(&self, number: u32) -> bool {
        let state = self.lock();
        let in_hand = state.lanes.get(number as usize).map_or(0, |lane| lane.in_hand);
        let reading = state.reading.contains(&number);
        in_hand == 0 && !reading && !state.ledger.is_settling(number)
    }

    /// A lane is no longer ours; what waits of it stays where it is for its next owner.
    pub(in super::super) fn give_up(&self, number: u32) {
        let mut state = self.lock();
        state.forget(number);
    }

    /// A lane was taken from us.
    pub(in super::super) fn lose(&self, number: u32) {
        let mut state = self.lock();
        state.forget(number);
        if let Some(lane) = state.lanes.get_mut(number as usize) {
            lane.epoch += 1;
            lane.in_hand = 0;
        }
        state.ledger.lose(number);
        state.events.push_back(Event::Lost(Lanes::from_iter([number])));
        state.wake();
    }
}

impl State {
    /// Puts what a lane held before all that was read, each not before its time.
    pub(super) fn inherit(&mut self, messages: Vec<(Fetched, Duration)>) {
        let now = Instant::now();
        let Self { lanes, ready, .. } = self;
        let mut first = VecDeque::new();
        for (message, wait) in messages {
            let Some(lane) = lanes.get_mut(message.lane as usize) else { continue };
            if wait.is_zero() {
                first.push_back(message);
            } else if let Some(waiting) = lane.order.admit(message) {
                lane.order.delay(waiting, now + wait);
            }
        }
        first.append(ready);
        *ready = first;
        self.wake();
    }

    fn forget(&mut self, number: u32) {
        self.ready.retain(|fetched| fetched.lane != number);
        if let Some(lane) = self.lanes.get_mut(number as usize) {
            lane.open = false;
            lane.revoked = false;
            lane.order = KeyOrder::default();
        }
    }
}
