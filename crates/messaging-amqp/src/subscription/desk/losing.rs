//! What happens when a channel, a queue or the server's patience ends.

use std::collections::HashMap;
use std::time::Duration;

use messaging_core::driver::{Event, Expired, Lanes, Token};
use tokio::time::Instant;

use super::super::order::Order;
use super::super::ring::State as SlotState;
use super::{Desk, Phase, Returning};

/// Why deliveries are taken back from their handlers.
const PATIENCE: &str =
    "the server's consumer_timeout (RABBITMQ_CONSUMER_TIMEOUT) would end the channel soon";

impl Desk {
    /// The epoch of the channel that a lane is consumed over.
    pub(in super::super) fn epoch(&self, lane: u32) -> u32 {
        self.lock().lanes.get(lane as usize).map_or(0, |lane| lane.epoch)
    }

    /// A lane's channel is gone. The server returns what was unsettled of it. Where copies bring
    /// messages back, what is in hand stays there; in place, the lane is lost.
    pub(in super::super) fn disconnected(&self, number: u32) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(lane) = state.lanes.get_mut(number as usize) else { return };
        let delayed: HashMap<u64, Instant> = lane.order.delayed().collect();
        let epoch = lane.epoch;
        lane.epoch += 1;
        lane.order = Order::default();
        lane.rejects.clear();
        lane.past.turn(epoch);
        let in_place = matches!(self.returning, Returning::InPlace { .. });
        let mut lost = 0;
        for (tag, mut slot) in lane.ring.take() {
            if in_place && slot.state == SlotState::InHand {
                slot.state = SlotState::Waiting;
                lost += 1;
                state.bytes -= slot.content.bytes();
            }
            lane.past.remember((epoch, tag), slot, delayed.get(&tag).copied());
        }
        state.in_hand -= lost;
        if in_place && state.phase == Phase::Open {
            state.events.push_back(Event::Lost(Lanes::from_iter([number])));
            state.wake();
        }
        let ended = state.phase != Phase::Open;
        drop(guard);
        if ended {
            self.work.notify_one();
        }
    }

    /// A lane's queue was deleted with everything in it: nothing of it comes back.
    pub(in super::super) fn deleted(&self, number: u32) {
        self.disconnected(number);
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(lane) = state.lanes.get_mut(number as usize) else { return };
        let (count, bytes) = lane.past.in_hand();
        state.in_hand -= count;
        state.bytes -= bytes;
        lane.past.is_gone();
    }

    /// The subscription has ended and its channel is lost: what is still in hand is the server's.
    pub(in super::super) fn abandon(&self) {
        let mut state = self.lock();
        state.phase = Phase::Closed;
        state.in_hand = 0;
        state.bytes = 0;
    }

    /// Ends what has been unsettled for `limit`, before the server closes the channel over it: what
    /// nobody started goes back, and what is in hand has failed an attempt. In place, the channel has
    /// to be opened anew: `true`.
    pub(in super::super) fn expire(&self, limit: Duration) -> bool {
        let now = Instant::now();
        let (mut reopen, mut expired) = (false, Vec::new());
        let mut guard = self.lock();
        let state = &mut *guard;
        for number in 0..state.lanes.len() {
            let Some(lane) = state.lanes.get_mut(number) else { break };
            let over = |at: Instant| now.duration_since(at) >= limit;
            if !lane.ring.oldest().is_some_and(over) {
                continue;
            }
            if let Returning::InPlace { .. } = self.returning {
                reopen = true;
                continue;
            }
            let old: Vec<(u64, SlotState)> = lane
                .ring
                .iter()
                .take_while(|(_, slot)| over(slot.arrived))
                .map(|(tag, slot)| (tag, slot.state))
                .collect();
            for (tag, slot_state) in old {
                match slot_state {
                    SlotState::Waiting => state.send_back(number, tag),
                    SlotState::InHand => {
                        let Some(lane) = state.lanes.get_mut(number) else { break };
                        let Some(slot) = lane.ring.get_mut(tag) else { break };
                        slot.attempt += 1;
                        state.in_hand -= 1;
                        state.bytes -= slot.content.bytes();
                        let (epoch, id) = slot.alias.unwrap_or((lane.epoch, tag));
                        let lane = u32::try_from(number).unwrap_or_default();
                        expired.push(Token { lane, epoch, id: id.into() });
                        state.send_back(number, tag);
                    }
                    SlotState::Withheld
                    | SlotState::Copying
                    | SlotState::Rejected
                    | SlotState::Done
                    | SlotState::Acked => {}
                }
            }
        }
        if !expired.is_empty() {
            let expired = Expired::new(expired, PATIENCE);
            state.events.push_back(Event::Expired(expired));
            state.wake();
        }
        drop(guard);
        self.work.notify_one();
        reopen
    }

    /// When the delivery came that has been unsettled longest.
    pub(in super::super) fn oldest(&self) -> Option<Instant> {
        self.lock().lanes.iter().filter_map(|lane| lane.ring.oldest()).min()
    }
}
