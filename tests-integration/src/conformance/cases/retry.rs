#![expect(clippy::unwrap_used, reason = "a case fails by panicking")]

use std::num::NonZeroU32;
use std::time::Duration;

use messaging::ErrorKind;
use tokio::time::Instant;

use super::cases;
use crate::conformance::stage::{Stage, bodies, consume, group, next, publish, silence, text};

cases! {
    a_retry_comes_back_with_a_raised_attempt ["C10"] [Settlement, Groups];
    a_delayed_retry_is_never_early ["C16"] [Settlement, Groups, DelayedRetry];
    a_waiting_retry_holds_nobody_up ["C16"] [Settlement, Groups, DelayedRetry];
    a_retry_is_seen_by_its_own_group_only ["C16"] [Settlement, Groups];
    a_retried_message_is_otherwise_unchanged ["C16"] [Settlement, Groups, DelayedRetry];
    a_delay_beyond_the_longest_tier_is_refused_and_the_message_returns [] [Settlement, Groups];
}

async fn a_retry_comes_back_with_a_raised_attempt(stage: Stage) {
    let broker = stage.broker().await;
    let mut consumer = consume(&broker, group("g", "tasks.#")).await;
    publish(&broker, "tasks.x", "x").await;
    for attempt in 1..=3 {
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.attempt(), attempt);
        delivery.retry(Duration::ZERO).unwrap();
    }
    let last = next(&mut consumer).await;
    assert_eq!(last.attempt(), 4);
    last.ack();
    silence(&mut consumer).await;
}

async fn a_delayed_retry_is_never_early(stage: Stage) {
    let broker = stage.broker().await;
    let spec = group("g", "tasks.#").max_attempts(NonZeroU32::new(10).unwrap());
    let mut consumer = consume(&broker, spec).await;
    publish(&broker, "tasks.x", "x").await;
    // 1.5 s is rounded up to the tier of 2 s.
    for (asked, least) in [(1_000, 1_000), (1_500, 2_000)] {
        let delivery = next(&mut consumer).await;
        let began = Instant::now();
        delivery.retry(Duration::from_millis(asked)).unwrap();
        let again = next(&mut consumer).await;
        let waited = began.elapsed();
        assert!(waited >= Duration::from_millis(least), "{waited:?} for {asked} ms");
        assert!(waited < Duration::from_millis(least + 5_000), "{waited:?} for {asked} ms");
        again.retry(Duration::ZERO).unwrap();
    }
    next(&mut consumer).await.ack();
}

async fn a_waiting_retry_holds_nobody_up(stage: Stage) {
    let broker = stage.broker().await;
    let mut consumer = consume(&broker, group("g", "tasks.#")).await;
    publish(&broker, "tasks.x", "first").await;
    next(&mut consumer).await.retry(Duration::from_secs(4)).unwrap();
    publish(&broker, "tasks.x", "second").await;
    assert_eq!(bodies(&mut consumer, 2).await, ["second", "first"]);
}

async fn a_retry_is_seen_by_its_own_group_only(stage: Stage) {
    let broker = stage.broker().await;
    let mut one = consume(&broker, group("one", "tasks.#")).await;
    let mut two = consume(&broker, group("two", "tasks.#")).await;
    publish(&broker, "tasks.x", "x").await;
    let seen = next(&mut two).await;
    assert_eq!(seen.attempt(), 1);
    seen.ack();
    for _ in 0..2 {
        next(&mut one).await.retry(Duration::ZERO).unwrap();
    }
    silence(&mut two).await;
    let last = next(&mut one).await;
    assert_eq!(last.attempt(), 3);
    last.ack();
    publish(&broker, "tasks.x", "y").await;
    assert_eq!(next(&mut two).await.attempt(), 1);
}

async fn a_retried_message_is_otherwise_unchanged(stage: Stage) {
    let broker = stage.broker().await;
    let mut consumer = consume(&broker, group("g", "tasks.#")).await;
    let sent = crate::conformance::stage::message("tasks.a.b", &b"\x00\xff"[..])
        .with_key("k")
        .with_header("tenant", "acme")
        .unwrap();
    broker.publish_message(sent.clone()).await.unwrap();
    let first = next(&mut consumer).await;
    let before = first.message().clone();
    first.retry(Duration::from_secs(1)).unwrap();
    let again = next(&mut consumer).await;
    let after = again.message();
    assert_eq!((&after.subject, &after.id, &after.body), (&sent.subject, &sent.id, &sent.body));
    assert_eq!((&after.key, &after.content_type), (&before.key, &before.content_type));
    assert_eq!(after.headers.text("tenant"), Some("acme"));
    again.ack();
}

async fn a_delay_beyond_the_longest_tier_is_refused_and_the_message_returns(stage: Stage) {
    let broker = stage.broker().await;
    let mut consumer = consume(&broker, group("g", "tasks.#")).await;
    publish(&broker, "tasks.x", "x").await;
    let error = next(&mut consumer).await.retry(Duration::from_secs(3_601)).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidDelay);
    let again = next(&mut consumer).await;
    assert_eq!(text(&again), "x");
    again.ack();
}
