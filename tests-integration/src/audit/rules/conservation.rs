//! V12: a message ends in exactly one way. That none ended in no way is V1.
//!
//! A dead letter may be there twice where a fault was on: its copy is repeated until it is confirmed.

use super::super::Promise;
use super::super::history::Fate;
use super::super::index::{Index, Story};
use super::super::report::Findings;

pub(super) fn check(index: &Index, promise: &Promise, findings: &mut Findings<'_>) {
    for (name, subscription) in index.subscriptions.iter().filter(|(_, s)| !s.lossy) {
        let faults = index.faults.len() as u64;
        let mut explained = faults.saturating_mul(promise.duplicates_per_fault);
        for (id, story) in &subscription.stories {
            // Each repeated publish may have put another copy there, with an end of its own.
            let copies = index.messages.get(id).map_or(1, |message| message.calls as usize);
            let (ways, repeated) = ways(story);
            let surplus = (ways + repeated).saturating_sub(copies.max(ways)) as u64;
            let is_explained = ways <= copies && surplus <= explained;
            if is_explained {
                explained -= surplus;
                continue;
            }
            let text = || {
                let handled = if story.successes.is_empty() { "" } else { "handled and " };
                format!("{id} was {handled}{:?} in {name}", story.fates)
            };
            findings.add("V12", Some(*id), text);
        }
    }
}

/// In how many ways a message ended, and how often it was a dead letter again.
fn ways(story: &Story) -> (usize, usize) {
    let parked = story.fates.iter().filter(|fate| **fate == Fate::Parked).count();
    let others = story.fates.len() - parked;
    let ways = usize::from(!story.successes.is_empty()) + others + parked.min(1);
    (ways, parked.saturating_sub(1))
}
