#![expect(clippy::unwrap_used, clippy::panic, reason = "a case fails by panicking")]

use std::time::Duration;

use messaging::{Broker, Bytes, Error, ErrorKind, Publisher, SendSpec, SubscribeSpec};
use tokio::time::{Instant, timeout};

use super::cases;
use crate::conformance::stage::{Stage, message};

cases! {
    every_call_to_a_server_that_hangs_ends_by_its_deadline ["C14"] [Listen] Own;
    what_is_not_on_the_wire_waits_for_the_server_to_come_back ["C15"] [] Own;
    closing_without_a_server_ends_in_time_and_leaves_nothing_open ["C3", "C12"] [] Own;
}

/// How much later than its deadline a call may end.
const TOLERANCE: Duration = Duration::from_millis(250);

/// How long connecting may take to fail.
const CONNECTING: Duration = Duration::from_secs(5);

/// How long something that must end may take where it has no deadline of its own.
const SOON: Duration = Duration::from_secs(20);

/// After how long a lost connection is known.
const LOST: Duration = Duration::from_secs(10);

/// Longer than any server takes to start on a busy machine.
const RESTARTED: Duration = Duration::from_secs(90);

async fn publisher(broker: &Broker, timeout: Duration) -> Publisher<Bytes> {
    let spec = SendSpec::to("debates").unwrap().timeout(timeout);
    broker.publisher(spec).await.unwrap()
}

/// What it gives, if that was by its deadline.
async fn by<T>(what: &str, deadline: Duration, call: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let given = timeout(deadline + SOON, call).await;
    let took = begun.elapsed();
    assert!(took <= deadline + TOLERANCE, "{what} ended after {took:?}, not {deadline:?}");
    given.unwrap()
}

async fn every_call_to_a_server_that_hangs_ends_by_its_deadline(stage: Stage) {
    let two = Duration::from_secs(2);
    // Far less room than what is published at once.
    let broker = stage.builder().await.window(1_000, 1 << 20).open().await.unwrap();
    let publisher = publisher(&broker, two).await;
    publisher.publish(&Bytes::from("before")).await.unwrap();
    stage.server().run(|server| server.pause()).await;
    let many = vec![Bytes::from("into the void"); 8_000];
    let outcomes = by("publishing many", two, publisher.publish_all(many)).await;
    assert_eq!(outcomes.len(), 8_000);
    let kind = |outcome: &Result<_, Error>| outcome.as_ref().unwrap_err().kind().clone();
    let kinds: Vec<ErrorKind> = outcomes.iter().map(kind).collect();
    let vain = |kind: &ErrorKind| matches!(kind, ErrorKind::NotSent | ErrorKind::OutcomeUnknown);
    assert!(kinds.iter().all(vain), "{kinds:?}");
    assert!(kinds.contains(&ErrorKind::NotSent), "nothing is said to be not sent");
    let spec = SubscribeSpec::broadcast(["debates.#"]).unwrap().timeout(two);
    let error = by("listening", two, broker.listen::<Bytes>(spec)).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable), "{error:?}");
    let health = by("asking for health", CONNECTING, broker.admin().unwrap().health()).await;
    assert!(health.is_err() || health.is_ok_and(|health| !health.serving));
    let error = by("connecting", CONNECTING, stage.connect()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable), "{error:?}");
    stage.server().run(|server| server.resume()).await;
    by("connecting anew", SOON, async { while stage.connect().await.is_err() {} }).await;
}

async fn what_is_not_on_the_wire_waits_for_the_server_to_come_back(stage: Stage) {
    let broker = stage.broker().await;
    let first = publisher(&broker, LOST).await;
    let patient = publisher(&broker, RESTARTED).await;
    first.publish(&Bytes::from("connected")).await.unwrap();
    stage.server().run(|server| server.kill()).await;
    // It may be sent into the lost connection, and its end shows that this is known.
    let error = first.publish(&Bytes::from("first")).await.unwrap_err();
    let vain = matches!(error.kind(), ErrorKind::NotSent | ErrorKind::OutcomeUnknown);
    assert!(vain, "{error:?}");
    let mut late = Vec::new();
    for _ in 0..100 {
        late.push(patient.enqueue(&Bytes::from("late")).await.unwrap());
    }
    stage.server().run(|server| server.start()).await;
    for pending in late {
        pending.await.unwrap();
    }
}

async fn closing_without_a_server_ends_in_time_and_leaves_nothing_open(stage: Stage) {
    let broker = stage.broker().await;
    let publisher = publisher(&broker, SOON).await;
    publisher.publish(&Bytes::from("connected")).await.unwrap();
    stage.server().run(|server| server.kill()).await;
    let mut left = Vec::new();
    for _ in 0..100 {
        left.push(publisher.enqueue(&Bytes::from("left")).await.unwrap());
    }
    let grace = Duration::from_millis(100);
    // What waits for the server is not flushed, and a driver may say so.
    if let Err(error) = timeout(SOON, broker.close_within(grace)).await.unwrap() {
        assert_eq!(*error.kind(), ErrorKind::Timeout, "{error:?}");
    }
    for pending in left {
        let ended = timeout(TOLERANCE, pending).await.unwrap();
        match ended.map_err(|error| error.kind().clone()) {
            Err(ErrorKind::Closed | ErrorKind::OutcomeUnknown) => {}
            other => panic!("a publish at the end ended with {other:?}"),
        }
    }
    let error = broker.publish_message(message("debates.n", "")).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Closed);
}
