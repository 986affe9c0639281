//! RabbitMQ on a node of its own: what a user can get wrong, and messages that break a client.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use messaging::rabbitmq::{Rabbit, RabbitConfig};
use messaging::{
    Broker, Bytes, Consumer, Delivery, Error, ErrorKind, Message, Result, SubscribeSpec,
};
use serde_json::json;
use tokio::time::{Instant, timeout};
use xtask::brokers::{Kind, Options, Private};

/// What a call that fails may take.
const DEADLINE: Duration = Duration::from_secs(12);

struct Node(Private);

impl Node {
    fn start(options: Options) -> Self {
        Self(Private::start("test", options).unwrap())
    }

    fn url(&self) -> String {
        self.0.variable("RABBITMQ_URL").unwrap()
    }

    fn put(&self, path: &str, value: &serde_json::Value) {
        self.0.management().unwrap().put(path, value).unwrap();
    }

    /// A broker by the variables that lead to it, with something else for one of them.
    async fn open(&self, other: Option<(&str, &str)>) -> Result<Broker> {
        let config = RabbitConfig::from_variables(|name| {
            let other = other.filter(|(changed, _)| *changed == name);
            let value = other.map(|(_, value)| value.to_owned());
            Ok::<_, Error>(value.or_else(|| self.0.variable(name)))
        })?;
        Broker::builder(Rabbit::connect(config).await?).open().await
    }

    /// Why there is no broker with this variable.
    async fn refusal(&self, name: &str, value: &str) -> Error {
        let began = Instant::now();
        let error = self.open(Some((name, value))).await.unwrap_err();
        assert!(began.elapsed() < DEADLINE, "{:?}: {error}", began.elapsed());
        error
    }
}

fn message(subject: &str, body: impl Into<Bytes>) -> Message {
    Message::new(subject.parse().unwrap(), body)
}

async fn subscribe(broker: &Broker, group: &str, pattern: &str) -> Consumer<Bytes> {
    let spec = SubscribeSpec::group(group, [pattern]).unwrap();
    broker.subscribe::<Bytes>(spec).await.unwrap()
}

async fn next(consumer: &mut Consumer<Bytes>) -> Result<Delivery<Bytes>> {
    timeout(Duration::from_secs(30), consumer.next()).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn bad_input_is_typed_and_named_within_the_deadline_and_harms_nobody_else() {
    let options = Options::new(Kind::RabbitMq).with_setting("max_message_size", "65536");
    let server = Node::start(options);
    let broker = server.open(None).await.unwrap();
    let mut consumer = subscribe(&broker, "others", "tasks.#").await;
    let url = server.url();
    let (user, rest) = url.trim_start_matches("amqp://").split_once(':').unwrap();
    let (password, address) = rest.split_once('@').unwrap();

    let error = server.refusal("RABBITMQ_URL", &url.replace(password, "hunter2")).await;
    assert_eq!(*error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.to_string().contains(user), "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");

    let error = server.refusal("RABBITMQ_URL", &format!("{url}no%20where")).await;
    assert_eq!(*error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("no where"), "{error}");

    let management = server.0.variable("RABBITMQ_MANAGEMENT_URL").unwrap();
    let error = server.refusal("RABBITMQ_URL", &management.replace("http", "amqp")).await;
    assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::InvalidConfig), "{error}");
    assert!(error.to_string().contains("management"), "{error}");

    let all = json!({ "configure": ".*", "write": ".*", "read": ".*" });
    server.put("/api/users/a%40b", &json!({ "password": "p/w%41", "tags": "" }));
    server.put("/api/permissions/%2F/a%40b", &all);
    let (_, at) = address.split_once(':').unwrap();
    let escaped = format!("amqp://a%40b:p%2Fw%2541@127.0.0.1:{}/%2f", at.trim_end_matches('/'));
    server.open(Some(("RABBITMQ_URL", &escaped))).await.unwrap().close().await.unwrap();

    server.put("/api/exchanges/%2F/other", &json!({ "type": "fanout", "durable": true }));
    let error = server.refusal("RABBITMQ_EXCHANGE", "other").await;
    assert_eq!(*error.kind(), ErrorKind::InvalidConfig, "{error}");
    assert!(error.to_string().contains("'other'"), "{error}");

    let long = "x".repeat(256);
    let error = server.refusal("RABBITMQ_EXCHANGE", &long).await;
    assert!(matches!(error.kind(), ErrorKind::InvalidName | ErrorKind::InvalidConfig), "{error}");

    let classic = json!({ "durable": true, "arguments": { "x-queue-type": "classic" } });
    server.put("/api/queues/%2F/taken", &classic);
    let spec = SubscribeSpec::group("taken", ["tasks.#"]).unwrap();
    let error = timeout(DEADLINE, broker.subscribe::<Bytes>(spec)).await.unwrap().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::InvalidConfig, "{error}");
    assert!(error.to_string().contains("'taken'"), "{error}");

    server.put("/api/users/guest2", &json!({ "password": "p", "tags": "" }));
    let none = json!({ "configure": "", "write": "", "read": "" });
    server.put("/api/permissions/%2F/guest2", &none);
    let error = server.refusal("RABBITMQ_URL", &format!("amqp://guest2:p@{address}")).await;
    assert_eq!(*error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.to_string().contains("guest2"), "{error}");

    let large = broker.publish_message(message("tasks.large", vec![0; 70_000]));
    let error = timeout(DEADLINE, large).await.unwrap().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::TooLarge { size: 70_000, limit: 65_536 }, "{error}");

    broker.publish_message(message("tasks.small", "small")).await.unwrap();
    let delivery = next(&mut consumer).await.unwrap();
    assert_eq!((&delivery[..], delivery.attempt()), (&b"small"[..], 1));
    delivery.ack();
    broker.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn a_message_that_the_client_library_cannot_read_ends_its_subscription_and_no_other() {
    let server = Node::start(Options::new(Kind::RabbitMq));
    let broker = server.open(None).await.unwrap();
    let mut healthy = subscribe(&broker, "healthy", "completions.#").await;
    let mut poisoned = subscribe(&broker, "poisoned", "tasks.#").await;

    let foreign =
        Connection::connect(server.url().trim_end_matches('/'), ConnectionProperties::default())
            .await
            .unwrap();
    let channel = foreign.create_channel().await.unwrap();
    let mut headers = FieldTable::default();
    // Latin-1: AMQP allows every byte here.
    let latin = LongString::from(b"caf\xe9".to_vec());
    headers.insert(ShortString::from("place"), AMQPValue::LongString(latin));
    let properties = BasicProperties::default().with_headers(headers);
    let (exchange, subject) = ("helixagent".into(), "tasks.latin".into());
    let options = BasicPublishOptions::default();
    let published = channel.basic_publish(exchange, subject, options, b"{}", properties);
    published.await.unwrap().await.unwrap();

    let error = next(&mut poisoned).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Undecodable, "{error}");
    assert!(error.to_string().contains("poisoned"), "{error}");
    for number in 0..3 {
        broker.publish_message(message("completions.x", vec![number])).await.unwrap();
        let delivery = next(&mut healthy).await.unwrap();
        assert_eq!((&delivery[..], delivery.attempt()), (&[number][..], 1));
        delivery.ack();
    }
    broker.close().await.unwrap();
}
