//! Members beside ours, and members that come back.

use std::ffi::OsString;
use std::process::{Child, Stdio};
use std::time::Duration;

use messaging_core::{Bytes, ErrorKind};
use messaging_kafka::KafkaConfig;
use messaging_kafka::config::{Address, Mechanism};
use tokio::time::{Instant, timeout};

use crate::stand::{PASSWORD, Stand, message, publish};
use crate::{SOON, bodies, group, next, open};

/// Ended with the test that started it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

pub(crate) async fn eager_members_of_the_same_group_are_told(stand: &Stand) {
    let config = stand.config();
    let (topic, id) = (format!("{}.tasks", config.prefix), format!("{}.group.g", config.prefix));
    let (broker, _) = open(&config, 1).await;
    let args = ["--topic", &topic, "--group", &id].map(OsString::from);
    let mut tool = stand.brokers.kafka_tool("console-consumer", args.into()).unwrap();
    tool.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let foreign = Running(tool.spawn().unwrap());
    let began = Instant::now();
    // Whoever is the first decides, and both retry.
    while !stand
        .tool("consumer-groups", &["--describe", "--members", "--group", &id])
        .contains("console-consumer")
    {
        assert!(began.elapsed() < SOON, "the foreign member does not join");
    }
    let error = broker.subscribe::<Bytes>(group()).await.unwrap_err();
    let ErrorKind::GroupConflict { ours, .. } = error.kind() else { panic!("{error:?}") };
    assert_eq!(ours, "messaging-cooperative-1");
    assert!(error.to_string().contains("another client"), "{error}");
    drop(foreign);
    broker.close().await.unwrap();
}

fn named(mut config: KafkaConfig, name: &str) -> KafkaConfig {
    config.instance = Some(name.to_owned());
    config
}

pub(crate) async fn a_name_that_comes_back_gets_its_partitions_at_once_and_a_second_one_is_loud(
    stand: &Stand,
) {
    let config = named(stand.config(), "one");
    let session = config.session_timeout;
    let (first, _) = open(&config, 2).await;
    let consumer = first.subscribe::<Bytes>(group()).await.unwrap();
    drop(consumer);
    first.close().await.unwrap();
    // It has not left: its place is kept for it.
    let (second, _) = open(&config, 2).await;
    let began = Instant::now();
    let mut consumer = second.subscribe::<Bytes>(group()).await.unwrap();
    let four = (0..4).map(|number| message(None, number.to_string()));
    assert!(publish(&second, four).await.iter().all(Result::is_ok));
    assert_eq!(bodies(&mut consumer, 4).await.len(), 4);
    assert!(began.elapsed() < session / 3, "{:?}", began.elapsed());
    let (third, _) = open(&config, 2).await;
    let other = third.subscribe::<Bytes>(group()).await.unwrap();
    let ended = timeout(SOON, consumer.next()).await.expect("nobody tells").unwrap();
    let error = ended.map(|_| ()).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.to_string().contains("instance id"), "{error}");
    drop(other);
    third.close().await.unwrap();
    second.close().await.unwrap();
}

pub(crate) async fn what_is_in_hand_for_too_long_comes_again_as_a_further_attempt(stand: &Stand) {
    let mut config = stand.config();
    config.max_in_hand = Duration::from_secs(1);
    let (broker, seen) = open(&config, 1).await;
    let mut consumer = broker.subscribe(group()).await.unwrap();
    assert!(publish(&broker, [message(None, "stuck")]).await[0].is_ok());
    let held = next(&mut consumer).await;
    assert_eq!(held.attempt(), 1);
    let again = next(&mut consumer).await;
    assert_eq!((&again.message().body[..], again.attempt()), (&b"stuck"[..], 2));
    assert!(seen.has("lost"), "{seen:?}");
    let stale = held.ack_confirmed().await.unwrap_err();
    assert_eq!(*stale.kind(), ErrorKind::Stale, "{stale:?}");
    again.ack_confirmed().await.unwrap();
    broker.close().await.unwrap();
}

pub(crate) async fn a_topic_that_is_not_for_us_is_denied(stand: &Stand) {
    let config = stand.config();
    let (broker, _) = open(&config, 1).await;
    drop(broker.subscribe::<Bytes>(group()).await.unwrap());
    assert!(publish(&broker, [message(None, "secret")]).await[0].is_ok());
    broker.close().await.unwrap();
    let user = ["--entity-type", "users", "--entity-name", "reader", "--alter", "--add-config"];
    let scram = format!("SCRAM-SHA-256=[password={PASSWORD}]");
    stand.tool("configs", &[&user[..], &[&scram]].concat());
    let allow = |rights: &[&str]| {
        let who = ["--add", "--force", "--allow-principal", "User:reader"];
        let of_prefix = ["--resource-pattern-type", "prefixed"];
        stand.tool("acls", &[&who[..], &of_prefix, rights].concat());
    };
    let here = Address::new("127.0.0.1", stand.sasl_port());
    let config = config.with_servers([here]);
    let config = config.with_login(Mechanism::ScramSha256, "reader", PASSWORD);
    let prefix = config.prefix.clone();
    allow(&["--operation", "Read", "--group", &prefix]);
    let look = ["--operation", "Describe", "--operation", "DescribeConfigs"];
    allow(&[&look[..], &["--topic", &prefix]].concat());
    let (broker, _) = open(&config, 1).await;
    let mut consumer = broker.subscribe::<Bytes>(group()).await.unwrap();
    let error = timeout(SOON, consumer.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Denied, "{error:?}");
    assert!(error.to_string().contains(&format!("{prefix}.")), "{error}");
    drop(consumer);
    broker.close().await.unwrap();
}
