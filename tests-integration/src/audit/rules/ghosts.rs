//! V4: what has definitely failed is never delivered.

use super::super::Promise;
use super::super::index::Index;
use super::super::report::Findings;

pub(super) fn check(index: &Index, _: &Promise, findings: &mut Findings<'_>) {
    let failed = index.messages.iter().filter(|(_, message)| message.failed == message.calls);
    for (id, _) in failed {
        for (name, subscription) in &index.subscriptions {
            let story = subscription.stories.get(id);
            if story.is_some_and(|story| !story.deliveries.is_empty()) {
                findings
                    .add("V4", Some(*id), || format!("{name} got {id}, whose publish had failed"));
            }
        }
    }
}
