//! Redis Pub/Sub against a real server.
//!
//! What every backend that can listen does is in the conformance suite.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests fail by panicking and say why they are ignored"
)]

#[path = "support/server.rs"]
mod server;
#[macro_use]
#[path = "support/trials.rs"]
mod trials;

use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use messaging_core::driver::Scope;
use messaging_core::observe::{Notice, Observer};
use messaging_core::{
    Assurance, Broker, Bytes, ContentType, ErrorKind, Feature, Heard, Listener, Message, Payload,
    Received, Start, SubscribeSpec, Task, json,
};
use messaging_redis::config::{Address, Format, Servers};
use messaging_redis::{PubSub, RedisConfig};
use tokio::time::timeout;

use self::server::{PASSWORD, Server, free_port};

fn main() -> ExitCode {
    trials::run(trials![
        a_task_is_exactly_its_json_to_any_client_both_ways,
        what_json_alone_cannot_say_travels_in_an_envelope,
        a_receipt_tells_whether_anybody_was_there,
        a_broken_envelope_is_put_aside_and_ends_nothing,
        the_raw_format_refuses_what_it_cannot_carry,
        what_needs_something_kept_is_refused_with_a_hint,
        a_cluster_is_joined_at_the_first_node_that_answers,
        who_gives_no_password_or_a_wrong_one_is_denied_at_the_named_address,
    ])
}

/// How long something that must come may take.
const SOON: Duration = Duration::from_secs(30);

async fn open(config: RedisConfig) -> Broker {
    Broker::builder(PubSub::connect(config).await.unwrap()).open().await.unwrap()
}

async fn listen<T: Payload>(broker: &Broker, patterns: &[&str]) -> Listener<T> {
    broker.listen(SubscribeSpec::broadcast(patterns).unwrap()).await.unwrap()
}

async fn next<T: Payload>(listener: &mut Listener<T>) -> Heard<T> {
    timeout(SOON, listener.next()).await.expect("nothing comes").unwrap().unwrap()
}

async fn heard<T: Payload + std::fmt::Debug>(listener: &mut Listener<T>) -> Received<T> {
    match next(listener).await {
        Heard::Message(message) => message,
        other => panic!("{other:?}"),
    }
}

fn message(subject: &str, body: impl Into<Bytes>) -> Message {
    Message::new(subject.parse().unwrap(), body)
}

fn json_message(subject: &str, body: &'static str) -> Message {
    message(subject, body).with_content_type(ContentType::Json)
}

async fn a_task_is_exactly_its_json_to_any_client_both_ways() {
    let server = Server::start(&[]).await;
    let broker = open(server.config()).await;
    let mut listener = listen::<Task>(&broker, &["tasks.#"]).await;
    let mut foreign = server.client().get_async_pubsub().await.unwrap();
    foreign.subscribe("helixagent.tasks.completion").await.unwrap();

    let task = Task::new("completion", json!({ "model": "helix-ensemble" }));
    let receipt = broker.publish(&task).await.unwrap();
    assert_eq!(receipt.assurance, Assurance::Accepted);
    let pushed = timeout(SOON, foreign.on_message().next()).await.unwrap().unwrap();
    assert_eq!(pushed.get_payload_bytes(), task.to_json().unwrap());
    let got = heard(&mut listener).await;
    assert_eq!((&*got, &got.message().id.to_string()), (&task, &task.id));

    let theirs = r#"{"id": "theirs-1", "type": "plan", "priority": 3, "payload": {}}"#;
    server.run(redis::cmd("PUBLISH").arg("helixagent.tasks.plan").arg(theirs)).await;
    let got = heard(&mut listener).await;
    assert_eq!(
        (&*got.message().id.to_string(), &*got.message().subject),
        ("theirs-1", "tasks.plan")
    );
    assert_eq!(got.message().body, theirs);
    broker.close().await.unwrap();
}

async fn what_json_alone_cannot_say_travels_in_an_envelope() {
    let server = Server::start(&[]).await;
    let broker = open(server.config()).await;
    let mut listener = listen::<Bytes>(&broker, &["events.note"]).await;
    let mut foreign = server.client().get_async_pubsub().await.unwrap();
    foreign.psubscribe("helixagent.*").await.unwrap();
    let sent = message("events.note", &b"\x00\xff"[..])
        .with_id("note-1".parse().unwrap())
        .with_key(&b"user\x00\xff"[..])
        .with_content_type(ContentType::from("text/plain"))
        .with_header("tenant", "acme")
        .unwrap();
    for sent in [sent, json_message("events.note", "{}").with_header("a", "b").unwrap()] {
        broker.publish_message(sent.clone()).await.unwrap();
        assert_eq!(*heard(&mut listener).await.message(), sent);
        let pushed = timeout(SOON, foreign.on_message().next()).await.unwrap().unwrap();
        assert!(pushed.get_payload_bytes().starts_with(b"\xf7HX\x01"));
    }
}

async fn a_receipt_tells_whether_anybody_was_there() {
    let server = Server::start(&[]).await;
    let broker = open(server.config()).await;
    let receipt = broker.publish_message(message("events.x", "x")).await.unwrap();
    assert_eq!(receipt.assurance, Assurance::NoReceiver);
    let _listener = listen::<Bytes>(&broker, &["events.x"]).await;
    let receipt = broker.publish_message(message("events.x", "x")).await.unwrap();
    assert_eq!(receipt.assurance, Assurance::Accepted);
}

