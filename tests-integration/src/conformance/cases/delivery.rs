#![expect(clippy::unwrap_used, reason = "a case fails by panicking")]

use std::num::NonZeroU32;
use std::time::Duration;

use messaging::{Bytes, Consumer, Delivery};
use tokio::time::timeout;

use super::cases;
use crate::conformance::stage::{
    Stage, bodies, consume, create, group, next, numbers, publish, publish_numbers, silence, text,
};

cases! {
    an_acked_message_does_not_come_again [] [Settlement, Groups];
    what_is_not_acked_comes_again_after_its_consumer_has_gone [] [Settlement, Groups];
    dropping_a_delivery_returns_it_and_counts_an_attempt ["C8", "C10"] [Settlement, Groups];
    what_was_never_handed_out_returns_without_counting ["C10"] [Settlement, Groups];
    a_release_does_not_count_as_an_attempt ["C10"] [Settlement, Groups];
    settling_goes_on_while_deliveries_wait ["C5"] [Settlement, Groups];
    no_more_than_prefetch_is_unsettled ["C6"] [Settlement, Groups];
    no_more_than_the_prefetched_bytes_and_one_message_are_unsettled ["C6"] [Settlement, Groups];
    cancelling_next_loses_nothing [] [Settlement, Groups];
    what_is_in_hand_is_not_redelivered_elsewhere ["C13"] [Settlement, Groups];
    a_delivery_can_be_settled_after_its_consumer_has_gone ["C5"] [Settlement, Groups];
    a_batch_has_everything_that_waits_and_is_acked_at_once [] [Settlement, Groups];
    an_ack_can_be_confirmed [] [Settlement, Groups, ConfirmedSettlement];
}

async fn an_acked_message_does_not_come_again(stage: Stage) {
    let broker = stage.broker().await;
    let mut consumer = consume(&broker, group("g", "tasks.#")).await;
    publish_numbers(&broker, "tasks.n", 3).await;
    for _ in 0..3 {
        next(&mut consumer).await.ack_confirmed().await.unwrap();
    }
    drop(consumer);
    silence(&mut consume(&broker, group("g", "tasks.#")).await).await;
}

async fn what_is_not_acked_comes_again_after_its_consumer_has_gone(stage: Stage) {
    let broker = stage.broker().await;
    create(&broker, group("g", "tasks.#")).await;
    publish_numbers(&broker, "tasks.n", 3).await;
    let mut first = consume(&broker, group("g", "tasks.#")).await;
    let held = [next(&mut first).await, next(&mut first).await];
    drop((first, held));
    let mut second = consume(&broker, group("g", "tasks.#")).await;
    let mut got = bodies(&mut second, 3).await;
    got.sort();
    assert_eq!(got, numbers(3));
    silence(&mut second).await;
}

async fn dropping_a_delivery_returns_it_and_counts_an_attempt(stage: Stage) {
    let broker = stage.broker().await;
    let mut consumer = consume(&broker, group("g", "tasks.#")).await;
    publish(&broker, "tasks.x", "x").await;
    for attempt in 1..=3 {
        let delivery = next(&mut consumer).await;
        assert_eq!((text(&delivery), delivery.attempt()), ("x".to_owned(), attempt));
        drop(delivery);
    }
    next(&mut consumer).await.ack();
    silence(&mut consumer).await;
}

async fn what_was_never_handed_out_returns_without_counting(stage: Stage) {
    let broker = stage.broker().await;
    create(&broker, group("g", "tasks.#")).await;
    publish_numbers(&broker, "tasks.n", 10).await;
    for _ in 0..6 {
        let mut passing = consume(&broker, group("g", "tasks.#")).await;
        next(&mut passing).await.into_parts().1.release();
    }
    let mut consumer = consume(&broker, group("g", "tasks.#")).await;
    let mut got = Vec::new();
    for _ in 0..10 {
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.attempt(), 1);
        got.push(text(&delivery));
        delivery.ack();
    }
    got.sort();
    assert_eq!(got, numbers(10));
}

async fn a_release_does_not_count_as_an_attempt(stage: Stage) {
    let broker = stage.broker().await;
    let mut consumer = consume(&broker, group("g", "tasks.#")).await;
    publish(&broker, "tasks.x", "x").await;
    for _ in 0..6 {
        let (received, ticket) = next(&mut consumer).await.into_parts();
        assert_eq!(received.attempt(), 1);
        ticket.release();
    }
    next(&mut consumer).await.ack();
}

