//! Kafka brokers that go away, one after the other or two of three at once.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::BTreeSet;
use std::time::Duration;

use messaging::kafka::{Kafka, KafkaConfig};
use messaging::{Broker, Bytes, Message, Publisher, SendSpec, Subject, SubscribeSpec};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use xtask::brokers::{Kind, Options, Private};

/// How long a publish may take. It is less than what passes between two tries of a long outage.
const HASTE: Duration = Duration::from_millis(300);

/// Within what time a partition has another leader, who is found.
const SOON: Duration = Duration::from_secs(15);

/// Within what time brokers that were gone have taken up their work.
const LATER: Duration = Duration::from_secs(60);

/// As many as a partition of each leader gets some of.
const KEYS: u8 = 16;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs three brokers; cargo xtask test starts them"]
async fn a_publisher_with_little_time_finds_who_leads_after_a_leader_is_gone() {
    let (nodes, broker) = three_nodes().await;
    let send = SendSpec::to("tasks").unwrap().timeout(HASTE);
    let publisher = broker.publisher::<Bytes>(send).await.unwrap();
    everywhere(&publisher, SOON).await;
    for node in nodes.servers() {
        nodes.kill(node).unwrap();
        everywhere(&publisher, SOON).await;
        nodes.start_node(node).unwrap();
    }
    broker.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs three brokers; cargo xtask test starts them"]
async fn nothing_is_confirmed_while_two_of_three_are_gone_and_nothing_confirmed_is_lost() {
    let (nodes, broker) = three_nodes().await;
    let send = SendSpec::to("tasks").unwrap().timeout(Duration::from_secs(3));
    let publisher = broker.publisher::<Bytes>(send).await.unwrap();
    let bodies = |range: std::ops::Range<u32>| range.map(|at| Bytes::from(at.to_string()));
    for outcome in publisher.publish_all(bodies(0..200)).await {
        outcome.unwrap();
    }
    for node in &nodes.servers()[1..] {
        nodes.kill(node).unwrap();
    }
    let meanwhile = publisher.publish_all(bodies(200..300)).await;
    assert!(meanwhile.iter().all(Result::is_err), "{meanwhile:?}");
    for node in &nodes.servers()[1..] {
        nodes.start_node(node).unwrap();
    }
    everywhere(&publisher, LATER).await;
    let spec = SubscribeSpec::group("g", ["tasks.#"]).unwrap();
    let mut consumer = broker.subscribe::<Bytes>(spec).await.unwrap();
    let mut missing: BTreeSet<Bytes> = bodies(0..200).collect();
    while !missing.is_empty() {
        let delivery = timeout(LATER, consumer.next()).await.unwrap().unwrap().unwrap();
        missing.remove(&delivery.message().body);
        delivery.ack();
    }
    broker.close().await.unwrap();
}

async fn three_nodes() -> (Private, Broker) {
    let start = || Private::start("test", Options::new(Kind::Kafka).with_nodes(3));
    let nodes = spawn_blocking(start).await.unwrap().unwrap();
    let get = |name: &str| Ok(nodes.variable(name));
    let driver = Kafka::connect(KafkaConfig::from_variables(get).unwrap()).await.unwrap();
    let broker = Broker::builder(driver).open().await.unwrap();
    (nodes, broker)
}

/// Publishes to every partition, again and again until it is confirmed.
async fn everywhere(publisher: &Publisher<Bytes>, limit: Duration) {
    for key in 0..KEYS {
        let confirmed = async {
            let message = || {
                let subject = Subject::from_static("tasks.x");
                Message::new(subject, "body").with_key(vec![key])
            };
            while publisher.publish_message(message()).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(timeout(limit, confirmed).await.is_ok(), "key {key} is not confirmed");
    }
}
