#![expect(clippy::unwrap_used, clippy::panic, reason = "a case fails by panicking")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use messaging::observe::{Notice, Observer};
use messaging::{Broker, Gap, Task, json};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::cases;
use crate::conformance::server::Foreign;
use crate::conformance::stage::{
    Stage, bodies, consume, group, next, publish, publish_numbers, silence, text,
};

cases! {
    what_the_brokers_own_tool_writes_is_received [] [Settlement, Groups] Shared;
    what_we_write_is_read_by_the_brokers_own_tool [] [Settlement, Groups] Shared;
    what_a_python_program_writes_is_received [] [Settlement, Groups] Shared;
    what_we_write_is_read_by_a_python_program [] [Settlement, Groups] Shared;
    a_group_deleted_in_use_begins_anew_and_is_seen_as_a_gap ["C15"] [Settlement, Groups] Shared;
    a_stream_deleted_in_use_begins_anew_and_is_seen_as_a_gap ["C15"] [Settlement, Groups] Shared;
    what_is_deleted_while_it_is_pending_is_a_gap_that_counts_it ["C15"] [Settlement, Groups, ReadRange] Shared;
}

async fn what_the_brokers_own_tool_writes_is_received(stage: Stage) {
    is_received(&stage, Foreign::Tool).await;
}

async fn what_we_write_is_read_by_the_brokers_own_tool(stage: Stage) {
    is_read(&stage, Foreign::Tool).await;
}

async fn what_a_python_program_writes_is_received(stage: Stage) {
    for library in stage.server().0.libraries() {
        is_received(&stage, Foreign::Python(library)).await;
    }
}

async fn what_we_write_is_read_by_a_python_program(stage: Stage) {
    for library in stage.server().0.libraries() {
        is_read(&stage, Foreign::Python(library)).await;
    }
}

