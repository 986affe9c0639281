//! Provisioning, lag, reading and health, against a real broker and beside Kafka's own tools.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests fail by panicking and say why they are ignored"
)]

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use futures::TryStreamExt;
use futures::future::BoxFuture;
use libtest_mimic::{Arguments, Trial};
use messaging_core::driver::{Action, ReadSpec, Record, Standing};
use messaging_core::topology::{GroupConfig, StreamConfig, StreamKind};
use messaging_core::{
    Broker, Bytes, Consumer, ErrorKind, GroupName, Message, Patterns, Start, SubscribeSpec,
    Topology,
};
use messaging_kafka::config::Address;
use messaging_kafka::{Kafka, KafkaConfig};
use tokio::time::timeout;
use xtask::brokers::{Kind, Options, Private};

/// How long something that must come may take.
const SOON: Duration = Duration::from_secs(30);

struct Stand {
    brokers: Private,
    runtime: tokio::runtime::Runtime,
}

type Case = for<'a> fn(&'a Stand) -> BoxFuture<'a, ()>;

/// The cases, each with its name.
macro_rules! cases {
    ($($name:ident)*) => {
        [$((stringify!($name), (|stand| Box::pin($name(stand))) as Case)),*]
    };
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let cases = cases! {
        provisioning_twice_changes_nothing_and_drift_is_named
        a_group_gets_other_patterns_while_it_has_no_members
        deleting_takes_what_is_named_and_nothing_else
        lag_is_what_kafkas_own_tool_prints
        waiting_retries_count_for_their_stream
        a_range_is_read_by_position_time_and_from_the_beginning
        dead_letters_are_read_and_nobody_has_to_have_written_one
        health_names_leaders_and_what_breaks_a_promise
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

impl Stand {
    /// Starts a broker, or says why there can't be one.
    fn start() -> Result<Self, String> {
        let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
        let brokers = Private::start("kafka-admin", Options::new(Kind::Kafka))?;
        Ok(Self { brokers, runtime })
    }

    /// A configuration with a prefix of its own, which groups are named after too.
    fn config(&self) -> KafkaConfig {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let server = self.brokers.address(self.brokers.servers()[0]).unwrap();
        KafkaConfig::default()
            .with_servers([Address::new(server.ip().to_string(), server.port())])
            .with_prefix(&format!("a{}", NUMBER.fetch_add(1, Ordering::Relaxed)))
            .unwrap()
    }

    /// Runs one of Kafka's own tools.
    fn tool(&self, name: &str, args: &[&str]) -> String {
        let args = args.iter().map(OsString::from).collect();
        let output = self.brokers.kafka_tool(name, args).unwrap().output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// The lag that Kafka's own tool prints for a group in a topic, over all partitions.
    fn printed(&self, group: &str, topic: &str) -> u64 {
        let text = self.tool("consumer-groups", &["--describe", "--group", group]);
        let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let rows: Vec<u64> = rows
            .filter(|row| row.get(1) == Some(&topic))
            .map(|row| row[5].parse().unwrap())
            .collect();
        assert!(!rows.is_empty(), "{text}");
        rows.iter().sum()
    }
}

fn topology() -> Topology {
    let four = NonZeroU32::new(4).unwrap();
    let tasks = StreamConfig::new("tasks".parse().unwrap(), StreamKind::Work).partitions(four);
    let events = StreamConfig::new("events".parse().unwrap(), StreamKind::Log);
    Topology::new([tasks, events]).tiers([Duration::from_secs(1), Duration::from_secs(60)])
}

async fn open(config: &KafkaConfig) -> Broker {
    let kafka = Kafka::connect(config.clone()).await.unwrap();
    Broker::builder(kafka).topology(topology()).open().await.unwrap()
}

fn group(config: &KafkaConfig, patterns: &str) -> GroupConfig {
    let name: GroupName = format!("g-{}", config.prefix).parse().unwrap();
    GroupConfig::new(name, Patterns::new([patterns]).unwrap())
}

fn spec(config: &KafkaConfig, patterns: &str) -> SubscribeSpec {
    SubscribeSpec::group(&format!("g-{}", config.prefix), [patterns]).unwrap()
}

async fn publish(broker: &Broker, subject: &str, range: std::ops::Range<u32>) {
    for at in range {
        let message = Message::new(subject.parse().unwrap(), at.to_string());
        let message = message.with_key(format!("key-{}", at % 20));
        broker.publish_message(message).await.unwrap();
    }
}

async fn take(consumer: &mut Consumer<Bytes>, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    for _ in 0..count {
        let delivery = timeout(SOON, consumer.next()).await.unwrap().unwrap().unwrap();
        let (received, ticket) = delivery.into_parts();
        seen.push(String::from_utf8(received.to_vec()).unwrap());
        ticket.ack_confirmed().await.unwrap();
    }
    seen
}

async fn read(broker: &Broker, spec: ReadSpec) -> Vec<Record> {
    broker.reader().unwrap().read(spec).try_concat().await.unwrap()
}

async fn provisioning_twice_changes_nothing_and_drift_is_named(stand: &Stand) {
    let config = stand.config();
    let kafka = Kafka::connect(config.clone()).await.unwrap();
    let broker = Broker::builder(kafka).topology(Topology::default()).open().await.unwrap();
    let mut wanted = Topology::default().group(group(&config, "tasks.#"));
    wanted.streams[0].retention = Some(Duration::from_secs(3_600));
    broker.provision(wanted.clone()).await.unwrap();
    let admin = broker.admin().unwrap();
    let plan = admin.plan(&wanted).await.unwrap();
    assert!(plan.is_empty() && plan.unmanaged.is_empty(), "{plan:?}");
    for (stream, partitions) in [("tasks", 4), ("events", 8), ("completions", 4), ("debates", 2)] {
        let topic = format!("{}.{stream}", config.prefix);
        let text = stand.tool("topics", &["--describe", "--topic", &topic]);
        assert!(text.contains(&format!("PartitionCount: {partitions}")), "{text}");
    }
    let [topic, other] = ["tasks", "events"].map(|name| format!("{}.{name}", config.prefix));
    for topic in [&topic, &other] {
        let alter = ["--alter", "--entity-type", "topics", "--entity-name", topic];
        let add = ["--add-config", "retention.ms=1000"];
        stand.tool("configs", &[&alter[..], &add[..]].concat());
    }
    wanted.streams[3].partitions = NonZeroU32::new(3).unwrap();
    let plan = admin.plan(&wanted).await.unwrap();
    let told: Vec<String> = plan.changes.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(told[0], format!("alter stream tasks: now {topic} kept 1s, asked {topic} kept 1h"));
    let of_broker = format!("now {other} kept 1s, asked {other} retention.ms of the broker");
    assert_eq!(told[1], format!("alter stream events: {of_broker}"));
    assert!(told[2].contains("2 partitions") && told[2].contains("3 partitions"), "{told:?}");
    broker.provision(wanted.clone()).await.unwrap();
    assert!(admin.plan(&wanted).await.unwrap().is_empty());
    wanted.streams[0].partitions = NonZeroU32::MIN;
    let error = admin.plan(&wanted).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidConfig);
    assert!(error.to_string().contains("has 4 partitions"), "{error}");
    broker.close().await.unwrap();
}

async fn a_group_gets_other_patterns_while_it_has_no_members(stand: &Stand) {
    let config = stand.config();
    let broker = open(&config).await;
    let mut consumer = broker.subscribe::<Bytes>(spec(&config, "events.a")).await.unwrap();
    publish(&broker, "events.a", 0..1).await;
    assert_eq!(take(&mut consumer, 1).await, ["0"]);
    let admin = broker.admin().unwrap();
    let wanted = topology().group(group(&config, "events.b"));
    let plan = admin.plan(&wanted).await.unwrap();
    assert_eq!(plan.changes[0].action, Action::Alter);
    let error = admin.apply(&wanted).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unavailable, "{error}");
    drop(consumer);
    let plan = admin.apply(&wanted).await.unwrap();
    let detail = &plan.changes[0].detail;
    assert_eq!(detail, "now events.a, asked events.b");
    assert!(admin.plan(&wanted).await.unwrap().is_empty());
    let error = broker.subscribe::<Bytes>(spec(&config, "events.a")).await.unwrap_err();
    let ErrorKind::GroupConflict { theirs: Some(theirs), .. } = error.kind() else {
        unreachable!("{error:?}");
    };
    assert_eq!(theirs, "events.b");
    publish(&broker, "events.b", 1..2).await;
    let mut consumer = broker.subscribe::<Bytes>(spec(&config, "events.b")).await.unwrap();
    assert_eq!(take(&mut consumer, 1).await, ["1"]);
    broker.close().await.unwrap();
}

async fn deleting_takes_what_is_named_and_nothing_else(stand: &Stand) {
    let config = stand.config();
    let broker = open(&config).await;
    let admin = broker.admin().unwrap();
    let name = format!("group g-{}", config.prefix);
    let delete = async |target: &str| admin.delete(&target.parse().unwrap()).await;
    assert_eq!(*delete(&name).await.unwrap_err().kind(), ErrorKind::NotFound);
    let consumer = broker.subscribe::<Bytes>(spec(&config, "tasks.#")).await.unwrap();
    assert_eq!(admin.plan(&topology()).await.unwrap().unmanaged, std::slice::from_ref(&name));
    for used in [&name, "stream tasks"] {
        let error = delete(used).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Unavailable, "{error}");
    }
    drop(consumer);
    delete(&name).await.unwrap();
    assert_eq!(*delete(&name).await.unwrap_err().kind(), ErrorKind::NotFound);
    let plan = admin.plan(&topology()).await.unwrap();
    assert!(plan.is_empty() && plan.unmanaged.is_empty(), "{plan:?}");
    publish(&broker, "events.x", 0..1).await;
    delete("stream tasks").await.unwrap();
    assert_eq!(*delete("stream tasks").await.unwrap_err().kind(), ErrorKind::NotFound);
    let plan = admin.plan(&topology()).await.unwrap();
    assert_eq!((plan.changes.len(), plan.changes[0].action), (1, Action::Create));
    assert_eq!(read(&broker, ReadSpec::new("events".parse().unwrap())).await.len(), 1);
    broker.close().await.unwrap();
}

