//! V5: what became of publishes whose outcome nobody knows. Either is allowed.

use super::super::index::Index;

/// How many were delivered, and how many never.
pub(in super::super) fn count(index: &Index) -> (u64, u64) {
    let (mut recovered, mut vanished) = (0, 0);
    let unknown = |(_, message): &(_, &super::super::index::Published)| {
        message.confirmed.is_none() && message.failed < message.calls
    };
    for (id, _) in index.messages.iter().filter(unknown) {
        let mut stories = index.subscriptions.values().filter_map(|s| s.stories.get(id));
        if stories.any(|story| !story.deliveries.is_empty()) {
            recovered += 1;
        } else {
            vanished += 1;
        }
    }
    (recovered, vanished)
}
