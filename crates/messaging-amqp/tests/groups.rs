//! Groups on a real server, with a foreign client where one is needed.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and use the client library bare"
)]

use std::future::pending;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amqprs::channel::{
    BasicGetArguments, BasicPublishArguments, Channel, QueueDeclareArguments, QueueUnbindArguments,
};
use amqprs::connection::{Connection, OpenConnectionArguments};
use amqprs::{BasicProperties, FieldTable, FieldValue};
use messaging_amqp::{Rabbit, RabbitConfig};
use messaging_core::observe::{Notice, Observer};
use messaging_core::topology::GroupConfig;
use messaging_core::{
    Broker, Bytes, Consumer, Delivery, Error, ErrorKind, Message, MessageId, Patterns, Received,
    SubscribeSpec, Topology,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// An exchange and groups of its own on the server that `cargo xtask env` tells of.
struct Place {
    config: RabbitConfig,
    exchange: String,
}

impl Place {
    fn find() -> Self {
        let hint = "cargo xtask up rabbitmq, then cargo xtask env";
        assert!(std::env::var_os("RABBITMQ_URL").is_some(), "RABBITMQ_URL is not set; {hint}");
        let exchange = format!("test-{}", MessageId::generate());
        let config = RabbitConfig::from_env().unwrap().with_exchange(&exchange).unwrap();
        Self { config, exchange }
    }

    /// A group's name that no other test has.
    fn group(&self, name: &str) -> String {
        format!("{}-{name}", self.exchange)
    }

    async fn broker(&self) -> (Broker, Rabbit) {
        let rabbit = Rabbit::connect(self.config.clone()).await.unwrap();
        let builder = Broker::builder(rabbit.clone()).topology(Topology::default());
        (builder.open().await.unwrap(), rabbit)
    }

    async fn broker_with(&self, topology: &Topology) -> Broker {
        let rabbit = Rabbit::connect(self.config.clone()).await.unwrap();
        Broker::builder(rabbit).topology(topology.clone()).open().await.unwrap()
    }

    /// A client that is not ours.
    async fn foreign(&self) -> (Connection, Channel) {
        let node = &self.config.nodes[0];
        let password = self.config.password.reveal();
        let mut arguments =
            OpenConnectionArguments::new(&node.host, node.port, &self.config.user, password);
        arguments.virtual_host(&self.config.vhost);
        let connection = Connection::open(&arguments).await.unwrap();
        let channel = connection.open_channel(None).await.unwrap();
        (connection, channel)
    }
}

/// A group by priority that has its queue, and nobody who takes from it.
async fn urgent(place: &Place) -> (String, Topology, SubscribeSpec) {
    let group = place.group("urgent");
    let mut config = GroupConfig::new(group.parse().unwrap(), Patterns::new(["tasks.#"]).unwrap());
    config.priority = true;
    let topology = Topology::default().group(config);
    let spec = SubscribeSpec::group(&group, ["tasks.#"]).unwrap().priority();
    let first = place.broker_with(&topology).await;
    drop(first.subscribe::<Bytes>(spec.clone()).await.unwrap());
    first.close().await.unwrap();
    (group, topology, spec)
}

async fn next(consumer: &mut Consumer<Bytes>) -> Delivery<Bytes> {
    timeout(Duration::from_secs(20), consumer.next()).await.unwrap().unwrap().unwrap()
}

fn message(subject: &str) -> Message {
    Message::new(subject.parse().unwrap(), subject.to_owned())
}

#[tokio::test]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn bind_queue_makes_a_queue_that_gets_what_matches_its_patterns() {
    let place = Place::find();
    let (broker, rabbit) = place.broker().await;
    let queue = place.group("worker-queue");
    rabbit.bind_queue(&queue, ["tasks.*", "completions.#"]).await.unwrap();
    rabbit.bind_queue(&queue, ["completions.#", "tasks.*"]).await.unwrap();
    for subject in ["tasks.a", "completions", "completions.a.b"] {
        broker.publish_message(message(subject)).await.unwrap();
    }
    let error = broker.publish_message(message("tasks.a.b")).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unroutable, "{error}");
    let spec = SubscribeSpec::group(&queue, ["tasks.*", "completions.#"]).unwrap();
    let mut consumer = broker.subscribe::<Bytes>(spec).await.unwrap();
    for subject in ["tasks.a", "completions", "completions.a.b"] {
        let delivery = next(&mut consumer).await;
        assert_eq!(&*delivery.message().subject, subject);
        delivery.ack();
    }
    let error = rabbit.bind_queue(&queue, ["tasks.#"]).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::GroupConflict { theirs: Some(_), .. }), "{error}");
    broker.close().await.unwrap();
}

