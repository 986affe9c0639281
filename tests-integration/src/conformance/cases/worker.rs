#![expect(clippy::unwrap_used, clippy::panic, reason = "a case fails by panicking")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use messaging::{
    Broker, Bytes, ErrorKind, Received, RetryPolicy, SubscribeSpec, Task, Verdict, json,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::cases;
use crate::conformance::stage::{
    Stage, bodies, consume, group, next, numbers, publish, publish_numbers, text,
};

cases! {
    a_worker_handles_what_is_published [] [Settlement, Groups];
    a_failing_message_is_retried_later_each_time_and_then_a_dead_letter ["C10", "C16"] [Settlement, Groups, DelayedRetry, DeadLetters];
    a_panic_and_a_timeout_are_failed_attempts ["C10"] [Settlement, Groups, DeadLetters];
    a_verdict_can_reject_at_once [] [Settlement, Groups, DeadLetters];
    no_more_handlers_run_than_allowed ["C6"] [Settlement, Groups];
    stopping_lets_handlers_end_and_returns_the_rest_uncounted ["C10"] [Settlement, Groups];
    what_is_cut_off_after_the_grace_time_returns_uncounted ["C10"] [Settlement, Groups];
    settled_waits_for_its_count_and_says_when_it_can_not_come [] [Settlement, Groups];
}

const AT_ONCE: RetryPolicy = RetryPolicy::fixed(Duration::ZERO);

/// The reason and the attempts of the one dead letter.
async fn dead_letter(broker: &Broker) -> (String, u32) {
    let spec = SubscribeSpec::dead_letters("morgue", "tasks").unwrap();
    let kept = next(&mut consume(broker, spec).await).await;
    let why = kept.dead_letter().unwrap();
    (why.reason.to_owned(), why.attempts)
}

async fn a_worker_handles_what_is_published(stage: Stage) {
    let broker = stage.broker().await;
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&seen);
    let handle = move |task: Received<Task>| {
        log.lock().unwrap().push(task.kind.clone());
        async {}
    };
    let worker = broker.worker("g", ["tasks.#"]).spawn(handle).await.unwrap();
    for kind in ["a", "b", "c"] {
        broker.publish(&Task::new(kind, json!({}))).await.unwrap();
    }
    worker.settled(3).await.unwrap();
    let report = worker.stop().await.unwrap();
    assert_eq!((report.acked, report.settled()), (3, 3));
    seen.lock().unwrap().sort();
    assert_eq!(*seen.lock().unwrap(), ["a", "b", "c"]);
}

async fn a_failing_message_is_retried_later_each_time_and_then_a_dead_letter(stage: Stage) {
    let broker = stage.broker().await;
    let times: Arc<Mutex<Vec<(u32, Instant)>>> = Arc::default();
    let log = Arc::clone(&times);
    let handle = move |message: Received<Bytes>| {
        log.lock().unwrap().push((message.attempt(), Instant::now()));
        async move { Err::<(), _>(format!("attempt {} failed", message.attempt())) }
    };
    let worker = broker.worker("g", ["tasks.#"]).spawn(handle).await.unwrap();
    publish(&broker, "tasks.x", "x").await;
    worker.settled(1).await.unwrap();
    let report = worker.stop().await.unwrap();
    assert_eq!((report.retried, report.rejected), (3, 1));
    let times = times.lock().unwrap().clone();
    assert_eq!(times.iter().map(|(attempt, _)| *attempt).collect::<Vec<_>>(), [1, 2, 3, 4]);
    for (pair, least) in times.windows(2).zip([1, 2, 4]) {
        let [(_, before), (_, after)] = pair else { panic!() };
        assert!(
            *after - *before >= Duration::from_secs(least),
            "{:?} after {least} s",
            *after - *before
        );
    }
    assert_eq!(dead_letter(&broker).await, ("attempt 4 failed".to_owned(), 4));
}

async fn a_panic_and_a_timeout_are_failed_attempts(stage: Stage) {
    let broker = stage.broker().await;
    let handle = |message: Received<Bytes>| async move {
        match message.attempt() {
            1 => panic!("on purpose"),
            2 => std::future::pending::<()>().await,
            _ => return Verdict::fail("third"),
        }
        Verdict::Ack
    };
    let worker = broker.worker("g", ["tasks.#"]).attempts(3).retry(AT_ONCE);
    let worker = worker.timeout(Duration::from_millis(300)).spawn(handle).await.unwrap();
    publish(&broker, "tasks.x", "x").await;
    worker.settled(1).await.unwrap();
    assert_eq!(worker.stop().await.unwrap().retried, 2);
    assert_eq!(dead_letter(&broker).await, ("third".to_owned(), 3));
}

