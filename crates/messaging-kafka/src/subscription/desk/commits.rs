//! What is committed, and what a commit allows.

use std::collections::HashMap;

use messaging_core::Confirm;
use messaging_core::driver::Settled;

use super::super::lane::State as LaneState;
use super::{Desk, Phase};
use crate::group::Partition;
use crate::offsets::metadata::Progress;

/// A commit on its way.
#[derive(Debug)]
pub(in super::super) struct Commit {
    pub(in super::super) places: Vec<Committing>,
    confirms: Vec<Confirming>,
}

/// Whoever waits until a settlement is committed.
#[derive(Debug)]
pub(super) struct Confirming {
    pub(super) lane: u32,
    pub(super) epoch: u32,
    pub(super) offset: i64,
    pub(super) confirm: Confirm<Settled>,
    /// Whether the last commit had no room to say it: then it waits for another one.
    pub(super) unsaid: bool,
}

#[derive(Debug)]
pub(in super::super) struct Committing {
    lane: u32,
    epoch: u32,
    pub(in super::super) partition: Partition,
    pub(in super::super) progress: Progress,
}

impl Commit {
    /// Whether there is nothing to say and nobody to tell.
    pub(in super::super) fn is_empty(&self) -> bool {
        self.places.is_empty() && self.confirms.is_empty()
    }

    pub(in super::super) fn partitions(&self) -> impl Iterator<Item = &Partition> {
        self.places.iter().map(|one| &one.partition)
    }
}

impl Desk {
    /// What is to be committed now, at most so many partitions, those first that wait for it.
    pub(in super::super) fn begin_commit(&self, patterns: u64, most: usize) -> Commit {
        let mut state = self.lock();
        let ends = state.phase != Phase::Open;
        let mut numbers: Vec<(bool, u32)> = Vec::new();
        for (number, lane) in (0..).zip(&mut state.lanes) {
            if ends && lane.state == LaneState::Open {
                // As if it was asked back: nothing more goes out.
                lane.state = LaneState::Revoked;
                lane.forget_fetched();
                lane.dirty = true;
            }
            let ours = matches!(lane.state, LaneState::Open | LaneState::Revoked);
            let ends = lane.state == LaneState::Revoked && lane.is_free() && !lane.ended;
            let waited = lane.wants_commit() || ends;
            if ours && (lane.dirty || waited) {
                numbers.push((!waited, number));
            }
        }
        numbers.sort_unstable();
        let mut places = Vec::new();
        for (_, number) in numbers.into_iter().take(most) {
            let Some(lane) = state.lanes.get_mut(number as usize) else { continue };
            let progress = lane.progress(patterns);
            let partition = lane.place.partition.clone();
            places.push(Committing { lane: number, epoch: lane.epoch, partition, progress });
        }
        state.settlements = 0;
        let says = |lane| places.iter().any(|one: &Committing| one.lane == lane);
        let confirms = state.confirms.extract_if(.., |one| !one.unsaid || says(one.lane)).collect();
        Commit { places, confirms }
    }

    /// A commit was answered; each of these partitions was refused.
    pub(in super::super) fn committed(&self, commit: Commit, refused: &[Partition]) {
        let mut state = self.lock();
        // Above the cut everything counts as unsettled.
        let cut = |one: &Committing| match commit.confirms.is_empty() {
            true => i64::MAX,
            false => one.progress.stored_cut(),
        };
        let said: HashMap<u32, i64> =
            commit.places.iter().map(|one| (one.lane, cut(one))).collect();
        for one in commit.places {
            let lane = state.lanes.get_mut(one.lane as usize);
            let Some(lane) = lane.filter(|lane| lane.epoch == one.epoch) else { continue };
            if refused.contains(&one.partition) {
                lane.dirty = true;
                continue;
            }
            lane.committed(one.progress.limit);
        }
        let (mut done, mut left) = (Vec::new(), Vec::new());
        for one in commit.confirms {
            let lane = state.lanes.get(one.lane as usize);
            let refused = lane.is_some_and(|lane| refused.contains(&lane.place.partition));
            let current = lane.is_some_and(|lane| lane.epoch == one.epoch);
            let cut = said.get(&one.lane);
            // One whose partition had no room in the request waits for the next one.
            let later = cut.is_none() && lane.is_some_and(|lane| lane.dirty);
            let unsaid = !refused && cut.is_some_and(|cut| one.offset >= *cut);
            if current && (refused || later || unsaid) {
                left.push(Confirming { unsaid, ..one });
            } else {
                done.push((current, one.confirm));
            }
        }
        let again = left.iter().any(|one| !one.unsaid);
        state.confirms.append(&mut left);
        state.wake();
        drop(state);
        for (current, confirm) in done {
            let outcome =
                if current { Ok(Settled::Durable) } else { Err(super::settling::stale()) };
            confirm.resolve(outcome);
        }
        if again {
            self.commit.notify_one();
        }
        self.keeper.notify_one();
    }

    /// Whether we have ever committed a place of this partition.
    pub(in super::super) fn has_placed(&self, partition: &Partition) -> bool {
        let state = self.lock();
        let number = state.numbers.get(partition);
        number.and_then(|number| state.lanes.get(*number as usize)).is_some_and(|lane| lane.placed)
    }

    /// Whether something waits for a commit.
    pub(in super::super) fn has_waiting_commit(&self) -> bool {
        let state = self.lock();
        let ends = state.phase != Phase::Open;
        state.confirms.iter().any(|one| !one.unsaid)
            || state.lanes.iter().any(|lane| {
                let ours = matches!(lane.state, LaneState::Open | LaneState::Revoked);
                let leaves = lane.state == LaneState::Revoked || ends;
                lane.wants_commit() || (ours && leaves && lane.is_free() && !lane.ended)
            })
    }
}
