//! What is too large or too much for one request or one commit, against a real cluster, which
//! `KAFKA_BROKERS` names.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and look at the environment"
)]

#[path = "support/corner.rs"]
mod corner;

use std::num::NonZeroU32;
use std::time::Duration;

use futures::FutureExt;
use messaging_core::{Bytes, Consumer, Delivery, SendSpec, Start, SubscribeSpec};
use tokio::time::timeout;

use self::corner::{SOON, corner, nothing_comes, publish, take, tasks};

async fn next(consumer: &mut Consumer<Bytes>) -> Delivery<Bytes> {
    timeout(SOON, consumer.next()).await.unwrap().unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn large_messages_that_fail_together_are_each_a_dead_letter() {
    let corner = corner();
    let broker = corner.open_with(1).await;
    let mut consumer = broker.subscribe::<Bytes>(corner.spec()).await.unwrap();
    let publisher = broker.publisher::<Bytes>(SendSpec::to("tasks").unwrap()).await.unwrap();
    for _ in 0..4 {
        publisher.publish(&Bytes::from(vec![7; 900 << 10])).await.unwrap();
    }
    let mut all = Vec::new();
    while all.len() < 4 {
        all.push(next(&mut consumer).await);
    }
    all.into_iter().for_each(|delivery| delivery.reject("no good"));
    let spec = SubscribeSpec::dead_letters(&corner.group(), "tasks").unwrap();
    let mut dead = broker.subscribe::<Bytes>(spec).await.unwrap();
    for _ in 0..4 {
        next(&mut dead).await.ack();
    }
    broker.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn what_a_commit_has_no_room_to_say_is_not_confirmed_before_another_one_has() {
    const MANY: u32 = 4_000;
    let corner = corner();
    let broker = corner.open_with(1).await;
    publish(&broker, 0..MANY).await;
    let spec = corner.spec().prefetch(NonZeroU32::new(MANY).unwrap());
    let mut consumer = broker.subscribe::<Bytes>(spec).await.unwrap();
    let mut all = Vec::new();
    while all.len() < MANY as usize {
        all.push(next(&mut consumer).await);
    }
    let mut confirmed = Box::pin(all.pop().unwrap().ack_confirmed());
    let early = timeout(Duration::from_secs(2), &mut confirmed).await;
    assert!(early.is_err(), "{early:?}");
    all.into_iter().for_each(Delivery::ack);
    timeout(SOON, confirmed).await.unwrap().unwrap();
    broker.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn a_group_that_starts_at_the_end_skips_nothing_of_partitions_that_came_while_it_was_away() {
    let corner = corner();
    let broker = corner.open_with(1).await;
    publish(&broker, 0..10).await;
    let spec = || corner.spec().start(Start::Latest);
    let mut consumer = broker.subscribe::<Bytes>(spec()).await.unwrap();
    assert!(consumer.next().now_or_never().is_none());
    publish(&broker, 10..20).await;
    take(&mut consumer, 10).await;
    drop(consumer);
    broker.close().await.unwrap();
    let broker = corner.open().await;
    broker.provision(tasks(4)).await.unwrap();
    broker.close().await.unwrap();
    // A publisher that knows all of them.
    let broker = corner.open().await;
    publish(&broker, 20..220).await;
    let mut consumer = broker.subscribe::<Bytes>(spec()).await.unwrap();
    let mut got: Vec<u32> = take(&mut consumer, 200).await.into_iter().map(|one| one.0).collect();
    got.sort_unstable();
    assert_eq!(got, (20..220).collect::<Vec<_>>());
    nothing_comes(&mut consumer).await;
    broker.close().await.unwrap();
}
