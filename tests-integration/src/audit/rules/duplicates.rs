//! V7: what is handled again has a reason: it was given back, published again, or a fault was on.

use super::super::Promise;
use super::super::history::Id;
use super::super::index::{Index, Story, Subscription};
use super::super::report::Findings;

pub(super) fn check(index: &Index, promise: &Promise, findings: &mut Findings<'_>) {
    for (name, subscription) in &index.subscriptions {
        let mut of_fault = vec![0_u64; index.faults.len()];
        for (again, id) in unexplained(index, subscription) {
            // The window that closes first, among those that explain more.
            let windows = index.faults.iter().zip(&mut of_fault);
            let mut open = windows.filter(|(fault, count)| {
                let ended = fault.ended.unwrap_or(u64::MAX).saturating_add(promise.settling);
                (fault.began..=ended).contains(&again) && **count < promise.duplicates_per_fault
            });
            match open.next() {
                Some((_, count)) => *count += 1,
                None => {
                    findings.add("V7", Some(id), || format!("{name} handled {id} again at {again}"))
                }
            }
        }
    }
}

/// How often anything was handled again without having been given back.
pub(in super::super) fn count(index: &Index) -> u64 {
    let stories = index.subscriptions.values().flat_map(|s| s.stories.values());
    stories.map(|story| again_without_giving_back(story).count() as u64).sum()
}

/// What was handled again and is no copy of a repeated publish, in the order of time.
fn unexplained(index: &Index, subscription: &Subscription) -> Vec<(u64, Id)> {
    let mut all = Vec::new();
    for (id, story) in &subscription.stories {
        // Each repeated publish may have put another copy there.
        let calls = index.messages.get(id).map_or(0, |message| message.calls);
        let copies = usize::try_from(calls.saturating_sub(1)).unwrap_or(usize::MAX);
        all.extend(again_without_giving_back(story).skip(copies).map(|again| (again, *id)));
    }
    all.sort_unstable();
    all
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
