//! A broker of the tests' own, behind a relay, and what others see of its topics.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use messaging_core::topology::{StreamConfig, StreamKind};
use messaging_core::{Broker, Message, Receipt, Result, Topology};
use messaging_kafka::config::{Address, WritePath};
use messaging_kafka::{Kafka, KafkaConfig};
use rskafka::client::partition::{OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder, Credentials, SaslConfig};
use rskafka::record::RecordAndOffset;
use tokio::task::JoinSet;
use xtask::brokers::{Kind, Options, Private};

use crate::relay::Relay;

pub(crate) const PASSWORD: &str = "p@ss word/of%20this:test";

/// A broker and the runtime that serves its relay.
pub(crate) struct Stand {
    pub(crate) brokers: Private,
    pub(crate) relay: Relay,
    pub(crate) runtime: tokio::runtime::Runtime,
    _serving: JoinSet<()>,
}

impl Stand {
    /// Starts a broker, or says why there can't be one.
    pub(crate) fn start() -> Result<Self, String> {
        let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
        let relay = Relay::bind();
        let login = format!(
            "org.apache.kafka.common.security.plain.PlainLoginModule required \
             username=\"broker\" password=\"{PASSWORD}\" user_broker=\"{PASSWORD}\";"
        );
        let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
        let protocols = "CLIENT:PLAINTEXT,BROKER:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT";
        let options = Options::new(Kind::Kafka)
            .with_advertised_ports(&[relay.port])
            .with_setting("listener.security.protocol.map", protocols)
            .with_setting("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512")
            .with_setting("sasl.mechanism.inter.broker.protocol", "PLAIN")
            .with_setting("listener.name.broker.plain.sasl.jaas.config", &login)
            .with_setting("listener.name.broker.scram-sha-256.sasl.jaas.config", scram)
            .with_setting("listener.name.broker.scram-sha-512.sasl.jaas.config", scram);
        let options = options
            .with_setting(
                "authorizer.class.name",
                "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            )
            .with_setting("super.users", "User:ANONYMOUS;User:broker;User:app");
        let brokers = Private::start("kafka-writing", options)?;
        let server = brokers.address(brokers.servers()[0])?;
        let serving = runtime.block_on(async { relay.serve(server) });
        Ok(Self { brokers, relay, runtime, _serving: serving })
    }

    /// Where the broker itself listens.
    pub(crate) fn server(&self) -> SocketAddr {
        self.brokers.address(self.brokers.servers()[0]).unwrap()
    }

    /// The port of the listener that asks who we are.
    pub(crate) fn sasl_port(&self) -> u16 {
        let log = self.brokers.log(self.brokers.servers()[0]).unwrap();
        let properties = log.parent().unwrap().join("server.properties");
        let text = std::fs::read_to_string(properties).unwrap();
        let (_, rest) = text.split_once("BROKER://127.0.0.1:").unwrap();
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
    }

    /// A configuration with a prefix of its own.
    pub(crate) fn config(&self) -> KafkaConfig {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("t{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        KafkaConfig::default()
            .with_servers([Address::new("127.0.0.1", self.relay.port)])
            .with_prefix(&prefix)
            .unwrap()
    }

    /// Runs one of Kafka's own tools.
    pub(crate) fn tool(&self, name: &str, args: &[&str]) -> String {
        let args = args.iter().map(OsString::from).collect();
        let output = self.brokers.kafka_tool(name, args).unwrap().output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// rskafka, connected to the same broker beside the relay.
    pub(crate) async fn others(&self) -> Client {
        let address = format!("127.0.0.1:{}", self.sasl_port());
        let known = Credentials::new("broker".to_owned(), PASSWORD.to_owned());
        let builder = ClientBuilder::new(vec![address]).sasl_config(SaslConfig::Plain(known));
        builder.build().await.unwrap()
    }
}

pub(crate) const PATHS: [WritePath; 2] = [WritePath::Direct, WritePath::Rskafka];

pub(crate) fn on(mut config: KafkaConfig, path: WritePath) -> KafkaConfig {
    config.write_path = path;
    config
}

/// Opens a broker with one stream of so many partitions.
pub(crate) async fn open(config: KafkaConfig, partitions: u32) -> Broker {
    let stream = StreamConfig::new("tasks".parse().unwrap(), StreamKind::Work)
        .partitions(partitions.try_into().unwrap());
    let kafka = Kafka::connect(config).await.unwrap();
    Broker::builder(kafka).topology(Topology::new([stream])).max_body(8 << 20).open().await.unwrap()
}

pub(crate) fn message(key: Option<&str>, body: impl Into<messaging_core::Bytes>) -> Message {
    let message = Message::new("tasks.test".parse().unwrap(), body);
    match key {
        Some(key) => message.with_key(key.as_bytes().to_vec()),
        None => message,
    }
}

/// Publishes in order and waits for all outcomes.
pub(crate) async fn publish(
    broker: &Broker,
    all: impl IntoIterator<Item = Message>,
) -> Vec<Result<Receipt>> {
    let spec = messaging_core::SendSpec::to("tasks").unwrap();
    let publisher = broker.publisher::<messaging_core::Bytes>(spec).await.unwrap();
    let mut pending = Vec::new();
    for one in all {
        pending.push(publisher.enqueue_message(one).await.unwrap());
    }
    futures::future::join_all(pending).await
}

pub(crate) async fn partition(client: &Client, topic: &str, number: i32) -> PartitionClient {
    client.partition_client(topic, number, UnknownTopicHandling::Error).await.unwrap()
}

/// Everything that a partition keeps, as another client reads it.
pub(crate) async fn read(client: &Client, topic: &str, number: i32) -> Vec<RecordAndOffset> {
    let partition = partition(client, topic, number).await;
    let end = partition.get_offset(OffsetAt::Latest).await.unwrap();
    let mut all: Vec<RecordAndOffset> = Vec::new();
    while all.len() < usize::try_from(end).unwrap() {
        let from = i64::try_from(all.len()).unwrap();
        all.extend(partition.fetch_records(from, 1..8 << 20, 1_000).await.unwrap().0);
    }
    all
}

/// Waits until a partition keeps so many records.
pub(crate) async fn keeps(client: &Client, topic: &str, number: i32, count: i64) {
    let partition = partition(client, topic, number).await;
    while partition.get_offset(OffsetAt::Latest).await.unwrap() < count {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