#[tokio::test]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn a_foreign_sender_cannot_steer_attempts() {
    let place = Place::find();
    let (broker, _rabbit) = place.broker().await;
    let group = place.group("g");
    let spec = SubscribeSpec::group(&group, ["tasks.#"]).unwrap();
    let mut consumer = broker.subscribe::<Bytes>(spec).await.unwrap();
    let (_connection, channel) = place.foreign().await;
    let mut headers = FieldTable::new();
    for name in ["helixagent-attempts", "x-delivery-count"] {
        headers.insert(name.try_into().unwrap(), FieldValue::l(50));
    }
    let mut properties = BasicProperties::default();
    properties.with_headers(headers);
    let route = BasicPublishArguments::new(&place.exchange, "tasks.x");
    channel.basic_publish(properties, b"forged".to_vec(), route).await.unwrap();
    for attempt in 1..=2 {
        let delivery = next(&mut consumer).await;
        assert_eq!((&delivery[..], delivery.attempt()), (&b"forged"[..], attempt));
        drop(delivery);
    }
    broker.close().await.unwrap();
}

#[tokio::test]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn what_is_held_beyond_the_servers_patience_is_ended_before_it_closes_the_channel() {
    let mut place = Place::find();
    place.config.consumer_timeout = Duration::from_secs(2);
    let (broker, _rabbit) = place.broker().await;
    let group = place.group("g");
    let spec = SubscribeSpec::group(&group, ["tasks.#"]).unwrap();
    let mut consumer = broker.subscribe::<Bytes>(spec).await.unwrap();
    broker.publish_message(message("tasks.slow")).await.unwrap();
    let held = next(&mut consumer).await;
    let again = next(&mut consumer).await;
    assert_eq!((&*again.message().subject, again.attempt()), ("tasks.slow", 2));
    let error = held.ack_confirmed().await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Stale);
    again.ack();
    broker.close().await.unwrap();
}

#[tokio::test]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn a_handler_beyond_the_servers_patience_is_cancelled_and_its_message_comes_again() {
    let mut place = Place::find();
    place.config.consumer_timeout = Duration::from_secs(2);
    let (broker, _rabbit) = place.broker().await;
    let (guard, cancelled) = oneshot::channel::<()>();
    let guard = Mutex::new(Some(guard));
    let handler = move |_: Received<Bytes>| {
        let first = guard.lock().unwrap().take();
        async move {
            if let Some(_dropped_with_it) = first {
                pending::<()>().await;
            }
            Ok::<_, Error>(())
        }
    };
    let worker = broker.worker(&place.group("g"), ["tasks.#"]).spawn(handler).await.unwrap();
    broker.publish_message(message("tasks.slow")).await.unwrap();
    assert!(timeout(Duration::from_secs(10), cancelled).await.unwrap().is_err());
    worker.settled(1).await.unwrap();
    worker.stop().await.unwrap();
    broker.close().await.unwrap();
}

#[tokio::test]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn a_group_of_the_topology_with_priorities_gets_more_urgent_messages_first() {
    let place = Place::find();
    let (_, topology, spec) = urgent(&place).await;
    let broker = place.broker_with(&topology).await;
    for (priority, subject) in [(0, "tasks.a"), (9, "tasks.b"), (5, "tasks.c"), (9, "tasks.d")] {
        broker.publish_message(message(subject).with_priority(priority)).await.unwrap();
    }
    let mut consumer = broker.subscribe::<Bytes>(spec.prefetch(NonZeroU32::MIN)).await.unwrap();
    for subject in ["tasks.b", "tasks.d", "tasks.c", "tasks.a"] {
        let delivery = next(&mut consumer).await;
        assert_eq!(&*delivery.message().subject, subject);
        delivery.ack_confirmed().await.unwrap();
    }
    broker.close().await.unwrap();
}

#[tokio::test]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn what_the_server_can_not_forward_from_a_retry_still_counts_as_waiting() {
    let place = Place::find();
    let (broker, _) = place.broker().await;
    let group = place.group("stuck");
    let spec = SubscribeSpec::group(&group, ["tasks.#"]).unwrap();
    let mut consumer = broker.subscribe::<Bytes>(spec).await.unwrap();
    broker.publish_message(message("tasks.a")).await.unwrap();
    let (_connection, channel) = place.foreign().await;
    let prefix = &place.config.prefix;
    let way = QueueUnbindArguments::new(&group, &format!("{prefix}.return.{group}"), "");
    channel.queue_unbind(way).await.unwrap();
    next(&mut consumer).await.retry(Duration::from_secs(1)).unwrap();
    let tier = format!("{prefix}.retry.{group}.1s");
    let passive = QueueDeclareArguments::new(&tier).passive(true).finish();
    let ready = async || channel.queue_declare(passive.clone()).await.unwrap().unwrap().1;
    let group = group.parse().unwrap();
    let waiting = async || broker.lag(Some(&group)).await.unwrap()[0].waiting;
    let held_back = async {
        while ready().await == 0 {}
        while ready().await > 0 {}
        while waiting().await == 0 {}
    };
    timeout(Duration::from_secs(30), held_back).await.unwrap();
    broker.close().await.unwrap();
}

/// What was put aside.
#[derive(Debug)]
struct Parked(mpsc::UnboundedSender<String>);

