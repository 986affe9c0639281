//! V10: every call ends by its deadline, work goes on after a fault, and nobody sleeps over waiting
//! messages.

use super::super::Promise;
use super::super::index::{Fault, Index, Subscription};
use super::super::report::{Findings, Recovery};

pub(super) fn check(index: &Index, promise: &Promise, findings: &mut Findings<'_>) {
    check_calls(index, promise, findings);
    for (fault, recovery) in index.faults.iter().zip(recoveries(index)) {
        check_recovery(index, promise, fault, &recovery, findings);
    }
    for (name, subscription) in index.subscriptions.iter().filter(|(_, s)| !s.lossy) {
        for (from, to) in silences(index, subscription, promise.silence) {
            let text = || format!("{name} was silent from {from} to {to}, though messages waited");
            findings.add("V10", None, text);
        }
    }
}

fn check_calls(index: &Index, promise: &Promise, findings: &mut Findings<'_>) {
    for (id, message) in &index.messages {
        let waiting = message.open.map_or(0, |called| index.end.saturating_sub(called));
        if waiting > promise.deadline {
            findings.add("V10", Some(*id), || format!("a publish of {id} never returned"));
        } else if message.longest > promise.deadline {
            let text = || format!("a publish of {id} took {} ms", message.longest / 1_000_000);
            findings.add("V10", Some(*id), text);
        }
    }
}

/// What came first after each fault, in the order in which they began.
pub(in super::super) fn recoveries(index: &Index) -> Vec<Recovery> {
    index
        .faults
        .iter()
        .map(|fault| {
            let since = fault.ended.unwrap_or(u64::MAX);
            let delivered = index.subscriptions.values();
            let delivered = delivered.map(|s| first_since(&s.delivered, since));
            Recovery {
                fault: fault.name.clone(),
                began: fault.began,
                ended: fault.ended,
                confirmed: first_since(&index.confirmations, since),
                // The slowest subscription counts.
                delivered: delivered
                    .collect::<Option<Vec<_>>>()
                    .and_then(|all| all.into_iter().max()),
            }
        })
        .collect()
}

fn check_recovery(
    index: &Index,
    promise: &Promise,
    fault: &Fault,
    recovery: &Recovery,
    findings: &mut Findings<'_>,
) {
    let Some(ended) = fault.ended else { return };
    let until = ended.saturating_add(promise.recovery);
    // What was called or confirmed in the first half had time enough.
    let is_early = |first: Option<u64>| first.is_some_and(|at| at - ended <= promise.recovery / 2);
    let is_disturbed = || {
        let mut others = index.faults.iter().filter(|other| !std::ptr::eq(*other, fault));
        others.any(|other| other.meets(ended, until))
    };
    if until > index.end || is_disturbed() {
        return;
    }
    let name = &fault.name;
    let is_late = |first: Option<u64>| first.is_none_or(|at| at - ended > promise.recovery);
    if is_early(first_since(&index.calls, ended)) && is_late(recovery.confirmed) {
        findings.add("V10", None, || format!("after {name} at {ended} nothing was confirmed"));
    }
    if is_early(recovery.confirmed) && is_late(recovery.delivered) {
        findings.add("V10", None, || format!("after {name} at {ended} nothing was delivered"));
    }
}

/// How long after `since` the first of `times` is; they grow.
fn first_since(times: &[u64], since: u64) -> Option<u64> {
    times.get(times.partition_point(|at| *at < since)).copied()
}

/// What happens to the messages that wait for a subscription.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// One more waits.
    Confirmed,
    /// One less.
    Arrived,
    /// One comes again.
    Repeated,
    End,
}

/// The times without a delivery while messages waited, if they are longer than `most` without the
/// time of faults.
fn silences(index: &Index, subscription: &Subscription, most: u64) -> Vec<(u64, u64)> {
    if most == u64::MAX {
        return Vec::new();
    }
    let mut found = Vec::new();
    let (mut waiting, mut since) = (0_i64, 0);
    for (at, step) in steps(index, subscription) {
        let is_long = waiting > 0 && at.saturating_sub(since) > most;
        if is_long && at - since - index.faulty_time(since, at) > most {
            found.push((since, at));
        }
        match step {
            Step::Confirmed => {
                if waiting == 0 {
                    since = at;
                }
                waiting += 1;
            }
            Step::Arrived => (waiting, since) = (waiting - 1, at),
            Step::Repeated | Step::End => since = at,
        }
    }
    found
}

fn steps(index: &Index, subscription: &Subscription) -> Vec<(u64, Step)> {
    let mut steps: Vec<_> = subscription.delivered.iter().map(|at| (*at, Step::Repeated)).collect();
    for (id, message) in index.messages.iter().filter(|(_, m)| subscription.expects(m)) {
        let Some(confirmed) = message.confirmed else { continue };
        let story = subscription.stories.get(id);
        let arrived = story.and_then(|story| story.deliveries.first()).map(|(at, _)| *at);
        let ended_otherwise = arrived.is_none() && story.is_some_and(|s| !s.fates.is_empty());
        if ended_otherwise || arrived.is_some_and(|at| at <= confirmed) {
            continue;
        }
        steps.push((confirmed, Step::Confirmed));
        steps.extend(arrived.map(|at| (at, Step::Arrived)));
    }
    steps.push((index.end, Step::End));
    steps.sort_unstable();
    steps
}
