#![expect(clippy::unwrap_used, reason = "a case fails by panicking")]

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use messaging::topology::GroupConfig;
use messaging::{Broker, Bytes, Patterns, Received, RetryPolicy, Verdict};

use super::cases;
use crate::conformance::stage::{
    Stage, consume, group, message, next, publish, silence, text, topology,
};

cases! {
    an_ordered_group_keeps_the_order_of_each_key_through_retries ["C2", "C16"] [Settlement, Groups, Ordered];
    a_group_is_ordered_where_the_topology_says_so [] [Settlement, Groups, Ordered, Provision];
    one_message_of_a_key_is_in_hand_at_a_time [] [Settlement, Groups, Ordered];
    keys_do_not_wait_for_each_other [] [Settlement, Groups, Ordered, ParallelLanes];
    an_ordered_worker_runs_each_key_in_order_while_members_come_and_go ["C17"] [Settlement, Groups, Ordered];
    a_lane_is_handed_over_when_nothing_of_it_is_in_hand ["C17"] [Settlement, Groups, Ordered, ParallelLanes];
    more_urgent_messages_come_first [] [Settlement, Groups, Priority];
}

async fn publish_keyed(broker: &Broker, key: &str, body: &str) {
    let sent = message("events.n", body.to_owned()).with_key(key.to_owned());
    broker.publish_message(sent).await.unwrap();
}

async fn an_ordered_group_keeps_the_order_of_each_key_through_retries(stage: Stage) {
    let broker = stage.broker().await;
    let mut consumer = consume(&broker, group("g", "events.#").ordered()).await;
    for number in 0..10 {
        for key in ["a", "b", "c"] {
            publish_keyed(&broker, key, &format!("{key}{number}")).await;
        }
    }
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut settled = 0;
    while settled < 30 {
        let delivery = next(&mut consumer).await;
        let body = text(&delivery);
        // Each fourth message fails once, now with a delay and now without.
        let number: u64 = body[1..].parse().unwrap();
        if number % 4 == 1 && delivery.attempt() == 1 {
            delivery.retry(Duration::from_secs(number % 2)).unwrap();
            continue;
        }
        seen.entry(body[..1].to_owned()).or_default().push(body);
        delivery.ack();
        settled += 1;
    }
    for (key, bodies) in seen {
        let wanted: Vec<String> = (0..10).map(|number| format!("{key}{number}")).collect();
        assert_eq!(bodies, wanted);
    }
}

async fn a_group_is_ordered_where_the_topology_says_so(stage: Stage) {
    let broker = stage.broker().await;
    let patterns = Patterns::new(["events.#"]).unwrap();
    let mut config = GroupConfig::new("g".parse().unwrap(), patterns);
    config.ordered = true;
    broker.provision(topology().group(config)).await.unwrap();
    let mut consumer = consume(&broker, group("g", "events.#")).await;
    for body in ["first", "second"] {
        publish_keyed(&broker, "a", body).await;
    }
    next(&mut consumer).await.retry(Duration::from_secs(1)).unwrap();
    for wanted in ["first", "second"] {
        let delivery = next(&mut consumer).await;
        assert_eq!(text(&delivery), wanted);
        delivery.ack();
    }
}

async fn one_message_of_a_key_is_in_hand_at_a_time(stage: Stage) {
    let broker = stage.broker().await;
    let mut consumer = consume(&broker, group("g", "events.#").ordered()).await;
    for number in 0..3 {
        publish_keyed(&broker, "a", &number.to_string()).await;
    }
    for number in 0..3 {
        let held = next(&mut consumer).await;
        assert_eq!(text(&held), number.to_string());
        silence(&mut consumer).await;
        held.ack();
    }
}

/// Keys that the four lanes of the stream are sure to see, each more than once.
fn many_keys() -> Vec<String> {
    (0..40).map(|number| format!("key-{number}")).collect()
}

async fn keys_do_not_wait_for_each_other(stage: Stage) {
    let broker = stage.broker().await;
    let mut consumer = consume(&broker, group("g", "events.#").ordered()).await;
    for key in many_keys() {
        publish_keyed(&broker, &key, &key).await;
    }
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(next(&mut consumer).await);
    }
    let first = held.remove(0);
    let slow = first.message().key.clone();
    publish(&broker, "events.n", "no key at all").await;
    drop(held);
    for _ in 0..39 {
        let delivery = next(&mut consumer).await;
        assert_ne!(delivery.message().key, slow);
        delivery.ack();
    }
    next(&mut consumer).await.ack();
    first.ack();
}

