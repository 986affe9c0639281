//! V8: a lane has one owner at a time. A handler under an earlier epoch does not begin once one has
//! begun under a later epoch, nobody shares an epoch, and what the earlier owner did since then does
//! not settle a message.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Promise;
use super::super::history::{Id, Tenure};
use super::super::index::{Index, Step, Subscription, Work};
use super::super::report::{Findings, HandOver};

pub(super) fn check(index: &Index, promise: &Promise, findings: &mut Findings<'_>) {
    for (name, subscription) in &index.subscriptions {
        let mut owners: BTreeMap<(u32, u32), u32> = BTreeMap::new();
        let mut newest: BTreeMap<u32, (u32, u64)> = BTreeMap::new();
        // What succeeded under a later epoch than its lane had left behind, and what did not.
        let (mut counted, mut stale) = (BTreeSet::new(), BTreeMap::new());
        for Work { at, id, tenure, step } in &subscription.work {
            let Tenure { lane, epoch, owner } = *tenure;
            let first = *owners.entry((lane, epoch)).or_insert(owner);
            if first != owner {
                let text = || format!("{name}: lane {lane} had two owners in epoch {epoch}");
                findings.add("V8", Some(*id), text);
            }
            let (current, since) = *newest.entry(lane).or_insert((epoch, *at));
            match step {
                Step::Began if epoch > current => drop(newest.insert(lane, (epoch, *at))),
                Step::Began if epoch < current && *at > since + promise.fencing_grace => {
                    let late = (at - since) / 1_000_000;
                    findings.add("V8", Some(*id), || {
                        format!(
                            "{name}: lane {lane} was taken over in epoch {current}, and {late} ms \
                             later a handler began in epoch {epoch}"
                        )
                    });
                }
                Step::Succeeded if epoch < current => drop(stale.insert(*id, (lane, epoch))),
                Step::Succeeded => drop(counted.insert(*id)),
                Step::Began | Step::Failed => {}
            }
        }
        for (id, (lane, epoch)) in stale {
            if !counted.contains(&id) && !is_settled_otherwise(subscription, id) {
                findings.add("V8", Some(id), || {
                    format!("{name}: {id} was settled in epoch {epoch}, which lane {lane} had left")
                });
            }
        }
    }
}

fn is_settled_otherwise(subscription: &Subscription, id: Id) -> bool {
    let fates = |story: &super::super::index::Story| !story.fates.is_empty();
    subscription.stories.get(&id).is_some_and(fates)
}

/// The longest time after a lane had a new owner at which the old one still worked on it.
pub(in super::super) fn overlap(index: &Index) -> u64 {
    let mut longest = 0;
    for subscription in index.subscriptions.values() {
        let mut newest: BTreeMap<u32, (u32, u64)> = BTreeMap::new();
        for Work { at, tenure, .. } in &subscription.work {
            let (epoch, since) = newest.entry(tenure.lane).or_insert((tenure.epoch, *at));
            if tenure.epoch > *epoch {
                (*epoch, *since) = (tenure.epoch, *at);
            } else if tenure.epoch < *epoch {
                longest = longest.max(at - *since);
            }
        }
    }
    longest
}

/// Every time a lane went from one owner to another.
pub(in super::super) fn hand_overs(index: &Index) -> Vec<HandOver> {
    let mut all = Vec::new();
    for subscription in index.subscriptions.values() {
        let mut last: BTreeMap<u32, (Tenure, u64)> = BTreeMap::new();
        let is_first = |id, at| {
            let story = subscription.stories.get(id);
            story.and_then(|story| story.deliveries.first()).is_some_and(|(first, _)| first == at)
        };
        for Work { at, id, tenure, .. } in &subscription.work {
            let known = last.entry(tenure.lane).or_insert((*tenure, *at));
            if tenure.epoch < known.0.epoch {
                continue;
            }
            if tenure.owner != known.0.owner {
                let message = index.messages.get(id).filter(|_| is_first(id, at));
                let ready = message.map(|message| message.invoked);
                all.push(HandOver { from: known.1, to: *at, ready });
            }
            *known = (*tenure, *at);
        }
    }
    all
}
