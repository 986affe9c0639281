//! Records that are not ours.

use std::collections::BTreeSet;
use std::io::Write;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use messaging_core::lane::lane_of;
use messaging_core::{Bytes, ErrorKind};
use messaging_kafka::config::OutOfRange;
use tokio::time::timeout;

use crate::raw::{batch, produce, record};
use crate::stand::{Stand, message, publish};
use crate::{SOON, bodies, group, next, open, tasks};

const PRODUCER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reading/Transactions.java");

pub(crate) async fn a_null_header_and_a_bomb_do_not_keep_their_neighbours(stand: &Stand) {
    let config = stand.config();
    let topic = format!("{}.tasks", config.prefix);
    let (broker, seen) = open(&config, 1).await;
    let server = stand.server();
    let null = [
        record(0, b"null header", (b"h", None)),
        record(1, b"no name of ours", (b"\xff\xfe", Some(b"\xff"))),
    ]
    .concat();
    assert_eq!(produce(server, &topic, batch(0, 2, &null)), 0);
    let bomb = {
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        packed.write_all(&record(0, &vec![0; 65 << 20], (b"h", None))).unwrap();
        packed.finish().unwrap()
    };
    assert!(bomb.len() < 200_000, "{}", bomb.len());
    assert_eq!(produce(server, &topic, batch(1, 1, &bomb)), 0);
    assert!(publish(&broker, [message(None, "after")]).await[0].is_ok());
    let mut consumer = broker.subscribe(group()).await.unwrap();
    let first = next(&mut consumer).await;
    assert_eq!(first.message().body, "null header");
    assert_eq!(first.message().headers.text("h"), Some(""));
    first.ack();
    assert_eq!(bodies(&mut consumer, 2).await, ["no name of ours", "after"]);
    assert!(seen.has("offsets 2 to 2"), "{seen:?}");
    broker.close().await.unwrap();
}

pub(crate) async fn what_is_larger_than_any_answer_is_put_aside_and_its_neighbours_arrive(
    stand: &Stand,
) {
    let config = stand.config();
    let topic = format!("{}.tasks", config.prefix);
    let (broker, seen) = open(&config, 2).await;
    let limit = ["--alter", "--entity-type", "topics", "--entity-name", &topic, "--add-config"];
    let limit = limit.into_iter().chain(["max.message.bytes=83886080"]).map(Into::into);
    let output = stand.brokers.kafka_tool("configs", limit.collect()).unwrap().output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let server = stand.server();
    let huge = record(0, &vec![0; 65 << 20], (b"h", None));
    assert_eq!(produce(server, &topic, batch(0, 1, &huge)), 0);
    assert_eq!(produce(server, &topic, batch(0, 1, &record(0, b"behind", (b"h", None)))), 0);
    assert!(publish(&broker, [message(Some("1"), "beside")]).await[0].is_ok());
    let mut consumer = broker.subscribe(group()).await.unwrap();
    let mut all = bodies(&mut consumer, 2).await;
    all.sort_unstable();
    assert_eq!(all, ["behind", "beside"]);
    assert!(seen.has("offset 0: ") && seen.has("accepted: 4 to 67108864"), "{seen:?}");
    broker.close().await.unwrap();
}

