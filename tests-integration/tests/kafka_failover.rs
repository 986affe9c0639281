//! Kafka brokers that go away one after the other, and a publisher that has little time.

use std::time::Duration;

use messaging::kafka::{Kafka, KafkaConfig};
use messaging::{Broker, Bytes, Message, Publisher, SendSpec, Subject};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use xtask::brokers::{Kind, Options, Private};

/// How long a publish may take. It is less than what passes between two tries of a long outage.
const HASTE: Duration = Duration::from_millis(300);

/// Within what time a partition has another leader, who is found.
const SOON: Duration = Duration::from_secs(15);

/// As many as a partition of each leader gets some of.
const KEYS: u8 = 16;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs three brokers; cargo xtask test starts them"]
async fn a_publisher_with_little_time_finds_who_leads_after_a_leader_is_gone() {
    let start = || Private::start("test", Options::new(Kind::Kafka).with_nodes(3));
    let nodes = spawn_blocking(start).await.unwrap().unwrap();
    let get = |name: &str| Ok(nodes.variable(name));
    let driver = Kafka::connect(KafkaConfig::from_variables(get).unwrap()).await.unwrap();
    let broker = Broker::builder(driver).open().await.unwrap();
    let send = SendSpec::to("tasks").unwrap().timeout(HASTE);
    let publisher = broker.publisher::<Bytes>(send).await.unwrap();
    everywhere(&publisher).await;
    for node in nodes.servers() {
        nodes.kill(node).unwrap();
        everywhere(&publisher).await;
        nodes.start_node(node).unwrap();
    }
    broker.close().await.unwrap();
}

/// Publishes to every partition, again and again until it is confirmed.
async fn everywhere(publisher: &Publisher<Bytes>) {
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
        assert!(timeout(SOON, confirmed).await.is_ok(), "key {key} is not confirmed");
    }
}
