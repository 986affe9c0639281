//! V9: what an at-most-once subscription misses, it is told; what it is told, it misses.
//!
//! It is told in time: between the call of a publish that it missed and the first delivery of
//! anything that was published after it. Who got that without being told before believes that
//! nothing is missing.

use super::super::Promise;
use super::super::history::Id;
use super::super::index::{Index, Published, Subscription};
use super::super::report::Findings;

pub(super) fn check(index: &Index, promise: &Promise, findings: &mut Findings<'_>) {
    for (name, subscription) in index.subscriptions.iter().filter(|(_, s)| s.lossy) {
        let missed = missed(index, subscription);
        let later = Later::of(index, subscription);
        for (id, message, confirmed) in &missed {
            let until = later.first_delivery(*confirmed);
            let next = subscription.gaps.partition_point(|(at, _)| *at < message.invoked);
            if subscription.gaps.get(next).is_none_or(|(at, _)| *at > until) {
                findings.add("V9", Some(*id), || format!("{name} missed {id} and was not told"));
            }
        }
        // A gap that did not say how many covers any number.
        let told = subscription.gaps.iter().map(|(_, missed)| *missed).sum::<Option<u64>>();
        let (missing, Some(told)) = (missed.len() as u64, told) else { continue };
        if told < missing || told > missing + promise.gap_slack {
            findings.add("V9", None, || format!("{name} missed {missing} and was told of {told}"));
        }
    }
}

/// What was confirmed and never came to a subscription, and when it was confirmed.
fn missed<'a>(index: &'a Index, of: &Subscription) -> Vec<(Id, &'a Published, u64)> {
    let came = |id: &Id| of.stories.get(id).is_some_and(|story| !story.deliveries.is_empty());
    let messages = index.messages.iter().filter(|(id, message)| of.expects(message) && !came(id));
    messages.filter_map(|(id, message)| Some((*id, message, message.confirmed?))).collect()
}

/// For each call of a publish that was delivered, the first delivery of it or of any later one.
struct Later(Vec<(u64, u64)>);

impl Later {
    fn of(index: &Index, subscription: &Subscription) -> Self {
        let first = |(id, story): (&Id, &super::super::index::Story)| {
            Some((index.messages.get(id)?.invoked, story.deliveries.first()?.0))
        };
        let mut later: Vec<_> = subscription.stories.iter().filter_map(first).collect();
        later.sort_unstable();
        let mut earliest = u64::MAX;
        for (_, delivered) in later.iter_mut().rev() {
            earliest = earliest.min(*delivered);
            *delivered = earliest;
        }
        Self(later)
    }

    /// The first delivery of what was called after a time; the end of time if there is none.
    fn first_delivery(&self, after: u64) -> u64 {
        let place = self.0.partition_point(|(invoked, _)| *invoked <= after);
        self.0.get(place).map_or(u64::MAX, |(_, delivered)| *delivered)
    }
}

/// How many messages were missed in all at-most-once subscriptions.
pub(in super::super) fn count(index: &Index) -> u64 {
    let lossy = index.subscriptions.values().filter(|subscription| subscription.lossy);
    lossy.map(|subscription| missed(index, subscription).len() as u64).sum()
}
