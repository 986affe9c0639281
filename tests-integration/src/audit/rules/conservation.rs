//! V12: a message ends in exactly one way. That none ended in no way is V1.

use super::super::Promise;
use super::super::index::Index;
use super::super::report::Findings;

pub(super) fn check(index: &Index, _: &Promise, findings: &mut Findings<'_>) {
    for (name, subscription) in index.subscriptions.iter().filter(|(_, s)| !s.lossy) {
        for (id, story) in &subscription.stories {
            let ways = usize::from(!story.successes.is_empty()) + story.fates.len();
            // Each repeated publish may have put another copy there, with an end of its own.
            let copies = index.messages.get(id).map_or(1, |message| message.calls as usize);
            if ways > copies {
                let text = || {
                    let handled = if story.successes.is_empty() { "" } else { "handled and " };
                    format!("{id} was {handled}{:?} in {name}", story.fates)
                };
                findings.add("V12", Some(*id), text);
            }
        }
    }
}
