#![expect(clippy::unwrap_used, reason = "a case fails by panicking")]

use std::time::Duration;

use messaging::{Bytes, ErrorKind, SendSpec};

use super::cases;
use crate::conformance::stage::{
    Stage, bodies, consume, create, group, message, next, numbers, publish_numbers,
};

cases! {
    closing_flushes_what_was_handed_over ["C3", "C12"] [Settlement, Groups];
    a_closed_broker_refuses_everything_and_can_be_closed_again ["C12"] [Settlement, Groups];
    closing_ends_subscriptions_and_returns_what_was_not_started ["C10", "C12"] [Settlement, Groups];
    one_connection_closes_without_the_others ["C12"] [Settlement, Groups];
}

async fn closing_flushes_what_was_handed_over(stage: Stage) {
    let broker = stage.broker().await;
    create(&broker, group("g", "events.#")).await;
    let publisher = broker.publisher::<Bytes>(SendSpec::to("events").unwrap()).await.unwrap();
    let mut unconfirmed = Vec::new();
    for number in numbers(100) {
        unconfirmed.push(publisher.enqueue_message(message("events.n", number)).await.unwrap());
    }
    broker.close().await.unwrap();
    for pending in unconfirmed {
        pending.await.unwrap();
    }
    let mut consumer = consume(&stage.broker().await, group("g", "events.#")).await;
    let mut got = bodies(&mut consumer, 100).await;
    got.sort_by_key(|number| number.parse::<u32>().unwrap());
    assert_eq!(got, numbers(100));
}

async fn a_closed_broker_refuses_everything_and_can_be_closed_again(stage: Stage) {
    let broker = stage.broker().await;
    let publisher = broker.publisher::<Bytes>(SendSpec::to("events").unwrap()).await.unwrap();
    broker.close().await.unwrap();
    broker.close().await.unwrap();
    let kinds = [
        publisher.publish(&Bytes::new()).await.unwrap_err().kind().clone(),
        broker.publish_message(message("events.n", "")).await.unwrap_err().kind().clone(),
        broker.subscribe::<Bytes>(group("g", "events.#")).await.unwrap_err().kind().clone(),
    ];
    assert_eq!(kinds, [ErrorKind::Closed, ErrorKind::Closed, ErrorKind::Closed]);
}

async fn closing_ends_subscriptions_and_returns_what_was_not_started(stage: Stage) {
    let leaving = stage.broker().await;
    create(&leaving, group("g", "tasks.#")).await;
    publish_numbers(&leaving, "tasks.n", 10).await;
    let mut consumer = consume(&leaving, group("g", "tasks.#")).await;
    next(&mut consumer).await.ack_confirmed().await.unwrap();
    leaving.close_within(Duration::from_secs(5)).await.unwrap();
    let ended = async { while consumer.next().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap();
    drop(consumer);
    let staying = stage.broker().await;
    let mut rest = consume(&staying, group("g", "tasks.#")).await;
    let got = bodies(&mut rest, 9).await;
    assert_eq!(got.len(), 9);
}

async fn one_connection_closes_without_the_others(stage: Stage) {
    let (leaving, staying) = (stage.broker().await, stage.broker().await);
    let mut consumer = consume(&staying, group("g", "events.#")).await;
    leaving.close().await.unwrap();
    publish_numbers(&staying, "events.n", 3).await;
    let mut got = bodies(&mut consumer, 3).await;
    got.sort();
    assert_eq!(got, numbers(3));
}
