//! Writing, against a real broker behind a relay.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests fail by panicking and say why they are ignored"
)]

#[path = "writing/faults.rs"]
mod faults;
#[path = "support/relay.rs"]
mod relay;
#[path = "writing/security.rs"]
mod security;
#[path = "support/stand.rs"]
mod stand;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use libtest_mimic::{Arguments, Trial};
use messaging_core::lane::lane_of;
use messaging_core::{Assurance, ErrorKind, Feature, Message};
use messaging_kafka::Kafka;
use messaging_kafka::config::{Compression, WritePath};
use tokio::time::timeout;

use self::stand::{PATHS, Stand, message, on, open, publish, read};

type Case = for<'a> fn(&'a Stand) -> BoxFuture<'a, ()>;

/// The cases, each with its name.
macro_rules! cases {
    ($($($module:ident ::)? [$name:ident])*) => {
        [$((stringify!($name), (|stand| Box::pin($($module::)? $name(stand))) as Case)),*]
    };
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They share a broker and what is between us and it.
    arguments.test_threads = Some(1);
    let cases = cases! {
        [a_confirmed_publish_is_where_its_key_belongs]
        [every_compression_is_read_by_others]
        [messages_without_a_key_reach_every_partition]
        [a_missing_topic_and_a_large_record_are_named_and_neighbours_arrive]
        [partitions_that_come_later_are_used]
        faults::[a_cut_between_storing_and_the_answer_is_unknown]
        faults::[what_is_not_confirmed_when_it_closes_says_so]
        faults::[a_quota_writes_no_copy_that_is_not_explained]
        faults::[a_listener_that_cannot_be_reached_is_named_in_time]
        faults::[a_peer_that_is_no_broker_is_named]
        faults::[brokers_that_hang_hold_nobody_up_and_share_one_deadline]
        security::[a_password_is_proved_and_a_wrong_one_is_denied]
        security::[tls_and_plain_do_not_mix]
    };
    let stand = if arguments.list { Err("listed".to_owned()) } else { Stand::start() };
    let ignored = stand.is_err() && std::env::var_os("CI").is_none();
    if let Err(reason) = &stand {
        println!("ignored: {reason}");
    }
    let stand = Arc::new(stand);
    let trials = cases.map(|(name, case)| {
        let stand = Arc::clone(&stand);
        let run = move || {
            let stand = stand.as_ref().as_ref().map_err(Clone::clone)?;
            let limited = async { timeout(Duration::from_secs(120), case(stand)).await };
            Ok(stand.runtime.block_on(limited).map_err(|_| "it does not end")?)
        };
        Trial::test(name, run).with_ignored_flag(ignored)
    });
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

async fn a_confirmed_publish_is_where_its_key_belongs(stand: &Stand) {
    for path in PATHS {
        let config = on(stand.config(), path);
        let topic = format!("{}.tasks", config.prefix);
        let broker = open(config, 4).await;
        let sent: Vec<Message> = (0..400)
            .map(|number| {
                let key = format!("key-{}", number % 7);
                message(Some(&key), number.to_string()).with_header("h", vec![0, 255]).unwrap()
            })
            .collect();
        let receipts = publish(&broker, sent.clone()).await;
        let others = stand.others().await;
        let mut stored = HashMap::new();
        for partition in 0..4 {
            let mut last = HashMap::new();
            for found in read(&others, &topic, partition).await {
                let record = found.record;
                let key = record.key.unwrap();
                let lane = lane_of(&key, NonZeroU32::new(4).unwrap());
                assert_eq!(lane, partition.cast_unsigned());
                let body: u32 = String::from_utf8(record.value.unwrap()).unwrap().parse().unwrap();
                assert!(
                    last.insert(key, body).is_none_or(|before| before < body),
                    "order of a key"
                );
                assert_eq!(record.headers["subject"], b"tasks.test");
                assert_eq!(record.headers["h"], [0, 255]);
                let id = String::from_utf8(record.headers["message-id"].clone()).unwrap();
                stored.insert(id, (partition.cast_unsigned(), found.offset));
            }
        }
        for (message, receipt) in sent.iter().zip(receipts) {
            let receipt = match receipt {
                Ok(receipt) => receipt,
                // The leader of a new topic may not know yet that it is; rskafka does not let us
                // tell that from one that is no longer.
                Err(error) => {
                    assert!(error.is_outcome_unknown() && path == WritePath::Rskafka, "{error:?}");
                    continue;
                }
            };
            assert_eq!(receipt.assurance, Assurance::Persisted);
            let position = receipt.position.unwrap();
            let (lane, offset) = stored[&message.id.to_string()];
            assert_eq!((position.lane(), position.id()), (lane, offset as u128));
        }
        broker.close().await.unwrap();
    }
}

async fn every_compression_is_read_by_others(stand: &Stand) {
    use Compression::{Gzip, Lz4, None, Snappy, Zstd};
    for compression in [None, Gzip, Snappy, Lz4, Zstd] {
        let config = stand.config().with_compression(compression);
        let topic = format!("{}.tasks", config.prefix);
        let broker = open(config, 1).await;
        let body = |number: usize| format!("{number} ").repeat(40);
        let outcomes = publish(&broker, (0..500).map(|n| message(Option::None, body(n)))).await;
        assert!(outcomes.iter().all(Result::is_ok), "{compression:?}: {:?}", outcomes[0]);
        let found = read(&stand.others().await, &topic, 0).await;
        let bodies = found.into_iter().map(|found| found.record.value.unwrap());
        assert!(bodies.eq((0..500).map(|n| body(n).into_bytes())), "{compression:?}");
        // Java's reader as well.
        let args = ["--topic", &topic, "--from-beginning", "--max-messages", "500"];
        assert_eq!(stand.tool("console-consumer", &args).lines().count(), 500, "{compression:?}");
        broker.close().await.unwrap();
    }
}

async fn messages_without_a_key_reach_every_partition(stand: &Stand) {
    let config = stand.config();
    let topic = format!("{}.tasks", config.prefix);
    let broker = open(config, 4).await;
    for _ in 0..40 {
        let outcomes = publish(&broker, (0..100).map(|n| message(None, n.to_string()))).await;
        assert!(outcomes.iter().all(Result::is_ok));
    }
    let others = stand.others().await;
    let mut total = 0;
    for partition in 0..4 {
        let count = read(&others, &topic, partition).await.len();
        assert!(count > 0, "partition {partition}");
        total += count;
    }
    assert_eq!(total, 4_000);
    broker.close().await.unwrap();
}

async fn a_missing_topic_and_a_large_record_are_named_and_neighbours_arrive(stand: &Stand) {
    let config = stand.config();
    let topic = format!("{}.tasks", config.prefix);
    let broker = open(config, 1).await;
    let bodies = [vec![1; 1_000], vec![2; 3 << 20], vec![3; 1_000]];
    let outcomes = publish(&broker, bodies.map(|body| message(None, body))).await;
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok(), "{outcomes:?}");
    let error = outcomes[1].as_ref().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TooLarge { limit: 1_572_864, .. }), "{error:?}");
    assert!(error.to_string().contains(&topic), "{error}");
    let target = "stream tasks".parse().unwrap();
    broker.admin().unwrap().delete(&target).await.unwrap();
    // The brokers learn of it one after the other.
    let error = loop {
        if let Err(error) = broker.publish_message(message(None, "too late")).await {
            break error;
        }
    };
    assert_eq!(*error.kind(), ErrorKind::NotFound, "{error:?}");
    assert!(error.to_string().contains(&topic), "{error}");
    broker.close().await.unwrap();
}