impl Observer for Parked {
    fn notice(&self, notice: &Notice) {
        if let Notice::Parked(parked) = notice {
            self.0.send(parked.reason.clone()).unwrap();
        }
    }
}

#[tokio::test]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn a_foreign_message_whose_routing_key_is_no_subject_is_kept_as_a_dead_letter() {
    let place = Place::find();
    let (broker, _rabbit) = place.broker().await;
    let shared = SubscribeSpec::group(&place.group("g"), ["tasks.#"]).unwrap();
    let _shared = broker.subscribe::<Bytes>(shared).await.unwrap();
    let ordered = SubscribeSpec::group(&place.group("o"), ["#"]).unwrap().ordered();
    let _ordered = broker.subscribe::<Bytes>(ordered).await.unwrap();
    let (_connection, channel) = place.foreign().await;
    let long = format!("tasks.{}", "x".repeat(249));
    let no_stream = format!("{}.x", "x".repeat(101));
    for routing_key in ["tasks.my task", &long, &no_stream] {
        let route = BasicPublishArguments::new(&place.exchange, routing_key);
        let body = routing_key.as_bytes().to_vec();
        channel.basic_publish(BasicProperties::default(), body, route).await.unwrap();
    }
    let spec = SubscribeSpec::dead_letters("look", "tasks").unwrap();
    let mut letters = broker.subscribe::<Bytes>(spec).await.unwrap();
    let mut found = Vec::new();
    for _ in 0..5 {
        let letter = next(&mut letters).await;
        let body = String::from_utf8(letter.to_vec()).unwrap();
        let told = letter.dead_letter().unwrap();
        assert!(told.reason.contains(&body), "{}", told.reason);
        found.push((told.group.to_owned(), body));
        letter.ack_confirmed().await.unwrap();
    }
    found.sort();
    let [shared, ordered] = [place.group("g"), place.group("o")];
    let key = || "tasks.my task".to_owned();
    let of_shared = [(&shared, key()), (&shared, long.clone())];
    let of_ordered = [(&ordered, key()), (&ordered, long), (&ordered, no_stream)];
    let expected: Vec<_> = of_shared.into_iter().chain(of_ordered).collect();
    let expected = expected.into_iter().map(|(group, body)| (group.clone(), body));
    assert_eq!(found, expected.collect::<Vec<_>>());
    broker.close().await.unwrap();
}

#[tokio::test]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn a_dead_letter_whose_routing_key_is_no_subject_outlives_being_looked_at() {
    let place = Place::find();
    let (tell, mut parked) = mpsc::unbounded_channel();
    let rabbit = Rabbit::connect(place.config.clone()).await.unwrap();
    let builder = Broker::builder(rabbit).topology(Topology::default());
    let broker = builder.observer(Arc::new(Parked(tell))).open().await.unwrap();
    let spec = SubscribeSpec::dead_letters("look", "tasks").unwrap();
    let mut letters = broker.subscribe::<Bytes>(spec).await.unwrap();
    let (_connection, channel) = place.foreign().await;
    let prefix = &place.config.prefix;
    let route = BasicPublishArguments::new(&format!("{prefix}.dlx"), "tasks.my task");
    channel.basic_publish(BasicProperties::default(), b"kept".to_vec(), route).await.unwrap();
    let seen = tokio::select! {
        reason = parked.recv() => reason.unwrap(),
        delivery = next(&mut letters) => panic!("{delivery:?}"),
    };
    assert!(seen.contains("my task"), "{seen}");
    drop(letters);
    broker.close().await.unwrap();
    let kept = channel.basic_get(BasicGetArguments::new(&format!("{prefix}.dlq.tasks"))).await;
    assert_eq!(kept.unwrap().unwrap().2, b"kept");
}

#[tokio::test]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn a_foreign_sender_cannot_steer_attempts_of_a_group_by_priority() {
    let place = Place::find();
    let (group, topology, spec) = urgent(&place).await;
    let (connection, channel) = place.foreign().await;
    let mut headers = FieldTable::new();
    headers.insert("x-delivery-count".try_into().unwrap(), FieldValue::l(50));
    let mut properties = BasicProperties::default();
    properties.with_headers(headers);
    let route = BasicPublishArguments::new(&place.exchange, "tasks.x");
    channel.basic_publish(properties, b"forged".to_vec(), route).await.unwrap();
    let taken = async {
        while channel.basic_get(BasicGetArguments::new(&group)).await.unwrap().is_none() {}
    };
    timeout(Duration::from_secs(20), taken).await.unwrap();
    // The message returns with the mark of one that was handed out before.
    connection.close().await.unwrap();
    let broker = place.broker_with(&topology).await;
    let mut consumer = broker.subscribe::<Bytes>(spec).await.unwrap();
    let delivery = next(&mut consumer).await;
    assert_eq!((&delivery[..], delivery.attempt()), (&b"forged"[..], 2));
    delivery.ack_confirmed().await.unwrap();
    broker.close().await.unwrap();
}
