//! V7: what is handled again has a reason: it was given back, published again, or a fault was on.

use super::super::Promise;
use super::super::index::{Index, Story};
use super::super::report::Findings;

pub(super) fn check(index: &Index, promise: &Promise, findings: &mut Findings<'_>) {
    let window = |at: u64| {
        index.faults.iter().position(|fault| {
            let ended = fault.ended.unwrap_or(u64::MAX).saturating_add(promise.settling);
            (fault.began..=ended).contains(&at)
        })
    };
    for (name, subscription) in &index.subscriptions {
        let mut of_fault = vec![0_u64; index.faults.len()];
        for (id, story) in &subscription.stories {
            // Each repeated publish may have put another copy there.
            let calls = index.messages.get(id).map_or(0, |message| message.calls);
            let mut copies = calls.saturating_sub(1);
            for again in again_without_giving_back(story) {
                if copies > 0 {
                    copies -= 1;
                    continue;
                }
                let counter = window(again).and_then(|fault| of_fault.get_mut(fault));
                let explained = counter.is_some_and(|count| {
                    *count += 1;
                    *count <= promise.duplicates_per_fault
                });
                if !explained {
                    findings
                        .add("V7", Some(*id), || format!("{name} handled {id} again at {again}"));
                }
            }
        }
    }
}

/// When it was handled again, though it had not been given back since the time before.
fn again_without_giving_back(story: &Story) -> impl Iterator<Item = u64> {
    let pairs = story.successes.iter().zip(story.successes.iter().skip(1));
    pairs.filter_map(|(before, again)| {
        let back = story.given_back.partition_point(|at| at <= before);
        let given_back = story.given_back.get(back).is_some_and(|at| at <= again);
        (!given_back).then_some(*again)
    })
}