async fn an_ordered_worker_runs_each_key_in_order_while_members_come_and_go(stage: Stage) {
    let broker = stage.broker().await;
    let log: Arc<Mutex<BTreeMap<Bytes, Vec<u32>>>> = Arc::default();
    let spawn = |broker: Broker, log: Arc<Mutex<BTreeMap<Bytes, Vec<u32>>>>| async move {
        let handle = move |event: Received<Bytes>| {
            let log = Arc::clone(&log);
            async move {
                let number: u32 = text(&event).parse().unwrap();
                if number % 5 == 2 && event.attempt() == 1 {
                    return Verdict::fail("once");
                }
                tokio::time::sleep(Duration::from_millis(u64::from(number % 3))).await;
                let key = event.message().key.clone().unwrap_or_default();
                log.lock().unwrap().entry(key).or_default().push(number);
                Verdict::Ack
            }
        };
        let worker = broker.worker("g", ["events.#"]).ordered().concurrency(4);
        worker.retry(RetryPolicy::fixed(Duration::ZERO)).spawn(handle).await.unwrap()
    };
    let steady = spawn(stage.broker().await, Arc::clone(&log)).await;
    let mut passing = Some(spawn(stage.broker().await, Arc::clone(&log)).await);
    for number in 0..20 {
        for key in many_keys() {
            publish_keyed(&broker, &key, &number.to_string()).await;
        }
        match passing.take() {
            Some(worker) if number % 4 == 3 => drop(worker.stop().await.unwrap()),
            Some(worker) => passing = Some(worker),
            None => passing = Some(spawn(stage.broker().await, Arc::clone(&log)).await),
        }
    }
    let done = || log.lock().unwrap().values().map(Vec::len).sum::<usize>() >= 800;
    while !done() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    steady.stop().await.unwrap();
    for (key, numbers) in log.lock().unwrap().iter() {
        assert_eq!(*numbers, (0..20).collect::<Vec<u32>>(), "{}", text(key));
    }
}

async fn a_lane_is_handed_over_when_nothing_of_it_is_in_hand(stage: Stage) {
    let broker = stage.broker().await;
    let few = NonZeroU32::new(100).unwrap();
    let spec = || group("g", "events.#").ordered().prefetch(few);
    let mut first = consume(&broker, spec()).await;
    for key in many_keys() {
        publish_keyed(&broker, &key, &key).await;
    }
    let mut held = Vec::new();
    for _ in 0..40 {
        held.push(next(&mut first).await);
    }
    let mut second = consume(&broker, spec()).await;
    for key in many_keys() {
        publish_keyed(&broker, &key, &key).await;
    }
    // Every lane has something in hand, so the new member owns none yet.
    silence(&mut second).await;
    held.into_iter().for_each(messaging::Delivery::ack);
    let mut shares = [0, 0];
    for _ in 0..40 {
        tokio::select! {
            delivery = next(&mut first) => { shares[0] += 1; delivery.ack(); }
            delivery = next(&mut second) => { shares[1] += 1; delivery.ack(); }
        }
    }
    assert!(shares.iter().all(|share| *share > 0), "{shares:?}");
}

async fn more_urgent_messages_come_first(stage: Stage) {
    let broker = stage.broker().await;
    drop(consume(&broker, group("g", "tasks.#").priority()).await);
    for (priority, body) in [(0, "a"), (9, "b"), (5, "c"), (9, "d"), (0, "e")] {
        let sent = message("tasks.n", body).with_priority(priority);
        broker.publish_message(sent).await.unwrap();
    }
    let one = NonZeroU32::new(1).unwrap();
    let mut consumer = consume(&broker, group("g", "tasks.#").priority().prefetch(one)).await;
    let mut got = String::new();
    for _ in 0..5 {
        let delivery = next(&mut consumer).await;
        got.push_str(&text(&delivery));
        delivery.ack();
    }
    assert_eq!(got, "bdcae");
}