async fn a_verdict_can_reject_at_once(stage: Stage) {
    let broker = stage.broker().await;
    let handle = |_: Received<Bytes>| async { Verdict::reject("not for us") };
    let worker = broker.worker("g", ["tasks.#"]).spawn(handle).await.unwrap();
    publish(&broker, "tasks.x", "x").await;
    worker.settled(1).await.unwrap();
    assert_eq!(worker.stop().await.unwrap().rejected, 1);
    assert_eq!(dead_letter(&broker).await, ("not for us".to_owned(), 1));
}

async fn no_more_handlers_run_than_allowed(stage: Stage) {
    let broker = stage.broker().await;
    let (running, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let highest = Arc::clone(&most);
    let handle = move |_: Received<Bytes>| {
        let (running, most) = (Arc::clone(&running), Arc::clone(&most));
        async move {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
            running.fetch_sub(1, Ordering::SeqCst);
        }
    };
    let worker = broker.worker("g", ["tasks.#"]).concurrency(3).spawn(handle).await.unwrap();
    publish_numbers(&broker, "tasks.n", 30).await;
    worker.settled(30).await.unwrap();
    worker.stop().await.unwrap();
    assert_eq!(highest.load(Ordering::SeqCst), 3);
}

async fn stopping_lets_handlers_end_and_returns_the_rest_uncounted(stage: Stage) {
    let broker = stage.broker().await;
    let gate = Arc::new(Semaphore::new(0));
    let (started, mut starts) = tokio::sync::mpsc::channel(10);
    let open = Arc::clone(&gate);
    let handle = move |_: Received<Bytes>| {
        let (gate, started) = (Arc::clone(&open), started.clone());
        async move {
            started.send(()).await.unwrap();
            drop(gate.acquire().await);
        }
    };
    let worker = broker.worker("g", ["events.#"]).concurrency(2).prefetch(10).spawn(handle).await;
    let worker = worker.unwrap();
    publish_numbers(&broker, "events.n", 10).await;
    starts.recv().await.unwrap();
    starts.recv().await.unwrap();
    let mut stopping = JoinSet::new();
    stopping.spawn(worker.stop());
    let mut rest = consume(&broker, group("g", "events.#")).await;
    let first = next(&mut rest).await;
    assert_eq!(first.attempt(), 1);
    first.ack();
    gate.add_permits(10);
    assert_eq!(stopping.join_next().await.unwrap().unwrap().unwrap().acked, 2);
    let mut left = Vec::new();
    for _ in 0..7 {
        let delivery = next(&mut rest).await;
        assert_eq!(delivery.attempt(), 1);
        left.push(text(&delivery));
        delivery.ack();
    }
    assert_eq!(left.len(), 7);
}

async fn what_is_cut_off_after_the_grace_time_returns_uncounted(stage: Stage) {
    let broker = stage.broker().await;
    let (started, mut starts) = tokio::sync::mpsc::channel(10);
    let handle = move |_: Received<Bytes>| {
        let started = started.clone();
        async move {
            started.send(()).await.unwrap();
            std::future::pending::<()>().await;
        }
    };
    let worker = broker.worker("g", ["tasks.#"]).grace(Duration::from_millis(100));
    let worker = worker.spawn(handle).await.unwrap();
    publish(&broker, "tasks.x", "x").await;
    starts.recv().await.unwrap();
    let report = worker.stop().await.unwrap();
    assert_eq!((report.acked, report.released), (0, 1));
    let again = next(&mut consume(&broker, group("g", "tasks.#")).await).await;
    assert_eq!((text(&again), again.attempt()), ("x".to_owned(), 1));
    again.ack();
}

async fn settled_waits_for_its_count_and_says_when_it_can_not_come(stage: Stage) {
    let broker = stage.broker().await;
    let worker =
        broker.worker("g", ["tasks.#"]).spawn(|_: Received<Bytes>| async {}).await.unwrap();
    publish_numbers(&broker, "tasks.n", 2).await;
    worker.settled(2).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(200), worker.settled(3)).await;
    assert!(early.is_err());
    broker.close().await.unwrap();
    let error = worker.settled(3).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Closed);
    drop(worker.stop().await);
    let again = stage.broker().await;
    publish_numbers(&again, "tasks.n", 2).await;
    let mut consumer = consume(&again, group("g", "tasks.#")).await;
    assert_eq!(bodies(&mut consumer, 2).await, numbers(2));
}
