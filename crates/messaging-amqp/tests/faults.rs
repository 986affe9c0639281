//! What an operator may do underneath, on a real server.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and use the client library bare"
)]

use std::sync::Arc;
use std::time::Duration;

use amqprs::channel::QueueDeleteArguments;
use amqprs::connection::{Connection, OpenConnectionArguments};
use messaging_amqp::{Rabbit, RabbitConfig};
use messaging_core::observe::{Notice, Observer};
use messaging_core::{
    Broker, Bytes, Consumer, Delivery, ErrorKind, Gap, Message, MessageId, SubscribeSpec, Topology,
};
use tokio::sync::mpsc;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

/// The gaps that the application is told of.
#[derive(Debug)]
struct Gaps(mpsc::UnboundedSender<Gap>);

impl Observer for Gaps {
    fn notice(&self, notice: &Notice) {
        if let Notice::Gap(gap) = notice {
            self.0.send(gap.clone()).unwrap();
        }
    }
}

async fn next(consumer: &mut Consumer<Bytes>) -> Delivery<Bytes> {
    timeout(PATIENCE, consumer.next()).await.unwrap().unwrap().unwrap()
}

async fn delete(config: &RabbitConfig, queue: &str) {
    let (node, password) = (&config.nodes[0], config.password.reveal());
    let mut arguments = OpenConnectionArguments::new(&node.host, node.port, &config.user, password);
    arguments.virtual_host(&config.vhost);
    let connection = Connection::open(&arguments).await.unwrap();
    let channel = connection.open_channel(None).await.unwrap();
    channel.queue_delete(QueueDeleteArguments::new(queue)).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn a_queue_deleted_underneath_is_told_of_and_consumed_anew() {
    assert!(std::env::var_os("RABBITMQ_URL").is_some(), "RABBITMQ_URL is not set");
    let exchange = format!("test-{}", MessageId::generate());
    let config = RabbitConfig::from_env().unwrap().with_exchange(&exchange).unwrap();
    let rabbit = Rabbit::connect(config.clone()).await.unwrap();
    let (tell, mut gaps) = mpsc::unbounded_channel();
    let builder = Broker::builder(rabbit).topology(Topology::default());
    let broker = builder.observer(Arc::new(Gaps(tell))).open().await.unwrap();
    let group = format!("{exchange}-g");
    let spec = SubscribeSpec::group(&group, ["tasks.#"]).unwrap();
    let mut consumer = broker.subscribe::<Bytes>(spec).await.unwrap();
    let publish = async |body: &str| {
        let message = Message::new("tasks.x".parse().unwrap(), body.to_owned());
        broker.publish_message(message).await
    };
    publish("before").await.unwrap();
    let held = next(&mut consumer).await;

    delete(&config, &group).await;
    let told = async {
        // Gaps are told to whoever takes messages.
        tokio::select! {
            gap = gaps.recv() => gap.unwrap(),
            _ = consumer.next() => panic!("there is no message"),
        }
    };
    let gap = timeout(PATIENCE, told).await.unwrap();
    assert!(gap.missed.is_none() && gap.reason.contains("deleted"), "{gap:?}");
    let error = held.ack_confirmed().await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Stale, "it is nobody's any more");

    publish("after").await.unwrap();
    let delivery = next(&mut consumer).await;
    assert_eq!((&delivery[..], delivery.attempt()), (&b"after"[..], 1));
    delivery.ack();
    broker.close().await.unwrap();
}
