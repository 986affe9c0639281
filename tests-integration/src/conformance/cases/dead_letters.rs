#![expect(clippy::unwrap_used, reason = "a case fails by panicking")]

use std::num::NonZeroU32;
use std::time::Duration;

use messaging::{Broker, Bytes, Consumer, Json, Start, SubscribeSpec};

use super::cases;
use crate::conformance::stage::{
    Stage, bodies, consume, group, next, publish, publish_numbers, silence, text,
};

cases! {
    a_rejected_message_is_kept_with_group_reason_attempts_and_origin ["C16"] [Settlement, Groups, DeadLetters];
    attempts_are_limited_by_the_group ["C10"] [Settlement, Groups, DeadLetters];
    an_undecodable_message_is_a_dead_letter_and_no_item [] [Settlement, Groups, DeadLetters];
    dead_letters_can_be_consumed_like_others [] [Settlement, Groups, DeadLetters];
    no_pattern_leads_to_dead_letters ["C9"] [Settlement, Groups, DeadLetters];
    rejecting_in_one_group_takes_nothing_from_another ["C16"] [Settlement, Groups, DeadLetters];
}

async fn dead_letters(broker: &Broker, stream: &str) -> Consumer<Bytes> {
    let spec = SubscribeSpec::dead_letters("morgue", stream).unwrap();
    consume(broker, spec.start(Start::Earliest)).await
}

async fn a_rejected_message_is_kept_with_group_reason_attempts_and_origin(stage: Stage) {
    let broker = stage.broker().await;
    let mut consumer = consume(&broker, group("worker-1", "tasks.#")).await;
    publish(&broker, "tasks.x", "x").await;
    next(&mut consumer).await.retry(Duration::ZERO).unwrap();
    let second = next(&mut consumer).await;
    let id = second.message().id.clone();
    second.reject("no such model: größer");
    let kept = next(&mut dead_letters(&broker, "tasks").await).await;
    let why = kept.dead_letter().unwrap();
    assert_eq!((why.group, why.reason, why.attempts), ("worker-1", "no such model: größer", 2));
    assert!(why.origin.contains("tasks"), "{}", why.origin);
    let message = kept.message();
    assert_eq!((&*message.subject, &message.id, &text(&kept)), ("tasks.x", &id, &"x".to_owned()));
    kept.ack();
    silence(&mut consumer).await;
}

async fn attempts_are_limited_by_the_group(stage: Stage) {
    let broker = stage.broker().await;
    let spec = group("g", "tasks.#").max_attempts(NonZeroU32::new(2).unwrap());
    let mut consumer = consume(&broker, spec).await;
    publish(&broker, "tasks.x", "x").await;
    for attempt in 1..=2 {
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.attempt(), attempt);
        drop(delivery);
    }
    silence(&mut consumer).await;
    let kept = next(&mut dead_letters(&broker, "tasks").await).await;
    let why = kept.dead_letter().unwrap();
    assert!(why.reason.contains("2 attempts"), "{}", why.reason);
    assert_eq!(why.attempts, 2, "the last one was made");
}

async fn an_undecodable_message_is_a_dead_letter_and_no_item(stage: Stage) {
    let broker = stage.broker().await;
    let spec = group("g", "tasks.#");
    let mut consumer = broker.subscribe::<Json<u32>>(spec).await.unwrap();
    for body in ["not json", "7", "\u{feff}8"] {
        publish(&broker, "tasks.x", body).await;
    }
    let good = consumer.next().await.unwrap().unwrap();
    assert_eq!(good.0, 7);
    good.ack();
    let mut dead = dead_letters(&broker, "tasks").await;
    // The second bad one is only refused once somebody asks for what comes next.
    let more = tokio::time::timeout(Duration::from_millis(500), consumer.next()).await;
    assert!(more.is_err());
    assert_eq!(bodies(&mut dead, 2).await, ["not json", "\u{feff}8"]);
}

async fn dead_letters_can_be_consumed_like_others(stage: Stage) {
    let broker = stage.broker().await;
    let mut consumer = consume(&broker, group("g", "events.#")).await;
    publish_numbers(&broker, "events.n", 3).await;
    for _ in 0..3 {
        next(&mut consumer).await.reject("no");
    }
    let mut dead = dead_letters(&broker, "events").await;
    let first = next(&mut dead).await;
    assert_eq!(first.attempt(), 1, "its attempts belong to the group that gave it up");
    first.retry(Duration::ZERO).unwrap();
    let mut got = bodies(&mut dead, 3).await;
    got.sort();
    assert_eq!(got, ["0", "1", "2"]);
    silence(&mut dead).await;
}

async fn no_pattern_leads_to_dead_letters(stage: Stage) {
    let broker = stage.broker().await;
    let mut all = consume(&broker, group("all", "#")).await;
    let mut consumer = consume(&broker, group("g", "tasks.#")).await;
    publish(&broker, "tasks.x", "x").await;
    next(&mut all).await.ack();
    next(&mut consumer).await.reject("no");
    silence(&mut all).await;
    assert!(SubscribeSpec::group("g", ["dlq.tasks"]).is_err());
}

async fn rejecting_in_one_group_takes_nothing_from_another(stage: Stage) {
    let broker = stage.broker().await;
    let mut one = consume(&broker, group("one", "tasks.#")).await;
    let mut two = consume(&broker, group("two", "tasks.#")).await;
    publish(&broker, "tasks.x", "x").await;
    next(&mut one).await.reject("no");
    assert_eq!(bodies(&mut two, 1).await, ["x"]);
    silence(&mut one).await;
}
