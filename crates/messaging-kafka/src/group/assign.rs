//! The assignor: balanced, sticky, deterministic, cooperative.
//!
//! A partition that anybody claims goes to nobody else in this generation. If it is to move, it is
//! left out of its owner's assignment, which asks it back; the rebalance after the hand-over gives
//! it to its new owner.

use std::collections::{BTreeMap, HashMap};

use super::assignment::Assignment;
use super::claim::Claim;
use super::{Partition, Partitions};

/// What each member may own. A member whose claim can't be read gets nothing, as does one whose
/// patterns are not the group's.
pub(crate) fn assign(
    claims: &BTreeMap<String, Option<Claim>>,
    known: &Partitions,
) -> BTreeMap<String, Assignment> {
    let theirs = patterns_of_group(claims);
    let owners = owners(claims);
    let all: Partitions = known.iter().chain(owners.keys().copied()).cloned().collect();
    let mut shares: Vec<Share<'_>> = Vec::new();
    for (id, claim) in claims {
        if let Some(claim) = claim.as_ref().filter(|claim| Some(&claim.patterns) == theirs) {
            let owns = |partition: &&Partition| owners.get(*partition) == Some(&id.as_str());
            shares.push(Share::new(id, claim.owned.iter().filter(owns)));
        }
    }
    keep(&mut shares, all.len());
    let kept: Partitions = shares.iter().flat_map(Share::partitions).cloned().collect();
    let mut withheld = false;
    let mut targets: Vec<(usize, &Partition)> = Vec::new();
    let mut open = all.iter().filter(|partition| !kept.contains(*partition)).collect::<Vec<_>>();
    // Those that are free come first, so that who waits for a hand-over waits for as little as can be.
    open.sort_by_key(|partition| owners.contains_key(*partition));
    let mut loads = Loads::default();
    for partition in open {
        let Some(at) = loads.least(&shares, partition) else { break };
        let Some(share) = shares.get_mut(at) else { break };
        share.add(partition);
        loads.add(at);
        match owners.get(partition) {
            Some(owner) if *owner != share.member => {
                withheld = true;
                targets.push((at, partition));
            }
            _ => {}
        }
    }
    for (at, partition) in targets {
        if let Some(share) = shares.get_mut(at) {
            share.remove(partition);
        }
    }
    let mut assignments: BTreeMap<String, Assignment> = BTreeMap::new();
    for share in &shares {
        let partitions = share.partitions().cloned().collect();
        let assignment = Assignment { partitions, moving: withheld, theirs: None };
        assignments.insert(share.member.to_owned(), assignment);
    }
    for (id, claim) in claims {
        assignments.entry(id.clone()).or_insert_with(|| match claim {
            Some(claim) if claim.patterns.is_empty() => {
                Assignment { moving: withheld, ..Assignment::default() }
            }
            _ => {
                let theirs = Some(theirs.cloned().unwrap_or_default());
                Assignment { theirs, ..Assignment::default() }
            }
        });
    }
    assignments
}

/// The patterns of whoever was assigned something last; among equals what most present, and of
/// those the first.
fn patterns_of_group(claims: &BTreeMap<String, Option<Claim>>) -> Option<&Vec<String>> {
    let mut votes: BTreeMap<&Vec<String>, (i32, usize)> = BTreeMap::new();
    for claim in claims.values().flatten().filter(|claim| !claim.patterns.is_empty()) {
        let (generation, count) = votes.entry(&claim.patterns).or_insert((-1, 0));
        *generation = claim.generation.max(*generation);
        *count += 1;
    }
    // The last of equal maxima wins, so the order is turned round.
    votes.into_iter().rev().max_by_key(|(_, vote)| *vote).map(|(patterns, _)| patterns)
}

/// Who holds what. Of two claims to one partition, the one of the later generation stands.
fn owners(claims: &BTreeMap<String, Option<Claim>>) -> HashMap<&Partition, &str> {
    let mut owners: HashMap<&Partition, (i32, &str)> = HashMap::new();
    for (id, claim) in claims {
        let Some(claim) = claim else { continue };
        for partition in claim.held() {
            let owner = owners.entry(partition).or_insert((claim.generation, id));
            if claim.generation > owner.0 {
                *owner = (claim.generation, id);
            }
        }
    }
    owners.into_iter().map(|(partition, (_, id))| (partition, id)).collect()
}

/// Cuts every share to what is balanced, and moves as little as can be: who has most may keep one
/// more where the number does not divide.
fn keep(shares: &mut [Share<'_>], partitions: usize) {
    let Some(quota) = partitions.checked_div(shares.len()) else { return };
    let mut extra = partitions % shares.len();
    let mut by_size: Vec<&mut Share<'_>> = shares.iter_mut().collect();
    by_size.sort_by(|a, b| b.count.cmp(&a.count).then(a.member.cmp(b.member)));
    for share in by_size {
        let mut most = quota;
        if extra > 0 && share.count > quota {
            extra -= 1;
            most += 1;
        }
        while share.count > most {
            share.drop_one();
        }
    }
}

/// How much each member has, of everything and of the topic at hand: looked up once a topic.
#[derive(Default)]
struct Loads<'a> {
    topic: &'a str,
    loads: Vec<(usize, usize)>,
}

impl<'a> Loads<'a> {
    /// Who has least, of those who has least of the topic, and of those the first.
    fn least(&mut self, shares: &[Share<'_>], partition: &'a Partition) -> Option<usize> {
        if *self.topic != *partition.topic || self.loads.is_empty() {
            self.topic = &partition.topic;
            let load = |share: &Share<'_>| (share.count, share.of_topic(&partition.topic));
            self.loads = shares.iter().map(load).collect();
        }
        self.loads.iter().zip(0..).min().map(|(_, at)| at)
    }

    fn add(&mut self, at: usize) {
        if let Some((count, of_topic)) = self.loads.get_mut(at) {
            *count += 1;
            *of_topic += 1;
        }
    }
}

/// What one member has so far.
struct Share<'a> {
    member: &'a str,
    topics: BTreeMap<&'a str, std::collections::BTreeSet<&'a Partition>>,
    count: usize,
}

impl<'a> Share<'a> {
    fn new(member: &'a str, owned: impl Iterator<Item = &'a Partition>) -> Self {
        let mut share = Self { member, topics: BTreeMap::new(), count: 0 };
        owned.for_each(|partition| share.add(partition));
        share
    }

    fn add(&mut self, partition: &'a Partition) {
        self.count +=
            usize::from(self.topics.entry(&partition.topic).or_default().insert(partition));
    }

    fn remove(&mut self, partition: &Partition) {
        if let Some(topic) = self.topics.get_mut(&*partition.topic) {
            self.count -= usize::from(topic.remove(partition));
        }
    }

    /// Gives up the last partition of the topic that it has most of.
    fn drop_one(&mut self) {
        let most = self.topics.values_mut().max_by_key(|partitions| partitions.len());
        let dropped = most.and_then(std::collections::BTreeSet::pop_last);
        self.count -= usize::from(dropped.is_some());
    }

    fn of_topic(&self, topic: &str) -> usize {
        self.topics.get(topic).map_or(0, std::collections::BTreeSet::len)
    }

    fn partitions(&self) -> impl Iterator<Item = &'a Partition> {
        self.topics.values().flatten().copied()
    }
}

#[cfg(test)]
mod tests;
