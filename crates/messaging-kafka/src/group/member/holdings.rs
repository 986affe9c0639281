//! What a member holds, and what its group believes it holds.

use super::super::claim::Claim;
use super::super::{Partition, Partitions};

#[derive(Debug)]
pub(super) struct Holdings {
    /// Ours in this generation.
    pub(super) owned: Partitions,
    /// Asked back, and ours until nothing of it is in hand.
    pub(super) leaving: Partitions,
    /// What our last join claimed. Nobody else gets it before the next one.
    told: Partitions,
    /// The generation of the last assignment that still stands; −1: none.
    assigned_in: i32,
}

impl Default for Holdings {
    fn default() -> Self {
        let none = Partitions::new();
        Self { owned: none.clone(), leaving: none.clone(), told: none, assigned_in: -1 }
    }
}

/// What an assignment changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) assigned: Partitions,
    pub(super) revoked: Partitions,
}

impl Holdings {
    /// What the next join tells the group.
    pub(super) fn claim(&mut self, patterns: &[String]) -> Claim {
        self.told = self.held();
        Claim {
            patterns: patterns.to_vec(),
            generation: self.assigned_in,
            owned: self.owned.clone(),
            leaving: self.leaving.clone(),
        }
    }

    /// Takes the assignment of a generation in.
    pub(super) fn adopt(&mut self, generation: i32, assigned: Partitions) -> Changed {
        let held = &self.owned;
        let revoked = held - &assigned;
        let new = &assigned - held;
        self.leaving = &(&self.leaving - &assigned) | &revoked;
        self.owned = assigned;
        self.assigned_in = generation;
        Changed { assigned: new, revoked }
    }

    /// Gives up what was asked back; `false` if it is not asked back.
    pub(super) fn release(&mut self, partition: &Partition) -> bool {
        self.leaving.remove(partition)
    }

    /// Gives up everything.
    pub(super) fn lose(&mut self) -> Partitions {
        let lost = self.held();
        self.owned.clear();
        self.leaving.clear();
        self.assigned_in = -1;
        lost
    }

    /// Gives up what does not satisfy `keep`.
    pub(super) fn retain(&mut self, keep: impl Fn(&Partition) -> bool) -> Partitions {
        let gone: Partitions =
            self.held().into_iter().filter(|partition| !keep(partition)).collect();
        self.owned.retain(|partition| !gone.contains(partition));
        self.leaving.retain(|partition| !gone.contains(partition));
        gone
    }

    /// Whether the group withholds something from others for us that we no longer hold.
    pub(super) fn told_more(&self) -> bool {
        self.told.iter().any(|told| !self.owned.contains(told) && !self.leaving.contains(told))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.owned.is_empty() && self.leaving.is_empty()
    }

    pub(super) fn held(&self) -> Partitions {
        &self.owned | &self.leaving
    }
}
