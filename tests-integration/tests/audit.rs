//! The auditor finds each anomaly, and nothing where there is none.

use proptest::prelude::*;
use tests_integration::audit::{
    End, Event, Fate, History, Id, Outcome, Promise, Verdict, What, audit,
};

/// A history under construction; each event has the next tick of the clock.
#[derive(Default)]
struct Story(Vec<Event>);

const SUB: &str = "billing";

const fn id(sequence: u64) -> Id {
    Id { producer: 1, sequence }
}

impl Story {
    fn with(lossy: bool, ordered: bool) -> Self {
        let mut story = Self::default();
        let patterns = vec!["tasks.#".to_owned()];
        story.add(What::Subscribed { subscription: SUB.to_owned(), patterns, lossy, ordered });
        story
    }

    fn add(&mut self, what: What) -> &mut Self {
        self.0.push(Event { at: self.0.len() as u64, what });
        self
    }

    fn publish(&mut self, n: u64, outcome: Outcome) -> &mut Self {
        self.call(n).add(What::Published { id: id(n), outcome })
    }

    fn call(&mut self, n: u64) -> &mut Self {
        let (subject, key) = ("tasks.x".to_owned(), Some("k".to_owned()));
        self.add(What::Publishing { id: id(n), subject, key, digest: n })
    }

    fn deliver(&mut self, n: u64) -> &mut Self {
        self.add(What::Delivered { subscription: SUB.to_owned(), id: id(n), digest: n })
    }

    fn end(&mut self, n: u64, end: End) -> &mut Self {
        self.add(What::Handled { subscription: SUB.to_owned(), id: id(n), end })
    }

    fn handle(&mut self, n: u64) -> &mut Self {
        self.deliver(n).end(n, End::Ok).ack(n)
    }

    fn ack(&mut self, n: u64) -> &mut Self {
        self.add(What::Acking { subscription: SUB.to_owned(), id: id(n) })
    }

    fn give_back(&mut self, n: u64) -> &mut Self {
        self.add(What::GivenBack { subscription: SUB.to_owned(), id: id(n) })
    }

    fn fate(&mut self, n: u64, fate: Fate) -> &mut Self {
        self.add(What::Ended { subscription: SUB.to_owned(), id: id(n), fate })
    }

    fn gap(&mut self, missed: Option<u64>) -> &mut Self {
        self.add(What::Gap { subscription: SUB.to_owned(), missed })
    }

    fn fault(&mut self, begins: bool) -> &mut Self {
        let fault = "kill".to_owned();
        self.add(if begins { What::FaultBegan { fault } } else { What::FaultEnded { fault } })
    }

    /// The verdict and the rules that were broken.
    fn judge(&self) -> (Verdict, Vec<&'static str>) {
        let promise = Promise { settling: 0, ..Promise::default() };
        let report = audit(&History(self.0.clone()), &promise);
        assert_eq!(report.findings.len() as u64, report.counts.values().sum::<u64>());
        (report.verdict, report.counts.keys().copied().collect())
    }

    fn breaks(&self, rules: &[&str]) {
        assert_eq!(self.judge(), (Verdict::Invalid, rules.to_vec()));
    }

    fn holds(&self) {
        assert_eq!(self.judge(), (Verdict::Valid, Vec::new()));
    }
}

fn consumer() -> Story {
    Story::with(false, true)
}

#[test]
fn a_clean_run_is_valid() {
    let mut story = consumer();
    for n in 1..=3 {
        story.publish(n, Outcome::Ok).handle(n);
    }
    story.holds();
}

#[test]
fn a_lost_message_is_found() {
    consumer().publish(1, Outcome::Ok).breaks(&["V1"]);
    consumer().publish(1, Outcome::Ok).deliver(1).end(1, End::Failed).breaks(&["V1"]);
    consumer().publish(1, Outcome::Ok).fate(1, Fate::Parked).holds();
}

#[test]
fn nobody_loses_what_came_before_or_matches_not() {
    let mut early = Story::default();
    early.publish(1, Outcome::Ok);
    early.0.extend(consumer().0.into_iter().map(|event| Event { at: 9, ..event }));
    early.holds();
    let mut other = consumer();
    let subject = "events.x".to_owned();
    other.add(What::Publishing { id: id(1), subject, key: None, digest: 1 });
    other.add(What::Published { id: id(1), outcome: Outcome::Ok }).holds();
}

#[test]
fn a_premature_ack_is_found() {
    consumer().publish(1, Outcome::Ok).deliver(1).ack(1).end(1, End::Ok).breaks(&["V2"]);
    consumer().publish(1, Outcome::Ok).deliver(1).ack(1).breaks(&["V1", "V2"]);
}

