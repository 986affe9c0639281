//! What settlements do.

use std::time::Duration;

use messaging_core::driver::{Settle, Settled, Settlement, Token};
use messaging_core::{Confirm, Error, ErrorKind};

use super::super::lane::{Fetched, State as LaneState};
use super::super::place::Place;
use super::commits::Confirming;
use super::{Desk, Phase};

/// How many settlements ask for a commit.
const MANY: u64 = 1_000;

/// A copy that is to be written before its original counts as settled.
#[derive(Debug)]
pub(in super::super) struct Copying {
    pub(in super::super) lane: u32,
    pub(in super::super) epoch: u32,
    pub(in super::super) place: Place,
    pub(in super::super) original: Fetched,
    pub(in super::super) purpose: Purpose,
    pub(in super::super) confirm: Option<Confirm<Settled>>,
}

/// What a copy is for.
#[derive(Clone, Debug)]
pub(in super::super) enum Purpose {
    Retry { after: Duration, attempt: u32 },
    DeadLetter { reason: String },
}

/// A settlement that comes too late.
pub(in super::super) fn stale() -> Error {
    Error::new(ErrorKind::Stale, "the delivery was taken back before it was settled")
}

impl Desk {
    /// Settles many hand-overs under one lock; copies that are to be written are kept for
    /// [`Desk::take_copies`].
    pub(crate) fn settle_all(&self, many: impl Iterator<Item = Settle>) {
        let mut state = self.lock();
        let mut refused = Vec::new();
        let before = state.settlements;
        let (mut commits, mut copies) = (false, false);
        for settle in many {
            let Settle { token, how, confirm, .. } = settle;
            let state = &mut *state;
            let lane = state.lanes.get_mut(token.lane as usize);
            let lane = lane.filter(|lane| {
                lane.epoch == token.epoch
                    && lane.state != LaneState::Closed
                    && state.phase != Phase::Closed
            });
            let offset = i64::try_from(token.id).unwrap_or(-1);
            let hand = lane.and_then(|lane| {
                let (fetched, attempt) = lane.ledger.take_back(offset)?;
                Some((lane, fetched, attempt))
            });
            let Some((lane, fetched, attempt)) = hand else {
                refused.extend(confirm);
                continue;
            };
            lane.in_hand -= 1;
            state.in_hand -= 1;
            state.bytes -= fetched.message.bytes();
            state.settlements += 1;
            let purpose = match how {
                Settlement::Ack => {
                    lane.settle(offset, fetched.message.key.as_ref());
                    None
                }
                Settlement::Release => {
                    lane.come_again(fetched.clone(), attempt, None);
                    None
                }
                Settlement::Abandon => {
                    lane.come_again(fetched.clone(), attempt.saturating_add(1), None);
                    None
                }
                Settlement::Retry { after } if self.in_place || after.is_zero() => {
                    lane.come_again(fetched.clone(), attempt.saturating_add(1), Some(after));
                    None
                }
                Settlement::Retry { after } => {
                    Some(Purpose::Retry { after, attempt: attempt.saturating_add(1) })
                }
                Settlement::Reject { reason } => Some(Purpose::DeadLetter { reason }),
            };
            // The last one in hand of a partition that is asked back ends it.
            commits |= lane.state == LaneState::Revoked || state.phase != Phase::Open;
            if let Some(purpose) = purpose {
                lane.copy(&fetched);
                let place = lane.place.clone();
                let (lane, epoch, original) = (token.lane, token.epoch, fetched);
                state.copies.push(Copying { lane, epoch, place, original, purpose, confirm });
                copies = true;
            } else if let Some(confirm) = confirm {
                if self.commits {
                    let Token { lane, epoch, .. } = token;
                    let unsaid = false;
                    state.confirms.push(Confirming { lane, epoch, offset, confirm, unsaid });
                    commits = true;
                } else {
                    confirm.resolve(Ok(Settled::HandedOver));
                }
            }
        }
        commits |= before < MANY && state.settlements >= MANY;
        let left = state.phase != Phase::Open;
        state.wake();
        drop(state);
        refused.into_iter().for_each(|confirm: Confirm<Settled>| confirm.resolve(Err(stale())));
        if commits {
            self.commit.notify_one();
        }
        if copies {
            self.copies.notify_one();
        }
        if left {
            self.keeper.notify_one();
        }
    }

    /// The copies that are to be written.
    pub(in super::super) fn take_copies(&self) -> Vec<Copying> {
        std::mem::take(&mut self.lock().copies)
    }

    /// A copy was written: its original is settled.
    pub(in super::super) fn copied(&self, copy: Copying) {
        let mut state = self.lock();
        let offset = copy.original.offset;
        let lane = state.lanes.get_mut(copy.lane as usize);
        let lane = lane.filter(|lane| lane.epoch == copy.epoch && lane.state != LaneState::Closed);
        let Some(lane) = lane else {
            drop(state);
            if let Some(confirm) = copy.confirm {
                confirm.resolve(Err(stale()));
            }
            return;
        };
        lane.settle(offset, copy.original.message.key.as_ref());
        if let Some(confirm) = copy.confirm {
            if self.commits {
                let Copying { lane, epoch, .. } = copy;
                state.confirms.push(Confirming { lane, epoch, offset, confirm, unsaid: false });
                self.commit.notify_one();
            } else {
                confirm.resolve(Ok(Settled::Durable));
            }
        }
        state.wake();
        drop(state);
        self.commit.notify_one();
        self.keeper.notify_one();
    }

    /// A copy can't be written at all: its original stays and comes again.
    pub(in super::super) fn not_copied(&self, copy: Copying, error: Error) {
        let mut state = self.lock();
        let lane = state.lanes.get_mut(copy.lane as usize);
        if let Some(lane) = lane.filter(|lane| lane.epoch == copy.epoch) {
            lane.copy_ended(copy.original.offset);
            let attempt = copy.original.attempt;
            lane.come_again(copy.original, attempt, Some(Duration::from_secs(1)));
        }
        state.wake();
        drop(state);
        if let Some(confirm) = copy.confirm {
            confirm.resolve(Err(error));
        }
        self.keeper.notify_one();
    }
}
