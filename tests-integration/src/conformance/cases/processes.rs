#![expect(clippy::unwrap_used, reason = "a case fails by panicking")]

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use messaging::{Broker, Bytes, Received, SubscribeSpec};

use super::cases;
use crate::conformance::member::{DEADLY, Member};
use crate::conformance::stage::{
    IMPATIENCE, Stage, consume, create, group, next, numbers, publish, publish_numbers, silence,
    text,
};

cases! {
    members_in_other_processes_share_a_group [] [Settlement, Groups] Shared;
    what_a_killed_member_held_is_handled_by_another ["C10"] [Settlement, Groups] Shared;
    a_message_that_kills_its_worker_is_a_dead_letter_and_its_neighbours_are_not ["C10"] [Settlement, Groups, DeadLetters] Shared;
    a_worker_restarted_often_with_full_hands_dead_letters_nothing ["C10", "C12"] [Settlement, Groups, DeadLetters] Shared;
    a_handler_that_takes_long_keeps_its_message ["C13"] [Settlement, Groups] Shared;
}

async fn start_member(stage: &Stage, broker: &Broker) -> Member {
    Member::start(broker.backend(), stage.server().0.variables()).await
}

/// The body of a line of a member.
fn body_of(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or_default()
}

fn morgue() -> SubscribeSpec {
    SubscribeSpec::dead_letters("morgue", "tasks").unwrap()
}

async fn members_in_other_processes_share_a_group(stage: Stage) {
    let broker = stage.broker().await;
    let one = NonZeroU32::new(1).unwrap();
    let mut ours = consume(&broker, group("g", "events.#").prefetch(one)).await;
    publish(&broker, "events.n", "ours").await;
    let held = next(&mut ours).await;
    let variables = stage.server().0.variables();
    let mut theirs = Member::start_on(broker.backend(), variables, "events.#").await;
    publish_numbers(&broker, "events.n", 10).await;
    // Our hands are full. Of a broker that gives a lane to one member, they get what is in theirs.
    let mut handled = BTreeSet::from([body_of(&theirs.line().await.unwrap()).to_owned()]);
    held.ack();
    while handled.len() < 10 {
        let body = tokio::select! {
            line = theirs.line() => body_of(&line.unwrap()).to_owned(),
            delivery = next(&mut ours) => {
                let body = text(&delivery);
                delivery.ack();
                body
            }
        };
        assert!(handled.insert(body.clone()), "{body} came twice");
    }
    assert_eq!(handled, numbers(10).into_iter().collect());
    assert_eq!(theirs.stop().await, Vec::<String>::new());
    publish(&broker, "events.n", "last").await;
    let last = next(&mut ours).await;
    assert_eq!((text(&last), last.attempt()), ("last".to_owned(), 1));
    last.ack();
}

async fn what_a_killed_member_held_is_handled_by_another(stage: Stage) {
    let broker = stage.impatient_broker().await;
    let mut theirs = start_member(&stage, &broker).await;
    publish(&broker, "tasks.n", DEADLY).await;
    assert_eq!(theirs.line().await.unwrap(), format!("{DEADLY} 1"));
    theirs.kill().await;
    let mut ours = consume(&broker, group("g", "tasks.#")).await;
    let inherited = next(&mut ours).await;
    assert_eq!((text(&inherited), inherited.attempt()), (DEADLY.to_owned(), 2));
    inherited.ack();
}

async fn a_message_that_kills_its_worker_is_a_dead_letter_and_its_neighbours_are_not(stage: Stage) {
    let broker = stage.impatient_broker().await;
    let mut member = start_member(&stage, &broker).await;
    publish_numbers(&broker, "tasks.n", 5).await;
    publish(&broker, "tasks.n", DEADLY).await;
    for number in 5..15 {
        publish(&broker, "tasks.n", number.to_string()).await;
    }
    let mut handled = BTreeSet::new();
    for attempt in 1..=4 {
        loop {
            let line = member.line().await.unwrap();
            if body_of(&line) == DEADLY {
                assert_eq!(line, format!("{DEADLY} {attempt}"));
                break;
            }
            handled.insert(body_of(&line).to_owned());
        }
        let rest = member.kill().await;
        handled.extend(rest.iter().map(|line| body_of(line).to_owned()));
        member = start_member(&stage, &broker).await;
    }
    let mut dead = consume(&broker, morgue()).await;
    let kept = next(&mut dead).await;
    let why = kept.dead_letter().unwrap();
    assert_eq!((text(&kept), why.group), (DEADLY.to_owned(), "g"));
    assert!(why.reason.contains("4 attempts"), "{}", why.reason);
    assert_eq!(why.attempts, 4);
    kept.ack();
    while handled.len() < 15 {
        handled.insert(body_of(&member.line().await.unwrap()).to_owned());
    }
    assert_eq!(handled, numbers(15).into_iter().collect());
    member.stop().await;
    silence(&mut dead).await;
}

async fn a_worker_restarted_often_with_full_hands_dead_letters_nothing(stage: Stage) {
    let broker = stage.broker().await;
    create(&broker, group("g", "tasks.#")).await;
    publish_numbers(&broker, "tasks.n", 200).await;
    let handled: Arc<Mutex<Vec<(String, u32)>>> = Arc::default();
    let spawn = || {
        let log = Arc::clone(&handled);
        let handle = move |message: Received<Bytes>| {
            log.lock().unwrap().push((text(&message), message.attempt()));
            tokio::time::sleep(Duration::from_millis(5))
        };
        broker.worker("g", ["tasks.#"]).concurrency(2).prefetch(50).spawn(handle)
    };
    for _ in 0..20 {
        let worker = spawn().await.unwrap();
        worker.settled(1).await.unwrap();
        worker.stop().await.unwrap();
    }
    let rest = 200 - handled.lock().unwrap().len() as u64;
    let worker = spawn().await.unwrap();
    worker.settled(rest).await.unwrap();
    worker.stop().await.unwrap();
    let mut all = handled.lock().unwrap().clone();
    assert!(all.iter().all(|(_, attempt)| *attempt == 1), "attempts were counted: {all:?}");
    all.sort_by_key(|(body, _)| body.parse::<usize>().unwrap());
    assert_eq!(all.into_iter().map(|(body, _)| body).collect::<Vec<_>>(), numbers(200));
    silence(&mut consume(&broker, morgue()).await).await;
}

async fn a_handler_that_takes_long_keeps_its_message(stage: Stage) {
    let (one, other) = (stage.impatient_broker().await, stage.impatient_broker().await);
    let mut holds = consume(&one, group("g", "tasks.#")).await;
    publish(&one, "tasks.x", "x").await;
    let held = next(&mut holds).await;
    let mut waits = consume(&other, group("g", "tasks.#")).await;
    let taken = tokio::time::timeout(IMPATIENCE * 3, waits.next()).await;
    assert!(taken.is_err(), "it was taken away: {taken:?}");
    held.ack_confirmed().await.unwrap();
    silence(&mut waits).await;
}