pub(crate) async fn aborted_transactions_of_a_java_producer_are_not_seen(stand: &Stand) {
    let config = stand.config();
    let topic = format!("{}.tasks", config.prefix);
    let (broker, _) = open(&config, 4).await;
    let tool = stand.brokers.kafka_tool("topics", Vec::new()).unwrap();
    let class_path = tool.get_envs().find(|(name, _)| *name == "CLASSPATH").unwrap().1.unwrap();
    let mut java = Command::new(tool.get_program());
    java.arg("-cp").arg(class_path).arg(Path::new(PRODUCER));
    let output = java.args([&stand.server().to_string(), &topic]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    // Where Java puts a key.
    let four = NonZeroU32::new(4).unwrap();
    let mut keys = 0;
    for line in said.lines() {
        let (key, partition) = line.split_once(' ').unwrap();
        assert_eq!(lane_of(key.as_bytes(), four).to_string(), partition, "{key}");
        keys += 1;
    }
    assert_eq!(keys, 100);
    let mut consumer = broker.subscribe(group()).await.unwrap();
    let seen: BTreeSet<String> = bodies(&mut consumer, 50).await.into_iter().collect();
    assert_eq!(seen.len(), 50);
    assert!(seen.iter().all(|body| body.starts_with("kept")), "{seen:?}");
    // What follows is reached, so that nothing of the rest is behind it.
    let all = (0..8).map(|number| message(None, format!("ours {number}")));
    assert!(publish(&broker, all).await.iter().all(Result::is_ok));
    let ours = bodies(&mut consumer, 8).await;
    assert!(ours.iter().all(|body| body.starts_with("ours")), "{ours:?}");
    broker.close().await.unwrap();
}

pub(crate) async fn a_topic_created_anew_is_read_from_its_beginning(stand: &Stand) {
    let config = stand.config();
    let (broker, seen) = open(&config, 1).await;
    let all = |name: &str, count| {
        let name = name.to_owned();
        (0..count).map(move |number| message(None, format!("{name} {number}")))
    };
    assert!(publish(&broker, all("old", 5)).await.iter().all(Result::is_ok));
    let mut consumer = broker.subscribe(group()).await.unwrap();
    assert_eq!(bodies(&mut consumer, 5).await.len(), 5);
    // The new one has more than the old one had before anybody reads it again: its offsets say
    // nothing.
    let (other, _) = open(&config, 1).await;
    // Ours deletes nothing that is in use.
    let topic = format!("{}.tasks", config.prefix);
    stand.tool("topics", &["--delete", "--topic", &topic]);
    // The tool asks the controller; until the broker has heard of it, it takes records of the old one.
    let beside = stand.others().await;
    while beside.list_topics().await.unwrap().iter().any(|known| known.name == topic) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    while other.provision(tasks(1)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut confirmed = 0;
    while confirmed < 20 {
        let outcomes = publish(&other, all("new", 20 - confirmed)).await;
        confirmed += outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    }
    let new = bodies(&mut consumer, 20).await;
    assert!(new.iter().all(|body| body.starts_with("new")), "{new:?}");
    assert!(seen.has("created anew"), "{seen:?}");
    broker.close().await.unwrap();
    other.close().await.unwrap();
}

pub(crate) async fn a_place_that_is_kept_no_longer_is_a_gap_or_the_end(stand: &Stand) {
    let config = stand.config();
    let (broker, _) = open(&config, 1).await;
    let all = |range: std::ops::Range<u32>| range.map(|number| message(None, number.to_string()));
    assert!(publish(&broker, all(0..5)).await.iter().all(Result::is_ok));
    let mut consumer = broker.subscribe(group()).await.unwrap();
    bodies(&mut consumer, 5).await;
    broker.close().await.unwrap();
    let (broker, _) = open(&config, 1).await;
    assert!(publish(&broker, all(5..20)).await.iter().all(Result::is_ok));
    let file = tempfile::NamedTempFile::new().unwrap();
    let topic = format!("{}.tasks", config.prefix);
    let partition = format!(r#"{{"topic": "{topic}", "partition": 0, "offset": 12}}"#);
    std::fs::write(&file, format!(r#"{{"partitions": [{partition}], "version": 1}}"#)).unwrap();
    let path = file.path().to_str().unwrap();
    stand.tool("delete-records", &["--offset-json-file", path]);
    let mut strict = config.clone();
    strict.out_of_range = OutOfRange::Fail;
    let (other, _) = open(&strict, 1).await;
    let mut consumer = other.subscribe::<Bytes>(group()).await.unwrap();
    let error = timeout(SOON, consumer.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotFound, "{error:?}");
    assert!(error.to_string().contains("offsets 5 to 11"), "{error}");
    drop(consumer);
    other.close().await.unwrap();
    let (broker, seen) = open(&config, 1).await;
    let mut consumer = broker.subscribe(group()).await.unwrap();
    assert_eq!(bodies(&mut consumer, 8).await[0], "12");
    assert!(seen.has("offsets 5 to 11"), "{seen:?}");
    broker.close().await.unwrap();
}

/// The program of librdkafka.
pub(crate) fn kcat() -> Result<PathBuf, String> {
    xtask::brokers::program("kcat", "kcat")
}

pub(crate) async fn kcat_reads_what_we_write_and_writes_what_we_read(stand: &Stand) {
    let config = stand.config();
    let (broker, _) = open(&config, 1).await;
    let topic = format!("{}.tasks", config.prefix);
    let call = |args: &[&str]| {
        let mut command = Command::new(kcat().unwrap());
        command.args(["-b", &stand.server().to_string(), "-t", &topic]).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    };
    assert!(publish(&broker, [message(Some("key"), "ours")]).await[0].is_ok());
    let format = "%k|%s|%h";
    let read = call(&["-C", "-o", "beginning", "-e", "-q", "-f", format]).output().unwrap();
    let text = String::from_utf8(read.stdout).unwrap();
    assert!(text.starts_with("key|ours|") && text.contains("subject=tasks.test"), "{text}");
    let mut child = call(&["-P", "-k", "theirs", "-H", "tenant=acme"]).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"by kcat").unwrap();
    assert!(child.wait().unwrap().success());
    let mut consumer = broker.subscribe::<Bytes>(group()).await.unwrap();
    next(&mut consumer).await.ack();
    let delivery = next(&mut consumer).await;
    let theirs = delivery.message();
    assert_eq!((&theirs.body[..], theirs.key.as_deref()), (&b"by kcat"[..], Some(&b"theirs"[..])));
    assert_eq!(theirs.headers.text("tenant"), Some("acme"));
    delivery.ack();
    broker.close().await.unwrap();
}