/// The body alone makes a message. Where the broker has no place for a subject, it is that of its
/// JSON type, if that is legal. Its id stays the same.
async fn is_received(stage: &Stage, client: Foreign) {
    stage.needs_client(client).await;
    let broker = stage.broker().await;
    let mut consumer = consume(&broker, group("g", "tasks.#")).await;
    let bodies = [
        (r#"{"type":"debate.round","payload":{"n":1}}"#, "tasks.debate.round"),
        (r#"{"type":"not legal","payload":{}}"#, "tasks"),
        ("no JSON at all", "tasks"),
    ];
    for (body, subject) in bodies {
        stage.server().run(move |server| server.write(client, subject, body)).await;
        let first = next(&mut consumer).await;
        assert_eq!((text(&first).as_str(), &*first.message().subject), (body, subject));
        let id = first.message().id.clone();
        drop(first);
        let again = next(&mut consumer).await;
        assert_eq!((&again.message().id, again.attempt()), (&id, 2));
        again.ack();
    }
}

/// The body of a typed message is its JSON and nothing else.
async fn is_read(stage: &Stage, client: Foreign) {
    stage.needs_client(client).await;
    let broker = stage.broker().await;
    // A stream that no group needs is emptied.
    let _consumer = consume(&broker, group("g", "tasks.#")).await;
    stage.server().run(|server| server.prepare_reading("tasks")).await;
    let task = Task::new("completion", json!({ "model": "helix-ensemble", "n": 1 }));
    broker.publish(&task).await.unwrap();
    let bodies = stage.server().run(move |server| server.read(client, "tasks")).await;
    let [body] = &bodies[..] else { panic!("one message was written, and read: {bodies:?}") };
    let read: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(read, serde_json::to_value(&task).unwrap());
    assert_eq!(read.get("type").unwrap(), "completion");
}

/// Remembers gaps.
#[derive(Debug, Default)]
struct Gaps {
    seen: Mutex<Vec<Gap>>,
    more: Notify,
}

impl Observer for Gaps {
    fn notice(&self, notice: &Notice) {
        if let Notice::Gap(gap) = notice {
            self.seen.lock().unwrap().push(gap.clone());
            self.more.notify_one();
        }
    }
}

impl Gaps {
    async fn wait(&self) {
        let waiting = timeout(Duration::from_secs(20), async {
            while self.seen.lock().unwrap().is_empty() {
                self.more.notified().await;
            }
        });
        assert!(waiting.await.is_ok(), "no gap was seen");
    }
}

async fn observed(stage: &Stage) -> (Broker, Arc<Gaps>) {
    let gaps = Arc::new(Gaps::default());
    let observer: Arc<dyn Observer> = Arc::<Gaps>::clone(&gaps);
    (stage.builder().await.observer(observer).open().await.unwrap(), gaps)
}

async fn a_group_deleted_in_use_begins_anew_and_is_seen_as_a_gap(stage: Stage) {
    deleted(&stage, Deleted::Group).await;
}

async fn a_stream_deleted_in_use_begins_anew_and_is_seen_as_a_gap(stage: Stage) {
    deleted(&stage, Deleted::Stream).await;
}

#[derive(Clone, Copy)]
enum Deleted {
    Group,
    Stream,
}

/// One message is in hand and one was settled when it is deleted. Messages after that arrive. A
/// broker that keeps a group from being deleted says so, and nothing happens.
async fn deleted(stage: &Stage, what: Deleted) {
    let (broker, gaps) = observed(stage).await;
    let mut consumer = consume(&broker, group("g", "tasks.#")).await;
    publish(&broker, "tasks.n", "settled").await;
    next(&mut consumer).await.ack_confirmed().await.unwrap();
    publish(&broker, "tasks.n", "held").await;
    let held = next(&mut consumer).await;
    if let (Deleted::Group, true) = (what, stage.server().0.keeps_groups_in_use()) {
        let refused = stage.server().run(|server| Ok(server.forget_group("tasks", "g"))).await;
        assert!(refused.is_err(), "a group was deleted in use");
        held.ack_confirmed().await.unwrap();
        publish(&broker, "tasks.n", "after").await;
        assert_eq!(bodies(&mut consumer, 1).await, ["after"]);
        return assert_eq!(gaps.missed(), 0);
    }
    stage
        .server()
        .run(move |server| match what {
            Deleted::Group => server.forget_group("tasks", "g"),
            Deleted::Stream => server.forget_stream("tasks"),
        })
        .await;
    let waiting = async {
        // The subscription is read, so that what it has to say comes.
        loop {
            let delivery = next(&mut consumer).await;
            let body = text(&delivery);
            delivery.ack();
            if body == "after" {
                return;
            }
        }
    };
    let publishing = async {
        gaps.wait().await;
        publish(&broker, "tasks.n", "after").await;
    };
    let both = async { futures::join!(waiting, publishing) };
    assert!(timeout(Duration::from_secs(30), both).await.is_ok(), "it does not go on");
    held.ack();
}

/// Only where messages are in a stream, whoever has them in hand.
async fn what_is_deleted_while_it_is_pending_is_a_gap_that_counts_it(stage: Stage) {
    let (broker, gaps) = observed(&stage).await;
    let mut consumer = consume(&broker, group("g", "tasks.#")).await;
    publish_numbers(&broker, "tasks.n", 3).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(next(&mut consumer).await);
    }
    stage.server().run(|server| server.trim("tasks")).await;
    if stage.server().0.keeps_what_is_in_hand() {
        // The member that has them repeats them; who comes after it can't.
        for delivery in held.drain(..) {
            delivery.retry(Duration::ZERO).unwrap();
        }
        for _ in 0..3 {
            held.push(next(&mut consumer).await);
        }
        drop(consumer);
        drop(held);
        consumer = consume(&broker, group("g", "tasks.#")).await;
    } else {
        for delivery in held {
            delivery.retry(Duration::ZERO).unwrap();
        }
    }
    let missed = async {
        while gaps.missed() < 3 {
            gaps.more.notified().await;
        }
    };
    let quiet = async {
        silence(&mut consumer).await;
        silence(&mut consumer).await;
    };
    let seen = async { futures::join!(quiet, timeout(Duration::from_secs(20), missed)) };
    let ((), missed) = seen.await;
    assert!(missed.is_ok(), "{} of 3 are said to be missed", gaps.missed());
    assert_eq!(gaps.missed(), 3);
    publish(&broker, "tasks.n", "after").await;
    let after = next(&mut consumer).await;
    assert_eq!(text(&after), "after");
    after.ack();
}

impl Gaps {
    fn missed(&self) -> u64 {
        self.seen.lock().unwrap().iter().filter_map(|gap| gap.missed).sum()
    }
}