async fn settling_goes_on_while_deliveries_wait(stage: Stage) {
    let broker = stage.broker().await;
    let spec = group("g", "tasks.#").prefetch(NonZeroU32::new(4).unwrap());
    let mut consumer = consume(&broker, spec).await;
    publish_numbers(&broker, "tasks.n", 20).await;
    let held = [next(&mut consumer).await, next(&mut consumer).await];
    // Nobody polls the consumer while these answers are awaited.
    for delivery in held {
        delivery.ack_confirmed().await.unwrap();
    }
    assert_eq!(bodies(&mut consumer, 18).await.len(), 18);
}

/// Takes what comes until it is quiet.
async fn hold_all(consumer: &mut Consumer<Bytes>) -> Vec<Delivery<Bytes>> {
    let mut held = Vec::new();
    while let Ok(Some(Ok(delivery))) = timeout(Duration::from_millis(500), consumer.next()).await {
        held.push(delivery);
    }
    held
}

async fn no_more_than_prefetch_is_unsettled(stage: Stage) {
    let broker = stage.broker().await;
    let spec = group("g", "tasks.#").prefetch(NonZeroU32::new(3).unwrap());
    let mut consumer = consume(&broker, spec).await;
    publish_numbers(&broker, "tasks.n", 10).await;
    let mut held = hold_all(&mut consumer).await;
    assert_eq!(held.len(), 3);
    held.remove(0).ack();
    held.extend(hold_all(&mut consumer).await);
    assert_eq!(held.len(), 3);
}

async fn no_more_than_the_prefetched_bytes_and_one_message_are_unsettled(stage: Stage) {
    let broker = stage.broker().await;
    let mut consumer = consume(&broker, group("g", "tasks.#").prefetch_bytes(2_500)).await;
    for _ in 0..10 {
        publish(&broker, "tasks.n", vec![0; 1_000]).await;
    }
    assert_eq!(hold_all(&mut consumer).await.len(), 3);
}

async fn cancelling_next_loses_nothing(stage: Stage) {
    let broker = stage.broker().await;
    let mut consumer = consume(&broker, group("g", "tasks.#")).await;
    let mut got = Vec::new();
    for number in 0..300 {
        // Looks that are given up at once, some of them with a message there.
        for _ in 0..2 {
            if let Ok(delivery) = timeout(Duration::ZERO, consumer.next()).await {
                let delivery = delivery.unwrap().unwrap();
                got.push(text(&delivery));
                delivery.ack();
            }
        }
        publish(&broker, "tasks.n", number.to_string()).await;
    }
    let left = 300 - got.len();
    got.extend(bodies(&mut consumer, left).await);
    assert_eq!(got, numbers(300));
    silence(&mut consumer).await;
}

async fn what_is_in_hand_is_not_redelivered_elsewhere(stage: Stage) {
    let broker = stage.broker().await;
    let mut first = consume(&broker, group("g", "tasks.#")).await;
    publish(&broker, "tasks.x", "x").await;
    let held = next(&mut first).await;
    let mut second = consume(&broker, group("g", "tasks.#")).await;
    let seen = timeout(Duration::from_secs(45), second.next()).await;
    assert!(seen.is_err(), "redelivered while it was being handled");
    held.ack_confirmed().await.unwrap();
    silence(&mut second).await;
}

async fn a_delivery_can_be_settled_after_its_consumer_has_gone(stage: Stage) {
    let broker = stage.broker().await;
    let mut first = consume(&broker, group("g", "tasks.#")).await;
    publish(&broker, "tasks.x", "x").await;
    let held = next(&mut first).await;
    drop(first);
    held.ack_confirmed().await.unwrap();
    silence(&mut consume(&broker, group("g", "tasks.#")).await).await;
}

async fn a_batch_has_everything_that_waits_and_is_acked_at_once(stage: Stage) {
    let broker = stage.broker().await;
    create(&broker, group("g", "tasks.#")).await;
    publish_numbers(&broker, "tasks.n", 50).await;
    let mut consumer = consume(&broker, group("g", "tasks.#")).await;
    let mut got = Vec::new();
    while got.len() < 50 {
        let batch = consumer.next_batch().await.unwrap().unwrap();
        assert!(!batch.is_empty());
        got.extend(batch.iter().map(|delivery| text(delivery)));
        Delivery::ack_all(batch);
    }
    assert_eq!(got, numbers(50));
    drop(consumer);
    silence(&mut consume(&broker, group("g", "tasks.#")).await).await;
}

async fn an_ack_can_be_confirmed(stage: Stage) {
    let broker = stage.broker().await;
    let mut consumer = consume(&broker, group("g", "tasks.#")).await;
    publish(&broker, "tasks.x", "x").await;
    let settled = next(&mut consumer).await.ack_confirmed().await.unwrap();
    assert_eq!(settled, messaging::Settled::Durable);
}