#[derive(Debug, Default)]
struct Notices(Mutex<Vec<Notice>>);

impl Observer for Notices {
    fn notice(&self, notice: &Notice) {
        self.0.lock().unwrap().push(notice.clone());
    }
}

async fn open_watched(config: RedisConfig) -> (Broker, Arc<Notices>) {
    let notices = Arc::new(Notices::default());
    let observer: Arc<Notices> = Arc::clone(&notices);
    let driver = PubSub::connect(config).await.unwrap();
    (Broker::builder(driver).observer(observer).open().await.unwrap(), notices)
}

async fn a_broken_envelope_is_put_aside_and_ends_nothing() {
    let server = Server::start(&[]).await;
    let (broker, notices) = open_watched(server.config()).await;
    let mut listener = listen::<Bytes>(&broker, &["events.#"]).await;
    let broken = &b"\xf7HX\x01\x0a\x7f"[..];
    server.run(redis::cmd("PUBLISH").arg("helixagent.events.x").arg(broken)).await;
    server.run(redis::cmd("PUBLISH").arg("helixagent.events.x").arg("whole")).await;
    let got = heard(&mut listener).await;
    assert_eq!((&**got, &got.message().content_type), (&b"whole"[..], &ContentType::OctetStream));
    let seen = notices.0.lock().unwrap();
    assert!(seen.iter().any(|notice| matches!(notice, Notice::Parked(_))), "{seen:?}");
}

async fn the_raw_format_refuses_what_it_cannot_carry() {
    let server = Server::start(&[]).await;
    let mut config = server.config();
    config.format = Format::Raw;
    let broker = open(config).await;
    assert!(!broker.capabilities(Scope::Broker).has(Feature::Headers));
    let mut listener = listen::<Bytes>(&broker, &["events.#"]).await;
    for refused in [
        json_message("events.x", "1").with_key("k"),
        json_message("events.x", "1").with_header("a", "b").unwrap(),
        message("events.x", "text"),
    ] {
        let error = broker.publish_message(refused).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Unsupported(Feature::Headers));
        assert!(error.to_string().contains("REDIS_PUBSUB_FORMAT"), "{error}");
    }
    broker.publish_message(json_message("events.x", "[1]")).await.unwrap();
    assert_eq!(*heard(&mut listener).await, "[1]");
}

async fn what_needs_something_kept_is_refused_with_a_hint() {
    let server = Server::start(&[]).await;
    let broker = open(server.config()).await;
    let group = || SubscribeSpec::group("g", ["tasks.#"]).unwrap();
    let error = broker.subscribe::<Task>(group()).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unsupported(Feature::Settlement));
    assert!(error.to_string().contains("redis-streams"), "{error}");
    assert!(error.to_string().contains("listen"), "{error}");
    let early = SubscribeSpec::broadcast(["tasks.#"]).unwrap().start(Start::Earliest);
    let error = broker.listen::<Task>(early).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unsupported(Feature::StartEarliest));
    let late = SubscribeSpec::broadcast(["tasks.#"]).unwrap().start(Start::Latest);
    drop(broker.listen::<Task>(late).await.unwrap());
    assert_eq!(*broker.lag(None).await.unwrap_err().kind(), ErrorKind::Unsupported(Feature::Lag));
    let error = broker.publish_message(message("nowhere.x", "")).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::UnknownStream);
    let health = broker.admin().unwrap().health().await.unwrap();
    assert!(health.serving && health.version.is_some(), "{health:?}");
}

async fn a_cluster_is_joined_at_the_first_node_that_answers() {
    let server = Server::start(&["--cluster-enabled", "yes"]).await;
    let slots = &mut redis::cmd("CLUSTER");
    server.run(slots.arg("ADDSLOTSRANGE").arg(0).arg(16_383)).await;
    let nodes = [free_port(), server.port].map(|port| Address::new("127.0.0.1", port));
    let broker = open(server.config().with_servers(Servers::Cluster(nodes.into()))).await;
    let mut listener = listen::<Bytes>(&broker, &["events.#"]).await;
    let receipt = broker.publish_message(message("events.x", "x")).await.unwrap();
    assert_eq!(receipt.assurance, Assurance::Accepted);
    assert_eq!(*heard(&mut listener).await, "x");
}

async fn who_gives_no_password_or_a_wrong_one_is_denied_at_the_named_address() {
    let server = Server::start(&[]).await;
    let address = Address::new("127.0.0.1", server.port);
    let none = RedisConfig::default().with_servers(Servers::Node(address));
    let wrong = server.config().with_password("hunter2-hunter2");
    for config in [none, wrong] {
        let error = PubSub::connect(config).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Denied, "{error}");
        assert!(error.to_string().contains(&format!("127.0.0.1:{}", server.port)), "{error}");
    }
    let driver = PubSub::connect(server.config()).await.unwrap();
    assert!(!format!("{driver:?} {:?}", server.config()).contains(PASSWORD));
}
