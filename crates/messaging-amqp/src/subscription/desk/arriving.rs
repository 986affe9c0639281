//! Deliveries as they come from the server.

use std::sync::Arc;

use messaging_core::{Message, Settlement};
use tokio::time::Instant;

use super::super::content::Content;
use super::super::past::{Fate, Known};
use super::super::ring::{Alias, Slot, State as SlotState};
use super::{Copy, Desk, Lane, MAIN, Phase, Returning, State, Target};

/// A delivery, read.
#[derive(Debug)]
pub(in super::super) struct Arrival {
    /// Nothing where it is for nobody here: it is acked unseen.
    pub(in super::super) message: Option<Arc<Message>>,
    /// Why it can be handed to nobody: it is kept as a dead letter, or where it is.
    pub(in super::super) fault: Option<String>,
    /// 1 + the failed hand-overs that a copy of ours says.
    pub(in super::super) attempt: u32,
    /// How often the server took it back from somebody, as far as it says.
    pub(in super::super) returns: u32,
    /// Which copy of ours it is; 0 is none.
    pub(in super::super) copy: u64,
}

impl Arrival {
    /// One that is for nobody here.
    pub(in super::super) const fn unseen() -> Self {
        Self { message: None, fault: None, attempt: 1, returns: 0, copy: 0 }
    }
}

impl Desk {
    /// Takes in what came over a lane's channel; nothing if that is no longer the one.
    pub(in super::super) fn arrived(
        &self,
        lane: u32,
        epoch: u32,
        arrivals: impl IntoIterator<Item = Arrival>,
    ) {
        let now = Instant::now();
        let mut guard = self.lock();
        let state = &mut *guard;
        let current = state.lanes.get(lane as usize).is_some_and(|known| known.epoch == epoch);
        if !current {
            return;
        }
        let mut has_work = false;
        for arrival in arrivals {
            has_work |= self.take_in(state, lane, arrival, now);
        }
        state.wake();
        drop(guard);
        if has_work {
            self.work.notify_one();
        }
    }

    /// Takes one in; whether that makes work.
    fn take_in(&self, state: &mut State, number: u32, arrival: Arrival, now: Instant) -> bool {
        let open = state.phase == Phase::Open;
        let Some(lane) = state.lanes.get_mut(number as usize) else { return false };
        let Some(message) = arrival.message else {
            let alias = None;
            let (state, attempt, content) = (SlotState::Done, 1, Content::Unseen);
            lane.ring.push(Slot { state, attempt, content, arrived: now, alias, copy: 0 });
            return true;
        };
        if arrival.returns > 0
            && let Some((alias, known)) = lane.past.recognise(&message, arrival.copy)
            && (arrival.fault.is_none() || !matches!(known.fate, Fate::Waiting))
        {
            return self.take_back(state, number, alias, known, now);
        }
        let (slot_state, attempt, to) = match (self.returning, arrival.fault) {
            (Returning::InPlace { keeps_rejected: true, .. }, Some(_)) => {
                (SlotState::Withheld, 1, None)
            }
            (_, Some(reason)) => {
                (SlotState::Copying, arrival.attempt, Some(Target::DeadLetters { reason }))
            }
            // The server moves it on when the channel closes.
            (Returning::InPlace { .. }, None) if !open => (SlotState::Withheld, 1, None),
            (Returning::InPlace { .. }, None) => (SlotState::Waiting, 1, None),
            (Returning::AsCopy { trial_after }, None) => {
                // The server also counts returns from members that had not handed it out, so in the
                // group's own queue no more of them count than it takes to be tried alone.
                let failed = match number {
                    MAIN => arrival.returns.min(trial_after),
                    _ => arrival.returns,
                };
                let attempt = arrival.attempt.saturating_add(failed);
                if !open {
                    (SlotState::Copying, attempt, Some(Target::Group))
                } else if number == MAIN && arrival.returns >= trial_after {
                    (SlotState::Copying, attempt, Some(Target::Suspects))
                } else {
                    (SlotState::Waiting, attempt, None)
                }
            }
        };
        let slot = Slot::new(slot_state, attempt, Arc::clone(&message), now);
        let tag = lane.ring.push(Slot { copy: arrival.copy, ..slot });
        let of = (lane.epoch, tag);
        let copied = to.is_some();
        if let Some(to) = to {
            state.copy(Copy { lane: number, of, to, attempt, message, confirm: None });
        }
        copied
    }

    /// A delivery of a lost channel is back; whether that makes work.
    fn take_back(
        &self,
        state: &mut State,
        number: u32,
        alias: Alias,
        known: Known,
        now: Instant,
    ) -> bool {
        let open = state.phase == Phase::Open;
        let Some(lane) = state.lanes.get_mut(number as usize) else { return false };
        let Known { fate, attempt, content, not_before, copy, .. } = known;
        let slot = |state| Slot { state, attempt, content, arrived: now, alias: None, copy };
        match fate {
            Fate::Waiting if open => {
                let tag = lane.ring.push(slot(SlotState::Waiting));
                if let Some(at) = not_before.filter(|at| *at > now) {
                    self.delay(lane, tag, at);
                }
                false
            }
            Fate::Waiting | Fate::Gone => {
                let tag = lane.ring.push(slot(SlotState::Withheld));
                if let Returning::AsCopy { .. } = self.returning {
                    state.send_back(number as usize, tag);
                    return true;
                }
                false
            }
            Fate::InHand | Fate::Copying => {
                let is = match fate {
                    Fate::InHand => SlotState::InHand,
                    _ => SlotState::Copying,
                };
                let tag = lane.ring.push(Slot { alias: Some(alias), ..slot(is) });
                lane.past.came_back(alias, tag);
                false
            }
            Fate::Settled(Settlement::Ack) => {
                lane.ring.push(slot(SlotState::Done));
                true
            }
            Fate::Settled(how) => {
                let tag = lane.ring.push(slot(SlotState::InHand));
                self.apply(state, number, tag, how, None);
                true
            }
        }
    }

    /// Keeps a delivery back until its time, and its key with it.
    fn delay(&self, lane: &mut Lane, tag: u64, at: Instant) {
        let keyed = matches!(self.returning, Returning::InPlace { keyed: true, .. });
        let Some(slot) = lane.ring.get_mut(tag) else { return };
        slot.state = SlotState::Withheld;
        if lane.order.admit(tag, slot.key(keyed)) {
            lane.order.delay(tag, at);
        }
    }
}