async fn lag_is_what_kafkas_own_tool_prints(stand: &Stand) {
    let config = stand.config();
    let (one, two) = (open(&config).await, open(&config).await);
    let name: GroupName = format!("g-{}", config.prefix).parse().unwrap();
    let error = one.lag(Some(&name)).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotFound);
    let ten = NonZeroU32::new(10).unwrap();
    let spec = spec(&config, "tasks.#").prefetch(ten);
    let mut consumer = one.subscribe::<Bytes>(spec).await.unwrap();
    publish(&one, "tasks.n", 0..100).await;
    take(&mut consumer, 30).await;
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(timeout(SOON, consumer.next()).await.unwrap().unwrap().unwrap().into_parts());
    }
    // The member's own connection knows what it has in hand, another one what was committed.
    let rows = one.lag(Some(&name)).await.unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!((rows[0].waiting, rows[0].in_hand), (60, 10));
    assert!(rows[0].oldest.unwrap() < SOON);
    let topic = format!("{}.tasks", config.prefix);
    let id = format!("{}.group.{name}", config.prefix);
    let others = two.lag(Some(&name)).await.unwrap().remove(0);
    assert_eq!(others.waiting + others.in_hand, stand.printed(&id, &topic));
    assert_eq!(others.waiting + others.in_hand, 70);
    held.into_iter().for_each(|(_, ticket)| ticket.ack());
    take(&mut consumer, 60).await;
    for broker in [&one, &two] {
        let rows = broker.lag(Some(&name)).await.unwrap();
        assert_eq!((rows[0].waiting, rows[0].in_hand, rows[0].oldest), (0, 0, None));
    }
    assert_eq!(stand.printed(&id, &topic), 0);
    drop(consumer);
    one.close().await.unwrap();
    two.close().await.unwrap();
}

