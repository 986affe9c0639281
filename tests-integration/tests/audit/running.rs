//! Rules about the run itself: liveness, resources, logs.

use tests_integration::audit::{Event, History, Outcome, Promise, What, audit};

use crate::story::{Story, consumer, id};

/// The rules broken under a promise.
fn broken(story: &Story, promise: &Promise) -> Vec<&'static str> {
    audit(&History(story.0.clone()), promise).counts.keys().copied().collect()
}

#[test]
fn a_call_that_takes_too_long_or_never_ends_is_found() {
    let promise = Promise { deadline: 3, ..Promise::default() };
    let mut story = consumer();
    story.publish(1, Outcome::Ok).handle(1);
    assert!(broken(&story, &promise).is_empty());
    let mut late = consumer();
    late.call(1).pass(3);
    late.add(What::Published { id: id(1), outcome: Outcome::Unknown });
    assert_eq!(broken(&late, &promise), ["V10"]);
    let mut never = consumer();
    never.call(1).pass(4);
    assert_eq!(broken(&never, &promise), ["V10"]);
}

#[test]
fn work_that_does_not_go_on_after_a_fault_is_found() {
    let promise = Promise { recovery: 8, ..Promise::default() };
    let after_fault = |goes_on: fn(&mut Story) -> &mut Story| {
        let mut story = consumer();
        story.publish(1, Outcome::Ok).handle(1).fault(true).fault(false);
        goes_on(&mut story);
        story.pass(9);
        broken(&story, &promise)
    };
    assert!(after_fault(|story| story).is_empty());
    assert!(after_fault(|story| story.publish(2, Outcome::Ok).handle(2)).is_empty());
    assert_eq!(after_fault(|story| story.publish(2, Outcome::Unknown)), ["V10"]);
    assert_eq!(after_fault(|story| story.publish(2, Outcome::Ok)), ["V1", "V10"]);
}

#[test]
fn silence_while_messages_wait_is_found_and_faults_excuse_it() {
    let promise = Promise { silence: 4, ..Promise::default() };
    let waiting = |meanwhile: fn(&mut Story) -> &mut Story| {
        let mut story = consumer();
        story.publish(1, Outcome::Ok);
        meanwhile(&mut story);
        story.pass(2);
        story.handle(1);
        broken(&story, &promise)
    };
    assert!(waiting(|story| story).is_empty());
    assert_eq!(waiting(|story| story.call(2).call(2)), ["V10"]);
    assert!(waiting(|story| story.fault(true).call(2).call(2).fault(false)).is_empty());
}

fn sample(resident: u64, descriptors: u64, log_lines: u64) -> What {
    What::Sampled { process: "consumer-1".to_owned(), resident, descriptors, log_lines }
}

#[test]
fn a_process_that_grows_or_floods_its_log_is_found() {
    let promise = Promise {
        resident_growth: 100,
        descriptor_growth: 2,
        lines_per_second: 1,
        ..Promise::default()
    };
    let second = |(at, what)| Event { at: at * 1_000_000_000, what };
    let judge = |samples: Vec<(u64, What)>| {
        let story = Story(samples.into_iter().map(second).collect());
        broken(&story, &promise)
    };
    assert!(judge(vec![(0, sample(50, 9, 0)), (1, sample(150, 11, 10))]).is_empty());
    assert_eq!(judge(vec![(0, sample(50, 9, 0)), (1, sample(151, 9, 0))]), ["V11"]);
    assert_eq!(judge(vec![(0, sample(50, 9, 0)), (1, sample(50, 12, 0))]), ["V11"]);
    assert_eq!(judge(vec![(0, sample(50, 9, 0)), (1, sample(50, 9, 11))]), ["V11"]);
    // A line a second for ever is fine; a burst in the middle is not.
    let steady = |n: u64| (n, sample(50, 9, n));
    assert!(judge((0..60).map(steady).collect()).is_empty());
    let burst = |n: u64| (n, sample(50, 9, n + if n > 40 { 11 } else { 0 }));
    assert_eq!(judge((0..60).map(burst).collect()), ["V11"]);
}

#[test]
fn a_panic_and_a_secret_in_a_log_are_found() {
    let promise = Promise { secrets: vec!["pa/ss word".to_owned()], ..Promise::default() };
    let judge = |line: &str| {
        let mut story = consumer();
        story.add(What::Logged { process: "consumer-1".to_owned(), line: line.to_owned() });
        let report = audit(&History(story.0), &promise);
        assert!(report.findings.iter().all(|finding| !finding.text.contains("pa/ss")));
        report.count("V13")
    };
    assert_eq!(judge("WARN reconnecting to redis://:***@127.0.0.1:6379"), 0);
    assert_eq!(judge("thread 'main' panicked at src/main.rs:1:1"), 1);
    assert_eq!(judge("AUTH pa/ss word"), 1);
    assert_eq!(judge("redis://:pa%2Fss%20word@127.0.0.1"), 1);
    assert_eq!(judge("Authorization: Basic cmVkaXM6cGEvc3Mgd29yZA=="), 1);
}
