//! What 200 lost connections leave behind on both sides: nothing.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use messaging::rabbitmq::{Rabbit, RabbitConfig};
use messaging::{Broker, Bytes, Consumer, Publisher, SendSpec, SubscribeSpec};
use tests_integration::proxy::{Cut, Proxy};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};
use xtask::brokers::{Kind, Options, Private};

const RECONNECTS: u32 = 200;

/// What may take some time: that a connection is back, or that the server has noticed the end of one.
const SOON: Duration = Duration::from_secs(30);

#[derive(Debug, PartialEq, Eq)]
struct Resources {
    descriptors: usize,
    tasks: usize,
    connections: usize,
    channels: usize,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a broker; cargo xtask test starts one"]
async fn nothing_is_left_over_after_200_reconnects() {
    let node = Private::start("test", Options::new(Kind::RabbitMq)).unwrap();
    let server = node.address("rabbitmq-1").unwrap();
    let proxy = Proxy::start(server).await.unwrap();
    let url = node.variable("RABBITMQ_URL").unwrap();
    let [direct, through] = [server, proxy.address()].map(|address| format!(":{}", address.port()));
    let url = url.replace(&direct, &through);
    let get = |name: &str| Ok((name == "RABBITMQ_URL").then(|| url.clone()));
    let driver = Rabbit::connect(RabbitConfig::from_variables(get).unwrap()).await.unwrap();
    let broker = Broker::builder(driver).open().await.unwrap();
    let spec = SubscribeSpec::group("reconnecting", ["tasks.#"]).unwrap();
    let mut consumer = broker.subscribe::<Bytes>(spec).await.unwrap();
    let publisher = broker.publisher::<Bytes>(SendSpec::to("tasks").unwrap()).await.unwrap();

    reconnect(&proxy, &publisher, &mut consumer, 0).await;
    let before = used(&node);
    assert!(before.connections > 0 && before.channels > 0, "{before:?}");
    for round in 1..=RECONNECTS {
        reconnect(&proxy, &publisher, &mut consumer, round).await;
    }
    let as_before = async {
        loop {
            let now = used(&node);
            if now == before {
                return;
            }
            println!("{now:?}, and {before:?} before");
            sleep(Duration::from_secs(1)).await;
        }
    };
    timeout(SOON, as_before).await.unwrap();
    timeout(SOON, broker.close()).await.unwrap().unwrap();
}

/// Ends every connection, and waits until a message has come through again.
async fn reconnect(
    proxy: &Proxy,
    publisher: &Publisher<Bytes>,
    consumer: &mut Consumer<Bytes>,
    round: u32,
) {
    let body = Bytes::from(round.to_string());
    let through = async {
        proxy.cut(Cut::Reset).await;
        while publisher.publish(&body).await.is_err() {}
        loop {
            let delivery = consumer.next().await.unwrap().unwrap();
            let is_this = delivery[..] == body[..];
            delivery.ack_confirmed().await.ok();
            if is_this {
                return;
            }
        }
    };
    timeout(SOON, through).await.unwrap();
}

/// What this process and the server use now.
fn used(node: &Private) -> Resources {
    let listed = |what: &str| {
        let output = node.rabbitmqctl([what, "pid", "--silent"]).unwrap().output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().lines().count()
    };
    Resources {
        connections: listed("list_connections"),
        channels: listed("list_channels"),
        descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count(),
        tasks: Handle::current().metrics().num_alive_tasks(),
    }
}
