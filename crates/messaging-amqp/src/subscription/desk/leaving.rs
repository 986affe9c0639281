//! The end of a subscription.

use messaging_core::Error;

use super::super::ring::State as SlotState;
use super::{Copy, Desk, Phase, Returning, State, Target};

impl Desk {
    /// Nobody takes messages any more: what nobody has in hand goes back without having failed.
    pub(in super::super) fn leave(&self) {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.phase == Phase::Open {
            state.phase = Phase::Left;
            self.give_back(state, |slot| slot == SlotState::Waiting);
        }
        state.wake();
        drop(guard);
        self.work.notify_one();
    }

    /// Ends the subscription, which can't go on.
    pub(in super::super) fn fail(&self, error: Error) {
        self.lock().failure = Some(error);
        self.leave();
    }

    /// As [`Desk::leave`], and gives back what is in hand too.
    pub(crate) fn close(&self) {
        self.leave();
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.phase != Phase::Closed {
            state.phase = Phase::Closed;
            self.give_back(state, |slot| slot == SlotState::InHand);
            state.in_hand = 0;
            state.bytes = 0;
        }
        drop(guard);
        self.work.notify_one();
    }

    /// Copies go back to the group, as the server would count what it returns itself. In place,
    /// everything that is unsettled goes back when the channel closes, in order.
    fn give_back(&self, state: &mut State, which: impl Fn(SlotState) -> bool) {
        if let Returning::InPlace { .. } = self.returning {
            return;
        }
        for number in 0..state.lanes.len() {
            let Some(lane) = state.lanes.get_mut(number) else { return };
            let all: Vec<u64> = lane
                .ring
                .iter()
                .filter(|(_, slot)| which(slot.state))
                .map(|(tag, _)| tag)
                .collect();
            for tag in all {
                state.send_back(number, tag);
            }
        }
    }

    pub(in super::super) fn has_left(&self) -> bool {
        self.lock().phase != Phase::Open
    }

    /// Whether nothing of it is in hand or on its way to the server.
    pub(in super::super) fn is_done(&self) -> bool {
        let state = self.lock();
        state.phase != Phase::Open
            && state.in_hand == 0
            && state.copying == 0
            && !state.lanes.iter().any(|lane| lane.ring.acks() > 0)
    }
}

impl State {
    /// Copies a delivery back to its group as it is.
    pub(super) fn send_back(&mut self, number: usize, tag: u64) {
        let Some(lane) = self.lanes.get_mut(number) else { return };
        let Some(slot) = lane.ring.get_mut(tag) else { return };
        let Some(message) = slot.content.message().cloned() else { return };
        slot.state = SlotState::Copying;
        let of = slot.alias.unwrap_or((lane.epoch, tag));
        let attempt = slot.attempt;
        let lane = u32::try_from(number).unwrap_or_default();
        self.copy(Copy { lane, of, to: Target::Group, attempt, message, confirm: None });
    }
}