async fn waiting_retries_count_for_their_stream(stand: &Stand) {
    let config = stand.config();
    let broker = open(&config).await;
    let name: GroupName = format!("g-{}", config.prefix).parse().unwrap();
    let mut consumer = broker.subscribe::<Bytes>(spec(&config, "#")).await.unwrap();
    publish(&broker, "events.x", 0..1).await;
    publish(&broker, "tasks.x", 1..3).await;
    for _ in 0..3 {
        let delivery = timeout(SOON, consumer.next()).await.unwrap().unwrap().unwrap();
        delivery.into_parts().1.retry(Duration::from_secs(60)).unwrap();
    }
    let counts = async || {
        let rows = broker.lag(Some(&name)).await.unwrap();
        let row = |stream: &str| rows.iter().find(|row| row.stream.to_string() == stream).unwrap();
        let all = [row("events"), row("tasks")];
        all.map(|row| (row.waiting, row.in_hand, row.oldest.is_some()))
    };
    // Copies are on their way for a moment.
    let until = tokio::time::Instant::now() + SOON;
    while counts().await != [(1, 0, true), (2, 0, true)] {
        assert!(tokio::time::Instant::now() < until, "{:?}", counts().await);
    }
    broker.close().await.unwrap();
}

async fn a_range_is_read_by_position_time_and_from_the_beginning(stand: &Stand) {
    let config = stand.config();
    let broker = open(&config).await;
    publish(&broker, "events.n", 0..700).await;
    let spec = || ReadSpec::new("events".parse().unwrap());
    let all = read(&broker, spec()).await;
    let texts: Vec<String> =
        all.iter().map(|one| String::from_utf8(one.message.body.to_vec()).unwrap()).collect();
    assert_eq!(texts, (0..700).map(|at| at.to_string()).collect::<Vec<_>>());
    let from = Start::Position(all[650].position);
    assert_eq!(read(&broker, spec().from(from).limit(20)).await, all[650..670]);
    assert_eq!(read(&broker, spec().from(from)).await.len(), 50);
    let time = all[300].stored_at.unwrap();
    let later = read(&broker, spec().from(Start::Time(time))).await;
    assert!(later.iter().all(|one| one.stored_at.unwrap() >= time));
    let earlier = read(&broker, spec().until(time)).await;
    assert_eq!(earlier.len() + later.len(), 700);
    assert!(read(&broker, spec().from(Start::Latest)).await.is_empty());
    let future = SystemTime::now() + Duration::from_secs(3_600);
    assert!(read(&broker, spec().from(Start::Time(future))).await.is_empty());
    // Every partition, and compressed batches, in pieces.
    publish(&broker, "tasks.n", 0..400).await;
    let tasks = read(&broker, ReadSpec::new("tasks".parse().unwrap())).await;
    let mut numbers: Vec<u32> = tasks
        .iter()
        .map(|one| std::str::from_utf8(&one.message.body).unwrap().parse().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..400).collect::<Vec<_>>());
    let unknown = broker.reader().unwrap().read(ReadSpec::new("nowhere".parse().unwrap()));
    let error = unknown.try_concat().await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::UnknownStream);
    broker.close().await.unwrap();
}

