//! V9: what an at-most-once subscription misses, it is told; what it is told, it misses.

use super::super::Promise;
use super::super::index::Index;
use super::super::report::Findings;

pub(super) fn check(index: &Index, promise: &Promise, findings: &mut Findings<'_>) {
    for (name, subscription) in index.subscriptions.iter().filter(|(_, s)| s.lossy) {
        let missing = index.messages.iter().filter(|(id, message)| {
            let story = subscription.stories.get(id);
            message.confirmed.is_some()
                && subscription.expects(message)
                && story.is_none_or(|story| story.deliveries.is_empty())
        });
        let missing = missing.count() as u64;
        // A gap that did not say how many covers any number.
        let Some(told) = subscription.gaps else { continue };
        if told < missing || told > missing + promise.gap_slack {
            findings.add("V9", None, || format!("{name} missed {missing} and was told of {told}"));
        }
    }
}
