//! V6: messages of a key are first delivered in the order in which they were published.
//!
//! One message is before another if its publish had returned when the other's was called. What
//! overlapped, or has an unknown outcome, may come in any order.

use std::collections::BTreeMap;

use super::super::Promise;
use super::super::history::Id;
use super::super::index::{Index, Subscription};
use super::super::report::Findings;

/// A message as the order sees it.
struct Step {
    id: Id,
    invoked: u64,
    confirmed: u64,
    /// When it was first delivered; at the end of time if never.
    delivered: u64,
}

pub(super) fn check(index: &Index, _: &Promise, findings: &mut Findings<'_>) {
    for (name, subscription) in index.subscriptions.iter().filter(|(_, s)| s.ordered) {
        for (key, steps) in steps_by_key(index, subscription) {
            check_key(name, key, steps, findings);
        }
    }
}

/// How many messages had one before them in an ordered subscription.
pub(in super::super) fn count(index: &Index) -> u64 {
    let ordered = index.subscriptions.values().filter(|subscription| subscription.ordered);
    let keys = ordered.flat_map(|subscription| steps_by_key(index, subscription).into_values());
    let followers = |steps: Vec<Step>| {
        let first_end = steps.iter().map(|step| step.confirmed).min().unwrap_or(u64::MAX);
        steps.iter().filter(|step| step.invoked > first_end).count() as u64
    };
    keys.map(followers).sum()
}

fn steps_by_key<'a>(index: &'a Index, subscription: &Subscription) -> BTreeMap<&'a str, Vec<Step>> {
    let mut by_key: BTreeMap<&str, Vec<Step>> = BTreeMap::new();
    for (id, message) in &index.messages {
        let (Some(key), Some(confirmed)) = (&message.key, message.confirmed) else { continue };
        if !subscription.expects(message) {
            continue;
        }
        let story = subscription.stories.get(id);
        let ended_otherwise = story.is_some_and(|s| s.deliveries.is_empty() && !s.fates.is_empty());
        if ended_otherwise {
            continue;
        }
        let first = story.and_then(|story| story.deliveries.first());
        // What has not arrived yet may still come.
        if first.is_none() && !index.is_drained() {
            continue;
        }
        let delivered = first.map_or(u64::MAX, |(at, _)| *at);
        let step = Step { id: *id, invoked: message.invoked, confirmed, delivered };
        by_key.entry(key).or_default().push(step);
    }
    by_key
}

/// For each message: was any that was published after it delivered before it?
fn check_key(name: &str, key: &str, mut steps: Vec<Step>, findings: &mut Findings<'_>) {
    steps.sort_by_key(|step| step.invoked);
    // The earliest delivery among the messages from here on.
    let mut earliest = vec![u64::MAX; steps.len() + 1];
    for (place, step) in steps.iter().enumerate().rev() {
        let later = earliest.get(place + 1).copied().unwrap_or(u64::MAX);
        if let Some(entry) = earliest.get_mut(place) {
            *entry = later.min(step.delivered);
        }
    }
    for step in &steps {
        let after = steps.partition_point(|other| other.invoked <= step.confirmed);
        let overtaken = earliest.get(after).is_some_and(|delivered| *delivered < step.delivered);
        if overtaken {
            let how = if step.delivered == u64::MAX { "was skipped" } else { "was overtaken" };
            findings.add("V6", Some(step.id), || format!("{} {how} in {name}, key {key}", step.id));
        }
    }
}
