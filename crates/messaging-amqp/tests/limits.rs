//! The server's limits, on a real server.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and use the client library bare"
)]

use std::time::Duration;

use amqprs::channel::BasicPublishArguments;
use amqprs::connection::{Connection, OpenConnectionArguments};
use amqprs::{BasicProperties, FieldTable, FieldValue};
use messaging_amqp::{Rabbit, RabbitConfig};
use messaging_core::{
    Broker, Bytes, Consumer, Delivery, ErrorKind, Message, MessageId, SubscribeSpec, Topology,
};
use tokio::time::timeout;

fn place() -> (RabbitConfig, String) {
    let hint = "cargo xtask up rabbitmq, then cargo xtask env";
    assert!(std::env::var_os("RABBITMQ_URL").is_some(), "RABBITMQ_URL is not set; {hint}");
    let exchange = format!("test-{}", MessageId::generate());
    (RabbitConfig::from_env().unwrap().with_exchange(&exchange).unwrap(), exchange)
}

async fn connect(config: &RabbitConfig) -> Broker {
    let rabbit = Rabbit::connect(config.clone()).await.unwrap();
    Broker::builder(rabbit).topology(Topology::default()).open().await.unwrap()
}

async fn next(consumer: &mut Consumer<Bytes>) -> Delivery<Bytes> {
    timeout(Duration::from_secs(20), consumer.next()).await.unwrap().unwrap().unwrap()
}

/// A message whose headers have about this many bytes, a multiple of 1,000.
fn laden(bytes: usize) -> Message {
    let mut message = Message::new("tasks.laden".parse().unwrap(), "laden");
    for n in 0..bytes / 1_000 {
        message.headers.insert(&format!("h{n:03}"), vec![b'x'; 1_000]).unwrap();
    }
    message
}

#[tokio::test]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn headers_beyond_a_frame_are_refused_and_the_connection_lives() {
    let (config, exchange) = place();
    let broker = connect(&config).await;
    let spec = SubscribeSpec::group(&format!("{exchange}-g"), ["tasks.#"]).unwrap();
    let mut consumer = broker.subscribe::<Bytes>(spec).await.unwrap();
    let error = broker.publish_message(laden(127_000)).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TooLarge { .. }), "{error}");
    broker.publish_message(laden(120_000)).await.unwrap();
    next(&mut consumer).await.retry(Duration::from_secs(1)).unwrap();
    let again = next(&mut consumer).await;
    assert_eq!(again.message().headers.len(), 120);
    again.reject("x".repeat(1_000));
    let spec = SubscribeSpec::dead_letters("look", "tasks").unwrap();
    let mut letters = broker.subscribe::<Bytes>(spec).await.unwrap();
    let letter = next(&mut letters).await;
    assert_eq!(letter.dead_letter().unwrap().reason.len(), 1_000);
    letter.ack_confirmed().await.unwrap();
    broker.close().await.unwrap();
}

#[tokio::test]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn a_foreign_message_that_leaves_no_room_for_what_a_copy_adds_becomes_a_dead_letter_as_it_is()
{
    let (config, exchange) = place();
    let broker = connect(&config).await;
    let spec = SubscribeSpec::group(&format!("{exchange}-g"), ["tasks.#"]).unwrap();
    let mut consumer = broker.subscribe::<Bytes>(spec).await.unwrap();
    let (node, password) = (&config.nodes[0], config.password.reveal());
    let mut arguments = OpenConnectionArguments::new(&node.host, node.port, &config.user, password);
    arguments.virtual_host(&config.vhost);
    let connection = Connection::open(&arguments).await.unwrap();
    let channel = connection.open_channel(None).await.unwrap();
    let mut headers = FieldTable::new();
    let value = FieldValue::S("x".repeat(131_000).try_into().unwrap());
    headers.insert("h".try_into().unwrap(), value);
    let mut properties = BasicProperties::default();
    properties.with_headers(headers);
    let route = BasicPublishArguments::new(&exchange, "tasks.x");
    channel.basic_publish(properties, b"foreign".to_vec(), route).await.unwrap();
    next(&mut consumer).await.retry(Duration::from_secs(1)).unwrap();
    let spec = SubscribeSpec::dead_letters("look", "tasks").unwrap();
    let mut letters = broker.subscribe::<Bytes>(spec).await.unwrap();
    let letter = next(&mut letters).await;
    let header = letter.message().headers.get("h").unwrap();
    assert_eq!((&letter[..], header.len()), (&b"foreign"[..], 131_000));
    letter.ack_confirmed().await.unwrap();
    broker.publish_message(laden(1_000)).await.unwrap();
    assert_eq!(&next(&mut consumer).await[..], b"laden");
    broker.close().await.unwrap();
}
