use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;

fn known(topics: &[(&str, i32)]) -> Partitions {
    let each = |(topic, count): &(&str, i32)| {
        let topic = (*topic).to_owned();
        (0..*count).map(move |number| Partition::new(topic.as_str(), number))
    };
    topics.iter().flat_map(each).collect()
}

fn member(generation: i32, owned: &[&Partition]) -> Option<Claim> {
    let owned = owned.iter().map(|partition| (*partition).clone()).collect();
    Some(Claim { patterns: vec!["#".into()], generation, owned, ..Claim::default() })
}

/// Applies an assignment as members do that have nothing in hand; tells whether anything moved.
fn follow(
    claims: &mut BTreeMap<String, Option<Claim>>,
    known: &Partitions,
    generation: i32,
) -> bool {
    let mut moved = false;
    for (id, assignment) in assign(claims, known) {
        let claim = claims.get_mut(&id).unwrap().as_mut().unwrap();
        moved |= claim.owned != assignment.partitions || assignment.moving;
        claim.owned = assignment.partitions;
        claim.generation = generation;
    }
    moved
}

fn settle(claims: &mut BTreeMap<String, Option<Claim>>, known: &Partitions) {
    let mut rounds = 1..4;
    while follow(claims, known, rounds.next().expect("two rounds settle a change")) {}
}

fn group(members: usize) -> BTreeMap<String, Option<Claim>> {
    (0..members).map(|at| (format!("m{at:03}"), member(-1, &[]))).collect()
}

proptest! {
    #[test]
    fn every_partition_has_one_owner_and_the_shares_are_equal(
        members in 1..9_usize,
        counts in prop::collection::vec(0..9_i32, 1..4),
    ) {
        let topics: Vec<_> = ["a", "b", "c", "d"].into_iter().zip(counts).collect();
        let known = known(&topics);
        let mut claims = group(members);
        settle(&mut claims, &known);
        let owned: Vec<_> = claims.values().flatten().flat_map(|c| c.owned.clone()).collect();
        prop_assert_eq!(owned.len(), known.len());
        prop_assert_eq!(owned.into_iter().collect::<Partitions>(), known);
        let sizes = || claims.values().flatten().map(|claim| claim.owned.len());
        prop_assert!(sizes().max().unwrap() - sizes().min().unwrap() <= 1);
    }

    #[test]
    fn a_join_or_leave_moves_no_more_than_it_must(members in 1..9_usize, count in 1..40_i32, leaves: bool) {
        let known = known(&[("a", count), ("b", 3)]);
        let mut claims = group(members + usize::from(leaves));
        settle(&mut claims, &known);
        let before = claims.clone();
        if leaves {
            claims.remove("m000");
        } else {
            claims.insert("new".into(), member(-1, &[]));
        }
        settle(&mut claims, &known);
        let lost = |(id, claim): (&String, &Option<Claim>)| {
            let now = claims.get(id).map(|now| now.as_ref().unwrap().owned.clone());
            now.map_or(0, |now| claim.as_ref().unwrap().owned.difference(&now).count())
        };
        let moved: usize = before.iter().map(lost).sum();
        let must = if leaves { 0 } else { known.len() / claims.len() };
        prop_assert!(moved <= must, "{moved} moved of {} where {must} had to", known.len());
    }

    #[test]
    fn what_anybody_claims_is_given_to_nobody_else(
        splits in prop::collection::vec((0..4_usize, 0..3_u8), 12),
        joined in 0..3_usize,
    ) {
        let known = known(&[("a", 12)]);
        let mut claims = group(4 + joined);
        for (partition, (owner, how)) in known.iter().zip(splits) {
            let claim = claims.get_mut(&format!("m{owner:03}")).unwrap().as_mut().unwrap();
            match how {
                0 => drop(claim.owned.insert(partition.clone())),
                1 => drop(claim.leaving.insert(partition.clone())),
                _ => {}
            }
        }
        for (id, assignment) in assign(&claims, &known) {
            for (other, claim) in claims.iter().filter(|(other, _)| **other != id) {
                for held in claim.as_ref().unwrap().held() {
                    prop_assert!(!assignment.partitions.contains(held), "{held} of {other} to {id}");
                }
            }
        }
    }
}

