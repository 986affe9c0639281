//! V2: nothing is acked before its handler has succeeded.

use super::super::Promise;
use super::super::index::Index;
use super::super::report::Findings;

pub(super) fn check(index: &Index, _: &Promise, findings: &mut Findings<'_>) {
    for (name, subscription) in &index.subscriptions {
        for (id, story) in &subscription.stories {
            let first_success = story.successes.first().copied().unwrap_or(u64::MAX);
            if story.acks.iter().any(|ack| *ack < first_success) {
                let text = || format!("{name} acked {id} before its handler had succeeded");
                findings.add("V2", Some(*id), text);
            }
        }
    }
}
