//! V1: what was confirmed is handled by everybody who was there, or has ended as declared. What was
//! told to arrive and has not yet may still come.

use std::collections::BTreeMap;

use super::super::Promise;
use super::super::history::Id;
use super::super::index::Index;
use super::super::report::Findings;

pub(super) fn check(index: &Index, _: &Promise, findings: &mut Findings<'_>) {
    for (name, id, _) in lost(index) {
        findings.add("V1", Some(id), || format!("{id} was lost to {name}"));
    }
}

/// How many were lost by which fault: the first that was not over when they were confirmed.
pub(in super::super) fn by_fault(index: &Index) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for (_, _, confirmed) in lost(index) {
        let mut faults = index.faults.iter();
        let fault = faults.find(|fault| fault.ended.is_none_or(|ended| ended >= confirmed));
        let name = fault.map_or("no fault", |fault| &fault.name);
        *counts.entry(name.to_owned()).or_default() += 1;
    }
    counts
}

/// Who lost what, and when that had been confirmed.
fn lost(index: &Index) -> Vec<(&str, Id, u64)> {
    let mut lost = Vec::new();
    if !index.is_drained() {
        return lost;
    }
    for (name, subscription) in index.subscriptions.iter().filter(|(_, s)| !s.lossy) {
        for (id, message) in &index.messages {
            let Some(confirmed) = message.confirmed else { continue };
            let story = subscription.stories.get(id);
            let has_ended =
                story.is_some_and(|story| !story.successes.is_empty() || !story.fates.is_empty());
            if !has_ended && subscription.expects(message) {
                lost.push((&**name, *id, confirmed));
            }
        }
    }
    lost
}
