//! Settlements as they come from the application.

use messaging_core::driver::{Event, Settle};
use messaging_core::{Confirm, Gap, Settled, Settlement};
use tokio::time::Instant;

use super::super::past::Fate;
use super::super::ring::{Alias, State as SlotState};
use super::{Copied, Copy, Desk, Phase, Returning, State, Target};

impl Desk {
    /// Settles one hand-over. `Err` gives a settlement back that comes too late.
    pub(crate) fn settle(&self, settle: Settle) -> Result<(), Settle> {
        let mut guard = self.lock();
        let settled = self.settle_in(&mut guard, settle);
        drop(guard);
        if settled? {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Settles many under one lock; gives back those that come too late.
    pub(crate) fn settle_all(&self, many: &mut Vec<Settle>) -> Vec<Settle> {
        let (mut late, mut work) = (Vec::new(), false);
        let mut guard = self.lock();
        for settle in many.drain(..) {
            match self.settle_in(&mut guard, settle) {
                Ok(more) => work |= more,
                Err(settle) => late.push(settle),
            }
        }
        drop(guard);
        if work {
            self.work.notify_one();
        }
        late
    }

    /// Whether there is work now that nobody has been told of.
    fn settle_in(&self, state: &mut State, settle: Settle) -> Result<bool, Settle> {
        let number = settle.token.lane;
        let Some(lane) = state.lanes.get_mut(number as usize) else { return Err(settle) };
        if state.phase == Phase::Closed {
            return Err(settle);
        }
        let Ok(id) = u64::try_from(settle.token.id) else { return Err(settle) };
        let alias = (settle.token.epoch, id);
        let tag = match lane.epoch == settle.token.epoch {
            true => Some(id),
            false => lane.past.tag_of(alias),
        };
        let Some(tag) = tag else { return self.settle_past(state, number, alias, settle) };
        let Some(slot) = lane.ring.get(tag).filter(|slot| slot.state == SlotState::InHand) else {
            return Err(settle);
        };
        let known = lane.ring.acks() > 0 || !state.copies.is_empty();
        state.in_hand -= 1;
        state.bytes -= slot.content.bytes();
        if slot.alias.is_some() && settle.how == Settlement::Ack {
            lane.past.forget_tag(alias);
        }
        self.apply(state, number, tag, settle.how, settle.confirm);
        if state.stalled || matches!(self.returning, Returning::InPlace { .. }) {
            state.wake();
        }
        let acks = state.lanes.get(number as usize).map_or(0, |lane| lane.ring.acks());
        Ok(!known || state.is_urgent() || acks == self.limits.ack_batch())
    }

    /// Does what a settlement says with a delivery that was in hand.
    pub(super) fn apply(
        &self,
        state: &mut State,
        number: u32,
        tag: u64,
        how: Settlement,
        confirm: Option<Confirm<Settled>>,
    ) {
        let Some(lane) = state.lanes.get_mut(number as usize) else { return };
        let Some(slot) = lane.ring.get_mut(tag) else { return };
        let failed = matches!(how, Settlement::Retry { .. } | Settlement::Abandon);
        slot.attempt += u32::from(failed);
        let of = slot.alias.unwrap_or((lane.epoch, tag));
        let in_place = match self.returning {
            Returning::InPlace { keyed, keeps_rejected } => Some((keyed, keeps_rejected)),
            Returning::AsCopy { .. } => None,
        };
        if let Some((keyed, _)) = in_place
            && matches!(how, Settlement::Ack | Settlement::Reject { .. })
        {
            lane.order.finish(slot.key(keyed));
        }
        let to = match (how, in_place) {
            (Settlement::Ack, _) => {
                lane.ring.finish(tag);
                state.confirms.extend(confirm);
                return;
            }
            (Settlement::Reject { .. }, Some((_, true))) => {
                slot.state = SlotState::Withheld;
                resolve(confirm);
                return;
            }
            (Settlement::Retry { after }, Some(_)) if !after.is_zero() => {
                slot.state = SlotState::Withheld;
                lane.order.delay(tag, Instant::now() + after);
                resolve(confirm);
                // The task that waits for the time has to know of it.
                self.work.notify_one();
                return;
            }
            (Settlement::Retry { .. } | Settlement::Abandon | Settlement::Release, Some(_)) => {
                slot.state = SlotState::Withheld;
                lane.order.again(tag);
                resolve(confirm);
                return;
            }
            (Settlement::Reject { reason }, _) => Target::DeadLetters { reason },
            (Settlement::Retry { after }, None) if !after.is_zero() => Target::Tier(after),
            (Settlement::Retry { .. } | Settlement::Abandon | Settlement::Release, None) => {
                Target::Group
            }
        };
        let Some(message) = slot.content.message().cloned() else { return };
        slot.state = SlotState::Copying;
        let attempt = slot.attempt;
        state.copy(Copy { lane: number, of, to, attempt, message, confirm });
    }

    /// Settles what was handed out over a channel that is gone and did not come back yet: it is done
    /// when it does.
    fn settle_past(
        &self,
        state: &mut State,
        number: u32,
        alias: Alias,
        settle: Settle,
    ) -> Result<bool, Settle> {
        let Some(lane) = state.lanes.get_mut(number as usize) else { return Err(settle) };
        let Some(known) = lane.past.get_mut(alias) else { return Err(settle) };
        match known.fate {
            Fate::InHand => {
                state.in_hand -= 1;
                state.bytes -= known.content.bytes();
                known.fate = Fate::Settled(settle.how);
                resolve(settle.confirm);
                state.wake();
                Ok(state.phase != Phase::Open)
            }
            Fate::Gone => {
                lane.past.forget(alias);
                if settle.how != Settlement::Ack {
                    let reason = "its queue was deleted while it was in hand";
                    state.events.push_back(Event::Gap(Gap::new(Some(1), reason)));
                    state.wake();
                }
                Err(settle)
            }
            Fate::Waiting | Fate::Copying | Fate::Settled(_) => Err(settle),
        }
    }

    /// A copy is confirmed: its original is done. Where it can't be made, the server has to move
    /// the original, or it comes again after its channel was lost.
    pub(in super::super) fn copied(&self, Copied { lane: number, of, moved, is_made }: Copied) {
        let mut guard = self.lock();
        let state = &mut *guard;
        state.copying -= 1;
        state.moved += usize::from(moved);
        let Some(lane) = state.lanes.get_mut(number as usize) else { return };
        let tag = match lane.epoch == of.0 {
            true => Some(of.1),
            false => lane.past.tag_of(of),
        };
        match tag {
            Some(tag) => {
                lane.past.forget_tag(of);
                match lane.ring.get(tag).map(|slot| slot.state) {
                    Some(SlotState::Copying) if is_made => lane.ring.finish(tag),
                    Some(SlotState::Copying) => {
                        lane.ring.reject(tag);
                        lane.rejects.push(tag);
                    }
                    _ => {}
                }
            }
            None if !is_made => drop(lane.past.forget(of)),
            None => {
                if let Some(known) = lane.past.get_mut(of)
                    && matches!(known.fate, Fate::Copying)
                {
                    known.fate = Fate::Settled(Settlement::Ack);
                }
            }
        }
    }
}

fn resolve(confirm: Option<Confirm<Settled>>) {
    if let Some(confirm) = confirm {
        confirm.resolve(Ok(Settled::HandedOver));
    }
}