async fn partitions_that_come_later_are_used(stand: &Stand) {
    let config = stand.config();
    let topic = format!("{}.tasks", config.prefix);
    let broker = open(config.clone(), 1).await;
    assert!(publish(&broker, [message(Some("a"), "1")]).await[0].is_ok());
    let stream = |partitions| {
        use messaging_core::topology::{StreamConfig, StreamKind};
        let name = "tasks".parse().unwrap();
        let stream = StreamConfig::new(name, StreamKind::Work);
        messaging_core::Topology::new([stream.partitions(NonZeroU32::new(partitions).unwrap())])
    };
    let plan = broker.provision(stream(3)).await.unwrap();
    assert_eq!(plan.changes.len(), 1, "{plan:?}");
    assert!(plan.changes[0].detail.contains("1 partition, asked"), "{plan:?}");
    let key = (0..).map(|n| n.to_string());
    let key = key.into_iter().find(|key| lane_of(key.as_bytes(), NonZeroU32::new(3).unwrap()) == 2);
    let outcomes = publish(&broker, [message(key.as_deref(), "2")]).await;
    assert_eq!(outcomes[0].as_ref().unwrap().position.unwrap().lane(), 2);
    assert_eq!(read(&stand.others().await, &topic, 2).await.len(), 1);
    // Taking away is refused, and what is as asked for needs nothing.
    let refused = broker.provision(stream(2)).await.unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::InvalidConfig);
    assert!(broker.provision(stream(3)).await.unwrap().is_empty());
    assert!(Kafka::CAPABILITIES.has(Feature::Positions));
    broker.close().await.unwrap();
}
