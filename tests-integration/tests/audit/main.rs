//! The auditor finds each anomaly, and nothing where there is none.

mod naive;
mod running;
mod story;

use tests_integration::audit::{
    End, Event, Fate, HandOver, History, Outcome, Promise, Verdict, What, audit,
};

use crate::story::{SUB, Story, consumer, id};

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
    let subscription = SUB.to_owned();
    changed.add(What::Delivered { subscription, id: id(1), digest: 99, tenure: None });
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
    assert_eq!(audit(&History(story.0.clone()), &promise).count("V7"), 1);
    // A second fault explains one more.
    story.fault(true).fault(false);
    story.0.rotate_right(2);
    story.0.iter_mut().zip(0..).for_each(|(event, at)| event.at = at);
    assert_eq!(audit(&History(story.0), &promise).count("V7"), 0);
}

#[test]
fn work_of_an_owner_who_was_replaced_is_found() {
    let two = |mut story: Story| {
        story.publish(1, Outcome::Ok).publish(2, Outcome::Ok);
        story
    };
    // In order, from one owner to the next.
    two(consumer()).begin(1, 1, 7).succeed(1, 1, 7).begin(2, 2, 8).succeed(2, 2, 8).holds();
    // The old one begins another after it was replaced, even where the new one does it again.
    let mut zombie = two(consumer());
    zombie.begin(1, 2, 8).succeed(1, 2, 8).begin(2, 1, 7).begin(2, 2, 8).succeed(2, 2, 8);
    zombie.breaks(&["V8"]);
    let promise = Promise { fencing_grace: 2, ..Promise::default() };
    assert_eq!(audit(&History(zombie.0), &promise).count("V8"), 0);
    // Two in one epoch.
    two(consumer()).begin(1, 1, 7).succeed(1, 1, 7).begin(2, 1, 8).succeed(2, 1, 8).breaks(&["V8"]);
    // What the old one began before it was replaced is no settlement any more.
    let taken_over = |mut story: Story| {
        story.begin(1, 1, 7).begin(2, 2, 8).succeed(2, 2, 8).succeed(1, 1, 7);
        story
    };
    taken_over(two(consumer())).breaks(&["V8"]);
    let mut again = taken_over(two(consumer()));
    again.fault(true).begin(1, 2, 8).succeed(1, 2, 8).fault(false).holds();
    let report = audit(&History(again.0), &Promise::default());
    assert_eq!((report.overlap, report.hand_overs.len()), (2, 1));
}

#[test]
fn a_hand_over_lasts_while_there_is_something_to_do() {
    let mut story = consumer();
    story.publish(1, Outcome::Ok).begin(1, 1, 7).succeed(1, 1, 7);
    // Called, confirmed, begun.
    story.publish(2, Outcome::Ok).begin(2, 2, 8).succeed(2, 2, 8);
    // Nobody knows since when a retry is due.
    story.begin(1, 3, 9).succeed(1, 3, 9);
    let report = audit(&History(story.0), &Promise::default());
    let times: Vec<_> = report.hand_overs.iter().map(HandOver::time).collect();
    assert_eq!(times, [Some(2), None]);
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
fn a_loss_is_told_before_anything_later_comes() {
    let lossy = || Story::with(true, false);
    let two = |mut story: Story| {
        story.publish(1, Outcome::Ok).publish(2, Outcome::Ok);
        story
    };
    two(lossy()).gap(None).deliver(2).holds();
    two(lossy()).deliver(2).gap(None).breaks(&["V9"]);
    // Told before it was published: that was another loss.
    lossy().gap(None).publish(1, Outcome::Ok).breaks(&["V9"]);
    // One gap covers all that were missed until then, and none that are missed later.
    two(lossy()).gap(None).publish(3, Outcome::Ok).deliver(3).holds();
    two(lossy())
        .gap(None)
        .publish(3, Outcome::Ok)
        .publish(4, Outcome::Ok)
        .deliver(4)
        .breaks(&["V9"]);
    let mut report = two(lossy());
    let report = audit(&History(report.gap(None).deliver(2).0.clone()), &Promise::default());
    assert_eq!((report.missed, report.gaps), (1, 1));
}

#[test]
fn a_loss_is_put_down_to_the_fault_that_came_next() {
    let mut story = consumer();
    story.fault(true).fault(false).publish(1, Outcome::Ok).fault(true).publish(2, Outcome::Ok);
    story.fault(false).publish(3, Outcome::Ok);
    let report = audit(&History(story.0), &Promise::default());
    let by: Vec<_> = report.lost_by.into_iter().collect();
    assert_eq!(by, [("kill".to_owned(), 2), ("no fault".to_owned(), 1)]);
}

#[test]
fn a_message_that_ended_in_two_ways_is_found() {
    consumer().publish(1, Outcome::Ok).handle(1).fate(1, Fate::Parked).breaks(&["V12"]);
    let mut twice = consumer();
    twice.publish(1, Outcome::Ok).fate(1, Fate::Parked).fate(1, Fate::Expired).breaks(&["V12"]);
    let parked_twice = |mut story: Story| {
        story.publish(1, Outcome::Ok).fate(1, Fate::Parked).fate(1, Fate::Parked);
        story
    };
    parked_twice(consumer()).breaks(&["V12"]);
    // A copy is repeated until it is confirmed.
    parked_twice(consumer()).fault(true).fault(false).holds();
    parked_twice(consumer()).handle(1).fault(true).fault(false).breaks(&["V12"]);
}

#[test]
fn what_has_not_arrived_yet_is_not_lost_and_the_run_is_unknown() {
    let mut story = consumer();
    story.publish(1, Outcome::Ok).add(What::Draining);
    assert_eq!(story.judge(), (Verdict::Unknown, Vec::new()));
    story.add(What::Drained).breaks(&["V1"]);
}

#[test]
fn a_report_counts_duplicates_order_and_recovery() {
    let mut story = consumer();
    story.publish(1, Outcome::Ok).handle(1).fault(true).fault(false);
    story.publish(2, Outcome::Ok).handle(2).handle(1);
    let report = audit(&History(story.0), &Promise::default());
    assert_eq!((report.duplicates, report.order_checked), (1, 1));
    assert_eq!(report.recoveries[0].time(), Some(3));
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
