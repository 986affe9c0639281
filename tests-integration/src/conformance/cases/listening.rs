#![expect(clippy::unwrap_used, clippy::panic, reason = "a case fails by panicking")]

use std::num::NonZeroU32;
use std::time::Duration;

use messaging::{Broker, Bytes, ErrorKind, Feature, Heard, Listener, SubscribeSpec};
use tokio::time::timeout;

use super::cases;
use crate::conformance::stage::{Stage, group, numbers, publish, publish_numbers, text};

cases! {
    a_listener_hears_what_comes_next_and_only_that [] [Listen];
    what_a_slow_listener_misses_is_a_gap_and_no_silence [] [Listen];
    a_listener_holds_no_publisher_up [] [Listen];
    listening_in_a_group_is_refused [] [Listen];
}

async fn listen(broker: &Broker, buffer: u32) -> Listener<Bytes> {
    // A stream with one lane: over several, messages without a key have no order.
    let spec = SubscribeSpec::broadcast(["debates.#"]).unwrap();
    broker.listen(spec.prefetch(NonZeroU32::new(buffer).unwrap())).await.unwrap()
}

async fn next(listener: &mut Listener<Bytes>) -> Heard<Bytes> {
    timeout(Duration::from_secs(20), listener.next()).await.unwrap().unwrap().unwrap()
}

async fn a_listener_hears_what_comes_next_and_only_that(stage: Stage) {
    let broker = stage.broker().await;
    publish(&broker, "debates.n", "before").await;
    let mut listener = listen(&broker, 100).await;
    publish(&broker, "events.n", "elsewhere").await;
    publish_numbers(&broker, "debates.n", 10).await;
    for number in numbers(10) {
        match next(&mut listener).await {
            Heard::Message(heard) => assert_eq!(text(&heard), number),
            other => panic!("{other:?}"),
        }
    }
}

async fn what_a_slow_listener_misses_is_a_gap_and_no_silence(stage: Stage) {
    let broker = stage.broker().await;
    let mut listener = listen(&broker, 10).await;
    publish_numbers(&broker, "debates.n", 500).await;
    publish(&broker, "debates.n", "last").await;
    let (mut heard, mut missed) = (0, 0);
    loop {
        match next(&mut listener).await {
            Heard::Message(message) if text(&message) == "last" => break,
            Heard::Message(_) => heard += 1,
            Heard::Gap(gap) => missed += gap.missed.unwrap_or(0),
            other => panic!("{other:?}"),
        }
    }
    // A backend that keeps a log need not miss anything.
    assert_eq!(heard + missed, 500);
}

async fn a_listener_holds_no_publisher_up(stage: Stage) {
    let broker = stage.builder().await.window(8, 1 << 20).open().await.unwrap();
    let _sleeping = listen(&broker, 1).await;
    publish_numbers(&broker, "debates.n", 1_000).await;
}

async fn listening_in_a_group_is_refused(stage: Stage) {
    let broker = stage.broker().await;
    let error = broker.listen::<Bytes>(group("g", "events.#")).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unsupported(Feature::Groups));
    assert!(error.to_string().contains("broadcast"), "{error}");
}
