//! Groups against a real cluster, which `KAFKA_BROKERS` names.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::mem_forget,
    reason = "tests fail by panicking, and stop without a goodbye"
)]

#[path = "support/corner.rs"]
mod corner;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use messaging_core::{Bytes, ErrorKind, SendSpec, Start, SubscribeSpec, Ticket};
use tokio::time::{Instant, sleep, timeout};

use self::corner::{Corner, SOON, corner, nothing_comes, number, publish, take};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn everything_is_delivered_once_and_a_restart_repeats_nothing() {
    let corner = corner();
    let broker = corner.open().await;
    publish(&broker, 0..1_000).await;
    let began = Instant::now();
    let mut consumer = broker.subscribe::<Bytes>(corner.spec()).await.unwrap();
    let first = take(&mut consumer, 1).await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let mut all: Vec<u32> = take(&mut consumer, 999).await.into_iter().map(|one| one.0).collect();
    all.push(first[0].0);
    all.sort_unstable();
    assert_eq!(all, (0..1_000).collect::<Vec<_>>());
    drop(consumer);
    broker.close().await.unwrap();
    let broker = corner.open().await;
    publish(&broker, 1_000..1_010).await;
    let mut consumer = broker.subscribe::<Bytes>(corner.spec()).await.unwrap();
    let mut later: Vec<u32> = take(&mut consumer, 10).await.into_iter().map(|one| one.0).collect();
    later.sort_unstable();
    assert_eq!(later, (1_000..1_010).collect::<Vec<_>>());
    nothing_comes(&mut consumer).await;
    broker.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn only_what_was_not_settled_comes_again_after_a_restart() {
    let corner = corner();
    let broker = corner.open().await;
    publish(&broker, 0..200).await;
    let mut consumer = broker.subscribe::<Bytes>(corner.spec()).await.unwrap();
    let mut held: Vec<(u32, Ticket)> = Vec::new();
    for _ in 0..200 {
        let delivery = timeout(SOON, consumer.next()).await.unwrap().unwrap().unwrap();
        let (received, ticket) = delivery.into_parts();
        match number(&received) {
            at if at % 50 == 0 => held.push((at, ticket)),
            _ => ticket.ack(),
        }
    }
    let mut expected: Vec<u32> = held.iter().map(|one| one.0).collect();
    // They go back without a handler having failed.
    held.into_iter().for_each(|(_, ticket)| ticket.release());
    drop(consumer);
    broker.close().await.unwrap();
    let broker = corner.open().await;
    let mut consumer = broker.subscribe::<Bytes>(corner.spec()).await.unwrap();
    let again = take(&mut consumer, expected.len()).await;
    assert!(again.iter().all(|(_, attempt)| *attempt == 1), "{again:?}");
    let mut again: Vec<u32> = again.into_iter().map(|one| one.0).collect();
    again.sort_unstable();
    expected.sort_unstable();
    assert_eq!(again, expected);
    nothing_comes(&mut consumer).await;
    broker.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn a_retry_comes_again_later_and_a_rejected_message_is_a_dead_letter() {
    let corner = corner();
    let broker = corner.open().await;
    publish(&broker, 0..3).await;
    let mut consumer = broker.subscribe::<Bytes>(corner.spec()).await.unwrap();
    let mut retried = None;
    for _ in 0..3 {
        let delivery = timeout(SOON, consumer.next()).await.unwrap().unwrap().unwrap();
        let (received, ticket) = delivery.into_parts();
        match number(&received) {
            0 => {
                ticket.retry(Duration::from_millis(1_500)).unwrap();
                retried = Some(Instant::now());
            }
            1 => ticket.reject("no good"),
            _ => ticket.ack(),
        }
    }
    let delivery = timeout(SOON, consumer.next()).await.unwrap().unwrap().unwrap();
    let waited = retried.unwrap().elapsed();
    let (received, ticket) = delivery.into_parts();
    assert_eq!((number(&received), received.attempt()), (0, 2));
    assert!(
        waited >= Duration::from_millis(1_500) && waited < Duration::from_secs(8),
        "{waited:?}"
    );
    ticket.ack_confirmed().await.unwrap();
    let spec = SubscribeSpec::dead_letters(&corner.group(), "tasks").unwrap();
    let mut dead = broker.subscribe::<Bytes>(spec).await.unwrap();
    let delivery = timeout(SOON, dead.next()).await.unwrap().unwrap().unwrap();
    let (received, ticket) = delivery.into_parts();
    let letter = received.dead_letter().unwrap();
    assert_eq!((number(&received), letter.reason, letter.attempts), (1, "no good", 1));
    assert_eq!(letter.group, corner.group());
    ticket.ack();
    nothing_comes(&mut consumer).await;
    broker.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn a_new_member_gets_its_share_only_after_running_handlers_have_finished() {
    let corner = corner();
    let (one, two) = (corner.open().await, corner.open().await);
    publish(&one, 0..40).await;
    let mut first = one.subscribe::<Bytes>(corner.spec()).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..40 {
        let delivery = timeout(SOON, first.next()).await.unwrap().unwrap().unwrap();
        held.push(delivery.into_parts());
    }
    let join = tokio::spawn({
        let spec = corner.spec();
        async move {
            let consumer = two.subscribe::<Bytes>(spec).await.unwrap();
            (two, consumer)
        }
    });
    // The first one goes on looking at its events while its handlers run.
    let (mut two, mut second) = (None, None);
    let waiting = async {
        let (broker, consumer) = join.await.unwrap();
        (two, second) = (Some(broker), Some(consumer));
        sleep(Duration::from_secs(3)).await;
    };
    tokio::select! {
        () = waiting => {}
        delivery = first.next() => panic!("{:?}", delivery.map(|d| d.map(|_| ()))),
    }
    let (two, mut second) = (two.unwrap(), second.unwrap());
    nothing_comes(&mut second).await;
    held.into_iter().for_each(|(_, ticket)| ticket.ack());
    publish(&one, 100..300).await;
    let mut seen: BTreeMap<u32, usize> = BTreeMap::new();
    let mut by = [0, 0];
    let until = Instant::now() + SOON;
    while seen.len() < 200 && Instant::now() < until {
        let (delivery, which) = tokio::select! {
            delivery = first.next() => (delivery, 0),
            delivery = second.next() => (delivery, 1),
            () = sleep(Duration::from_millis(100)) => continue,
        };
        let (received, ticket) = delivery.unwrap().unwrap().into_parts();
        *seen.entry(number(&received)).or_default() += 1;
        by[which] += 1;
        ticket.ack();
    }
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), (100..300).collect::<Vec<_>>());
    assert!(seen.values().all(|count| *count == 1), "nothing came twice");
    // Everything that follows is shared.
    publish(&one, 300..700).await;
    let mut rest = 0;
    while rest < 400 {
        let (delivery, which) = tokio::select! {
            delivery = first.next() => (delivery, 0),
            delivery = second.next() => (delivery, 1),
            () = sleep(SOON) => panic!("nothing comes after {rest}"),
        };
        delivery.unwrap().unwrap().into_parts().1.ack();
        by[which] += 1;
        rest += 1;
    }
    assert!(by[1] > 0, "{by:?}");
    // A member that leaves is followed by the other at once.
    drop(second);
    two.close().await.unwrap();
    let began = Instant::now();
    publish(&one, 700..800).await;
    take(&mut first, 100).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    one.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn what_is_in_hand_can_be_settled_after_everything_else_was_dropped() {
    let corner = corner();
    let broker = corner.open().await;
    publish(&broker, 0..20).await;
    let mut consumer = broker.subscribe::<Bytes>(corner.spec()).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(timeout(SOON, consumer.next()).await.unwrap().unwrap().unwrap().into_parts().1);
    }
    drop((consumer, broker));
    let other = corner.open().await;
    let mut next = other.subscribe::<Bytes>(corner.spec()).await.unwrap();
    nothing_comes(&mut next).await;
    for ticket in held {
        ticket.ack_confirmed().await.unwrap();
    }
    publish(&other, 20..30).await;
    let mut later: Vec<u32> = take(&mut next, 10).await.into_iter().map(|one| one.0).collect();
    later.sort_unstable();
    assert_eq!(later, (20..30).collect::<Vec<_>>());
    other.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn a_member_with_other_patterns_is_told_the_groups() {
    let corner = corner();
    let broker = corner.open().await;
    let consumer = broker.subscribe::<Bytes>(corner.spec()).await.unwrap();
    let other = || SubscribeSpec::group(&corner.group(), ["tasks.*"]).unwrap();
    let error = broker.subscribe::<Bytes>(other()).await.unwrap_err();
    let ErrorKind::GroupConflict { theirs: Some(theirs), ours, .. } = error.kind() else {
        panic!("{error:?}");
    };
    assert_eq!((theirs.as_str(), ours.as_str()), ("tasks.#", "tasks.*"));
    drop(consumer);
    broker.close().await.unwrap();
    // The group has no members now, and what it received is known all the same.
    let broker = corner.open().await;
    let error = broker.subscribe::<Bytes>(other()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::GroupConflict { .. }), "{error:?}");
    broker.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn everybody_without_a_group_gets_everything_from_where_they_asked() {
    let corner = corner();
    let broker = corner.open().await;
    publish(&broker, 0..10).await;
    let latest = SubscribeSpec::broadcast(["tasks.#"]).unwrap();
    let mut late = broker.subscribe::<Bytes>(latest.clone()).await.unwrap();
    let mut early = broker.subscribe::<Bytes>(latest.start(Start::Earliest)).await.unwrap();
    publish(&broker, 10..20).await;
    let mut numbers: Vec<u32> = take(&mut late, 10).await.into_iter().map(|one| one.0).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (10..20).collect::<Vec<_>>());
    assert_eq!(take(&mut early, 20).await.len(), 20);
    broker.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn an_ordered_group_keeps_the_order_of_each_key_through_retries() {
    let corner = corner();
    let broker = corner.open().await;
    let publisher = broker.publisher::<Bytes>(SendSpec::to("tasks").unwrap()).await.unwrap();
    for at in 0..60_u32 {
        let body = Bytes::from(at.to_string());
        let message = publisher.message(&body).unwrap().with_key(format!("key-{}", at % 6));
        publisher.publish_message(message).await.unwrap();
    }
    let mut consumer = broker.subscribe::<Bytes>(corner.spec().ordered()).await.unwrap();
    let mut done: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let mut failed = BTreeSet::new();
    while done.values().map(Vec::len).sum::<usize>() < 60 {
        let delivery =
            timeout(SOON, consumer.next()).await.expect("nothing comes").unwrap().unwrap();
        let (received, ticket) = delivery.into_parts();
        let at = number(&received);
        if at % 7 == 3 && failed.insert(at) {
            ticket.retry(Duration::from_secs(1)).unwrap();
        } else {
            done.entry(at % 6).or_default().push(at);
            ticket.ack();
        }
    }
    for (key, all) in done {
        assert!(all.is_sorted() && all.len() == 10, "key {key}: {all:?}");
    }
    broker.close().await.unwrap();
}

#[test]
fn what_a_member_held_that_died_comes_again_as_a_suspect_and_what_it_had_committed_does_not() {
    let corner = corner();
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (mortal, other) = (runtime(), runtime());
    let (held, settled) = mortal.block_on(async {
        let broker = corner.open().await;
        publish(&broker, 0..100).await;
        let mut consumer = broker.subscribe::<Bytes>(corner.spec()).await.unwrap();
        let (mut held, mut settled) = (BTreeSet::new(), BTreeSet::new());
        for _ in 0..100 {
            let delivery = timeout(SOON, consumer.next()).await.unwrap().unwrap().unwrap();
            let (received, ticket) = delivery.into_parts();
            if number(&received).is_multiple_of(10) {
                held.insert(number(&received));
                // Nothing of it runs any more when it dies.
                std::mem::forget(ticket);
            } else {
                settled.insert(number(&received));
                ticket.ack_confirmed().await.unwrap();
            }
        }
        std::mem::forget((broker, consumer));
        (held, settled)
    });
    // All its tasks end where they are, and nobody says goodbye.
    mortal.shutdown_background();
    other.block_on(async {
        let broker = corner.open().await;
        let began = Instant::now();
        let mut consumer = broker.subscribe::<Bytes>(corner.spec()).await.unwrap();
        let again = take(&mut consumer, held.len()).await;
        // The session, and two seconds.
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        assert!(again.iter().all(|(_, attempt)| *attempt == 2), "{again:?}");
        let again: BTreeSet<u32> = again.into_iter().map(|one| one.0).collect();
        assert_eq!(again, held);
        assert!(again.is_disjoint(&settled));
        nothing_comes(&mut consumer).await;
        broker.close().await.unwrap();
    });
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn members_that_come_and_go_lose_nothing() {
    let corner = corner();
    let broker = corner.open().await;
    let seen = std::sync::Arc::new(std::sync::Mutex::new(BTreeMap::<u32, u32>::new()));
    let mut members = Vec::new();
    for at in 0..4_u32 {
        let (config, spec) = (Corner(corner.0.clone()), corner.spec());
        let seen = std::sync::Arc::clone(&seen);
        members.push(tokio::spawn(async move {
            let broker = config.open().await;
            for turn in 0..4_u32 {
                let mut consumer = broker.subscribe::<Bytes>(spec.clone()).await.unwrap();
                let until =
                    Instant::now() + Duration::from_millis(900 + u64::from(at * 300 + turn * 200));
                while let Ok(Some(delivery)) = tokio::time::timeout_at(until, consumer.next()).await
                {
                    let (received, ticket) = delivery.unwrap().into_parts();
                    *seen.lock().unwrap().entry(number(&received)).or_default() += 1;
                    ticket.ack();
                }
            }
            broker.close().await.unwrap();
        }));
    }
    for at in 0..60 {
        publish(&broker, at * 50..(at + 1) * 50).await;
        sleep(Duration::from_millis(100)).await;
    }
    for member in members {
        member.await.unwrap();
    }
    let mut last = broker.subscribe::<Bytes>(corner.spec()).await.unwrap();
    let until = Instant::now() + SOON;
    while seen.lock().unwrap().len() < 3_000 && Instant::now() < until {
        let Ok(Some(delivery)) = timeout(Duration::from_secs(1), last.next()).await else {
            continue;
        };
        let (received, ticket) = delivery.unwrap().into_parts();
        *seen.lock().unwrap().entry(number(&received)).or_default() += 1;
        ticket.ack();
    }
    let seen = seen.lock().unwrap().clone();
    let missing: Vec<u32> = (0..3_000).filter(|at| !seen.contains_key(at)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    // Nobody died: everything was handed over in order.
    let twice = seen.values().filter(|count| **count > 1).count();
    assert_eq!(twice, 0, "{twice} came twice");
    broker.close().await.unwrap();
}