#[test]
fn a_phantom_and_a_changed_body_are_found() {
    consumer().deliver(7).breaks(&["V3"]);
    let mut changed = consumer();
    changed.publish(1, Outcome::Ok);
    changed.add(What::Delivered { subscription: SUB.to_owned(), id: id(1), digest: 99 });
    changed.end(1, End::Ok).breaks(&["V3"]);
}

#[test]
fn a_ghost_of_a_failure_is_found() {
    consumer().publish(1, Outcome::Failed).handle(1).breaks(&["V4"]);
    consumer().publish(1, Outcome::Failed).publish(1, Outcome::Ok).handle(1).holds();
}

#[test]
fn unknown_publishes_may_come_or_not_and_are_counted() {
    let mut story = consumer();
    story.publish(1, Outcome::Unknown).handle(1).publish(2, Outcome::Unknown).call(3);
    story.holds();
    let report = audit(&History(story.0), &Promise::default());
    assert_eq!((report.recovered, report.vanished), (1, 2));
}

#[test]
fn overtaking_and_skipping_are_found_in_ordered_subscriptions_only() {
    let overtaken = |mut story: Story| {
        story.publish(1, Outcome::Ok).publish(2, Outcome::Ok).handle(2).handle(1);
        story
    };
    overtaken(consumer()).breaks(&["V6"]);
    overtaken(Story::with(false, false)).holds();
    consumer().publish(1, Outcome::Ok).publish(2, Outcome::Ok).handle(2).breaks(&["V1", "V6"]);
    // What overlapped has no order.
    let mut overlapping = consumer();
    overlapping.call(1).call(2);
    for n in [1, 2] {
        overlapping.add(What::Published { id: id(n), outcome: Outcome::Ok });
    }
    overlapping.handle(2).handle(1).holds();
}

#[test]
fn a_duplicate_needs_a_reason() {
    consumer().publish(1, Outcome::Ok).handle(1).handle(1).breaks(&["V7"]);
    consumer().publish(1, Outcome::Ok).handle(1).give_back(1).handle(1).holds();
    consumer().publish(1, Outcome::Unknown).publish(1, Outcome::Ok).handle(1).handle(1).holds();
    consumer().publish(1, Outcome::Ok).handle(1).fault(true).handle(1).fault(false).holds();
    consumer().publish(1, Outcome::Ok).fault(true).fault(false).handle(1).handle(1).breaks(&["V7"]);
}

#[test]
fn a_fault_explains_only_so_many_duplicates() {
    let mut story = consumer();
    story.publish(1, Outcome::Ok).publish(2, Outcome::Ok).handle(1).handle(2);
    story.fault(true).handle(1).handle(2).fault(false);
    let promise = Promise { duplicates_per_fault: 1, ..Promise::default() };
    assert_eq!(audit(&History(story.0), &promise).count("V7"), 1);
}

#[test]
fn losses_that_are_not_told_and_told_losses_that_are_none_are_found() {
    let lossy = || Story::with(true, false);
    lossy().publish(1, Outcome::Ok).breaks(&["V9"]);
    lossy().publish(1, Outcome::Ok).deliver(1).gap(Some(1)).breaks(&["V9"]);
    lossy().publish(1, Outcome::Ok).gap(Some(1)).holds();
    lossy().publish(1, Outcome::Ok).publish(2, Outcome::Ok).gap(None).deliver(2).holds();
}

#[test]
fn a_message_that_ended_in_two_ways_is_found() {
    consumer().publish(1, Outcome::Ok).handle(1).fate(1, Fate::Parked).breaks(&["V12"]);
    let mut twice = consumer();
    twice.publish(1, Outcome::Ok).fate(1, Fate::Parked).fate(1, Fate::Expired).breaks(&["V12"]);
}

#[test]
fn a_run_that_was_not_ended_is_unknown_and_never_valid() {
    let mut story = consumer();
    story.publish(1, Outcome::Ok).handle(1).fault(true);
    assert_eq!(story.judge().0, Verdict::Unknown);
    assert_eq!(Story::default().judge().0, Verdict::Unknown);
}

#[test]
fn a_history_survives_json_lines_and_a_report_shows_the_timeline() {
    let mut story = consumer();
    story.publish(1, Outcome::Unknown).handle(1).give_back(1).fate(1, Fate::Dropped).gap(None);
    story.fault(true).fault(false);
    let history = History(story.0);
    let lines = history.to_json_lines().unwrap();
    assert_eq!(History::from_json_lines(&lines).unwrap(), history);
    let mut story = consumer();
    let report = audit(&History(story.publish(1, Outcome::Ok).0.clone()), &Promise::default());
    assert!(report.to_string().contains("1·1 was lost to billing"), "{report}");
    assert_eq!(report.findings[0].timeline.len(), 2);
}

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
