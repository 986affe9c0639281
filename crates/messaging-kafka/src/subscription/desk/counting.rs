//! How far a subscription has come, for whoever counts.

use super::super::lane::State as LaneState;
use super::Desk;
use crate::group::Partition;

/// How far we have come in one partition that is ours.
#[derive(Clone, Debug)]
pub(crate) struct Count {
    pub(crate) partition: Partition,
    /// Everything below it is settled.
    pub(crate) mark: i64,
    /// Messages handed over and not settled.
    pub(crate) in_hand: u64,
}

impl Desk {
    /// How far we have come in each partition that is ours now.
    pub(crate) fn counts(&self) -> Vec<Count> {
        let state = self.lock();
        let ours = state
            .lanes
            .iter()
            .filter(|lane| matches!(lane.state, LaneState::Open | LaneState::Revoked));
        let count = ours.map(|lane| Count {
            partition: lane.place.partition.clone(),
            mark: lane.ledger.mark(),
            in_hand: lane.in_hand as u64,
        });
        count.collect()
    }
}