async fn dead_letters_are_read_and_nobody_has_to_have_written_one(stand: &Stand) {
    let config = stand.config();
    let broker = open(&config).await;
    let stream: messaging_core::StreamName = "tasks".parse().unwrap();
    let dead = || ReadSpec::new(stream.to_dead_letters());
    assert!(read(&broker, dead()).await.is_empty());
    let mut consumer = broker.subscribe::<Bytes>(spec(&config, "tasks.#")).await.unwrap();
    publish(&broker, "tasks.x", 7..8).await;
    let delivery = timeout(SOON, consumer.next()).await.unwrap().unwrap().unwrap();
    let (_, ticket) = delivery.into_parts();
    ticket.reject("no good");
    // Its copy is on its way for a moment.
    let letters = timeout(SOON, async {
        loop {
            let letters = read(&broker, dead()).await;
            if !letters.is_empty() {
                return letters;
            }
        }
    });
    let letters = letters.await.unwrap();
    assert_eq!(letters.len(), 1);
    let letter = messaging_core::DeadLetter::of(&letters[0].message);
    assert_eq!((letter.reason, letter.attempts), ("no good", 1));
    broker.close().await.unwrap();
}

async fn health_names_leaders_and_what_breaks_a_promise(stand: &Stand) {
    let config = stand.config();
    let broker = open(&config).await;
    let admin = broker.admin().unwrap();
    let health = admin.health().await.unwrap();
    assert!(health.is_sound(), "{health:?}");
    assert!(health.version.as_deref().unwrap().starts_with(['3', '4']), "{health:?}");
    let topic = format!("{}.tasks", config.prefix);
    let led = format!("topic {topic}: 4 partitions, 1 copy, led by 1");
    assert!(health.notes.contains(&led), "{:?}", health.notes);
    let not_made = |promise: &&messaging_core::driver::Promise| {
        matches!(promise.standing, Standing::NotMade { .. })
    };
    assert_eq!(health.promises.iter().filter(not_made).count(), 2, "{health:?}");
    let alter = ["--alter", "--entity-type", "topics", "--entity-name", &topic];
    let add = ["--add-config", "unclean.leader.election.enable=true"];
    stand.tool("configs", &[&alter[..], &add[..]].concat());
    let health = admin.health().await.unwrap();
    assert!(!health.is_sound(), "{health:?}");
    broker.close().await.unwrap();
    assert!(!admin.health().await.unwrap().serving);
}
