//! V1: what was confirmed is handled by everybody who was there, or has ended as declared. What was
//! told to arrive and has not yet may still come.

use super::super::Promise;
use super::super::index::Index;
use super::super::report::Findings;

pub(super) fn check(index: &Index, _: &Promise, findings: &mut Findings<'_>) {
    if !index.is_drained() {
        return;
    }
    for (name, subscription) in index.subscriptions.iter().filter(|(_, s)| !s.lossy) {
        for (id, message) in &index.messages {
            if message.confirmed.is_none() || !subscription.expects(message) {
                continue;
            }
            let story = subscription.stories.get(id);
            if story.is_none_or(|story| story.successes.is_empty() && story.fates.is_empty()) {
                findings.add("V1", Some(*id), || format!("{id} was lost to {name}"));
            }
        }
    }
}
