//! The auditor agrees with one that takes its time.

use proptest::prelude::*;
use tests_integration::audit::{End, Event, Fate, History, Outcome, Promise, What, audit};

use crate::story::{consumer, id};

/// V1, V6 and V7 as their sentences say it, message by message and pair by pair.
#[expect(clippy::indexing_slicing, reason = "a message that was confirmed was called")]
fn naive(events: &[Event]) -> [u64; 3] {
    let at = |wanted: &dyn Fn(&What) -> bool| -> Vec<u64> {
        events.iter().filter(|event| wanted(&event.what)).map(|event| event.at).collect()
    };
    let calls = |n| at(&move |w| matches!(w, What::Publishing { id: i, .. } if *i == id(n)));
    let oks = |n| {
        at(&move |w| matches!(w, What::Published { id: i, outcome: Outcome::Ok } if *i == id(n)))
    };
    let deliveries = |n| at(&move |w| matches!(w, What::Delivered { id: i, .. } if *i == id(n)));
    let successes =
        |n| at(&move |w| matches!(w, What::Handled { id: i, end: End::Ok, .. } if *i == id(n)));
    let backs = |n| at(&move |w| matches!(w, What::GivenBack { id: i, .. } if *i == id(n)));
    let fates = |n| at(&move |w| matches!(w, What::Ended { id: i, .. } if *i == id(n)));
    let is_faulty = |when: u64| {
        let mut on = false;
        for event in events.iter().filter(|event| event.at <= when) {
            match event.what {
                What::FaultBegan { .. } => on = true,
                What::FaultEnded { .. } if event.at < when => on = false,
                _ => {}
            }
        }
        on
    };
    let ordered = |n: u64| {
        let ended_otherwise = deliveries(n).is_empty() && !fates(n).is_empty();
        !oks(n).is_empty() && !ended_otherwise
    };
    let mut counts = [0; 3];
    for n in 0..6 {
        if !oks(n).is_empty() && successes(n).is_empty() && fates(n).is_empty() {
            counts[0] += 1;
        }
        let first = |n| deliveries(n).first().copied().unwrap_or(u64::MAX);
        let overtakes = |m: u64| ordered(m) && calls(m)[0] > oks(n)[0] && first(m) < first(n);
        if ordered(n) && (0..6).any(overtakes) {
            counts[1] += 1;
        }
        let mut copies = calls(n).len().saturating_sub(1);
        for pair in successes(n).windows(2) {
            if backs(n).iter().any(|back| pair[0] < *back && *back < pair[1]) {
                continue;
            }
            if copies > 0 {
                copies -= 1;
            } else if !is_faulty(pair[1]) {
                counts[2] += 1;
            }
        }
    }
    counts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_auditor_agrees_with_a_naive_one(
        steps in prop::collection::vec((0_u64..6, 0_u8..10), 0..60),
    ) {
        let mut story = consumer();
        let mut fault = false;
        for (n, step) in steps {
            match step {
                0 => story.publish(n, Outcome::Ok),
                1 => story.publish(n, Outcome::Unknown),
                2 => story.call(n),
                3 => story.add(What::Published { id: id(n), outcome: Outcome::Ok }),
                4 | 5 => story.handle(n),
                6 => story.deliver(n),
                7 => story.give_back(n),
                8 => story.fate(n, Fate::Parked),
                _ => { fault = !fault; story.fault(fault) }
            };
        }
        // A return without a call is no history.
        let mut called = std::collections::HashSet::new();
        story.0.retain(|event| match &event.what {
            What::Publishing { id, .. } => { called.insert(*id); true }
            What::Published { id, .. } => called.contains(id),
            _ => true,
        });
        let wanted = naive(&story.0);
        let promise = Promise { settling: 0, ..Promise::default() };
        let report = audit(&History(story.0), &promise);
        prop_assert_eq!(["V1", "V6", "V7"].map(|rule| report.count(rule)), wanted);
    }
}