#[test]
fn a_partition_moves_only_after_its_owner_claims_it_no_more() {
    let known = known(&[("a", 2)]);
    let all: Vec<_> = known.iter().collect();
    let mut claims =
        BTreeMap::from([("old".into(), member(1, &all)), ("new".into(), member(-1, &[]))]);
    let first = assign(&claims, &known);
    assert_eq!(first["old"].partitions.len(), 1);
    assert!(first["new"].partitions.is_empty());
    assert!(first["new"].moving);
    let old = claims.get_mut("old").unwrap().as_mut().unwrap();
    old.owned = first["old"].partitions.clone();
    old.leaving = &known - &old.owned;
    let waiting = assign(&claims, &known);
    assert!(waiting["new"].partitions.is_empty(), "it is still being handed over");
    claims.get_mut("old").unwrap().as_mut().unwrap().leaving.clear();
    let last = assign(&claims, &known);
    assert_eq!(last["new"].partitions.len(), 1);
    assert!(!last["new"].moving);
}

#[test]
fn who_is_asked_back_keeps_it_if_the_other_has_gone() {
    let known = known(&[("a", 2)]);
    let mut claims = BTreeMap::from([("old".into(), member(1, &[known.first().unwrap()]))]);
    let old = claims.get_mut("old").unwrap().as_mut().unwrap();
    old.leaving = [known.last().unwrap().clone()].into();
    assert_eq!(assign(&claims, &known)["old"].partitions, known);
}

#[test]
fn the_claim_of_the_later_generation_stands() {
    let known = known(&[("a", 1)]);
    let all: Vec<_> = known.iter().collect();
    let claims =
        BTreeMap::from([("a-zombie".into(), member(3, &all)), ("owner".into(), member(4, &all))]);
    let plan = assign(&claims, &known);
    assert!(plan["a-zombie"].partitions.is_empty());
    assert_eq!(plan["owner"].partitions, known);
}

#[test]
fn who_presents_other_patterns_gets_nothing_and_learns_the_groups() {
    let known = known(&[("a", 4)]);
    let other = Claim { patterns: vec!["a.*".into()], generation: -1, ..Claim::default() };
    let claims = BTreeMap::from([
        ("a".into(), Some(other)),
        ("garbage".into(), None),
        ("old".into(), member(1, &[])),
    ]);
    let plan = assign(&claims, &known);
    assert_eq!(plan["a"].theirs, Some(vec!["#".into()]));
    assert!(plan["garbage"].partitions.is_empty());
    assert_eq!(plan["old"].partitions, known);
}

#[test]
fn the_partitions_of_a_topic_are_spread() {
    let known = known(&[("hot", 4), ("x", 4)]);
    let mut claims = group(4);
    settle(&mut claims, &known);
    for claim in claims.values().flatten() {
        assert_eq!(claim.owned.iter().filter(|p| &*p.topic == "hot").count(), 1);
    }
}

#[test]
fn ten_thousand_partitions_and_five_hundred_members_take_less_than_a_second() {
    let known = known(&[("a", 9_000), ("b", 1_000)]);
    let mut claims = group(500);
    let began = Instant::now();
    follow(&mut claims, &known, 1);
    claims.insert("new".into(), member(-1, &[]));
    follow(&mut claims, &known, 2);
    // Two assignments, in an unoptimised build.
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[test]
fn a_member_about_to_leave_gets_nothing_and_keeps_what_it_has_in_hand_from_others() {
    let known: Partitions = (0..3).map(|number| Partition::new("t", number)).collect();
    let held = Partitions::from([Partition::new("t", 0)]);
    let leaves = Claim { generation: 4, leaving: held, ..Claim::default() };
    let claims = BTreeMap::from([("a".into(), Some(leaves)), ("b".into(), member(-1, &[]))]);
    let plan = assign(&claims, &known);
    assert_eq!(plan["a"], Assignment { moving: true, ..Assignment::default() });
    let rest = [Partition::new("t", 1), Partition::new("t", 2)];
    assert_eq!((&plan["b"].partitions, &plan["b"].theirs), (&rest.into(), &None));
}
