//! A corner of a cluster for one test, and what is done in it.

use std::num::NonZeroU32;
use std::time::Duration;

use messaging_core::topology::{StreamConfig, StreamKind};
use messaging_core::{
    Broker, Bytes, Consumer, MessageId, Received, SendSpec, SubscribeSpec, Topology,
};
use messaging_kafka::{Kafka, KafkaConfig};
use tokio::time::timeout;

/// How long something that must come may take.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A cluster's own corner: a prefix that nobody else uses.
pub(crate) struct Corner(pub(crate) KafkaConfig);

/// The corner of a test.
pub(crate) fn corner() -> Corner {
    let hint = "cargo xtask up kafka, then cargo xtask env";
    assert!(std::env::var_os("KAFKA_BROKERS").is_some(), "KAFKA_BROKERS is not set; {hint}");
    let mut config = KafkaConfig::from_env().unwrap();
    config.session_timeout = Duration::from_secs(6);
    config.heartbeat = Duration::from_secs(1);
    let prefix = format!("t{}", MessageId::generate().to_string().replace('-', ""));
    Corner(config.with_prefix(&prefix).unwrap())
}

/// A stream of so many partitions.
pub(crate) fn tasks(partitions: u32) -> Topology {
    let tasks = StreamConfig::new("tasks".parse().unwrap(), StreamKind::Work);
    Topology::new([tasks.partitions(NonZeroU32::new(partitions).unwrap())])
        .tiers([Duration::from_secs(1), Duration::from_secs(2)])
}

impl Corner {
    pub(crate) async fn open(&self) -> Broker {
        self.open_with(4).await
    }

    pub(crate) async fn open_with(&self, partitions: u32) -> Broker {
        let driver = Kafka::connect(self.0.clone()).await.unwrap();
        Broker::builder(driver).topology(tasks(partitions)).open().await.unwrap()
    }

    pub(crate) fn group(&self) -> String {
        format!("group-{}", self.0.prefix)
    }

    pub(crate) fn spec(&self) -> SubscribeSpec {
        SubscribeSpec::group(&self.group(), ["tasks.#"]).unwrap()
    }
}

pub(crate) async fn publish(broker: &Broker, range: std::ops::Range<u32>) {
    let publisher = broker.publisher::<Bytes>(SendSpec::to("tasks").unwrap()).await.unwrap();
    let bodies: Vec<Bytes> = range.map(|at| Bytes::from(at.to_string())).collect();
    for outcome in publisher.publish_all(bodies).await {
        outcome.unwrap();
    }
}

pub(crate) fn number(received: &Received<Bytes>) -> u32 {
    std::str::from_utf8(received).unwrap().parse().unwrap()
}

/// Takes deliveries until `count` are there, and acks each as it is told to.
pub(crate) async fn take(consumer: &mut Consumer<Bytes>, count: usize) -> Vec<(u32, u32)> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let delivery =
            timeout(SOON, consumer.next()).await.expect("nothing comes").unwrap().unwrap();
        let (received, ticket) = delivery.into_parts();
        seen.push((number(&received), received.attempt()));
        ticket.ack();
    }
    seen
}

pub(crate) async fn nothing_comes(consumer: &mut Consumer<Bytes>) {
    if let Ok(Some(delivery)) = timeout(Duration::from_secs(2), consumer.next()).await {
        let (received, _) = delivery.unwrap().into_parts();
        panic!("{} came, attempt {}", number(&received), received.attempt());
    }
}
