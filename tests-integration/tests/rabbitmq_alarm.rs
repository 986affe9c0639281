//! A RabbitMQ node that is short of memory for a minute: publishers are held back, and keep their
//! budget of memory.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use messaging::rabbitmq::{Rabbit, RabbitConfig};
use messaging::{Broker, Bytes, Error, ErrorKind, SendSpec, SubscribeSpec};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use xtask::brokers::{Kind, Options, Private};

/// How long the server is short of memory.
const ALARM: Duration = Duration::from_secs(60);

/// What may be unconfirmed, and how much is offered: far more, if anything of it were kept.
const WINDOW: usize = 16 << 20;
const PUBLISHERS: usize = 500;
const BODY: usize = 16 << 10;
const DEADLINE: Duration = Duration::from_millis(500);

/// What the process may grow by: the window on its way through two queues, what the publishers
/// themselves hold, and what an allocator keeps.
const GROWTH: usize = 2 * WINDOW + PUBLISHERS * BODY + (64 << 20);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes over a minute; cargo xtask test runs it"]
async fn memory_stays_inside_its_budget_while_the_server_blocks_publishers() {
    let node = Private::start("test", Options::new(Kind::RabbitMq)).unwrap();
    let url = node.variable("RABBITMQ_URL").unwrap();
    let get = |name: &str| Ok((name == "RABBITMQ_URL").then(|| url.clone()));
    let driver = Rabbit::connect(RabbitConfig::from_variables(get).unwrap()).await.unwrap();
    let broker = Broker::builder(driver).window(100_000, WINDOW).open().await.unwrap();
    let spec = SubscribeSpec::group("alarmed", ["tasks.#"]).unwrap();
    let mut consumer = broker.subscribe::<Bytes>(spec).await.unwrap();
    let send = SendSpec::to("tasks").unwrap().timeout(DEADLINE);
    let publisher = broker.publisher::<Bytes>(send).await.unwrap();
    publisher.publish(&Bytes::from_static(b"first")).await.unwrap();
    consumer.next().await.unwrap().unwrap().ack();

    set_watermark(&node, &["absolute", "1MB"]);
    until_alarm_is(&node, true).await;
    let before = resident();
    let end = Instant::now() + ALARM;
    let mut publishing = JoinSet::new();
    for _ in 0..PUBLISHERS {
        let publisher = publisher.clone();
        publishing.spawn(async move {
            let mut calls: usize = 0;
            while Instant::now() < end {
                let outcome = publisher.publish(&vec![7; BODY].into()).await;
                assert!(outcome.as_ref().is_err_and(is_held_back), "{outcome:?}");
                calls += 1;
            }
            calls
        });
    }
    let mut most = 0;
    while Instant::now() < end {
        sleep(Duration::from_secs(1)).await;
        most = most.max(resident().saturating_sub(before));
    }
    let calls: usize = publishing.join_all().await.into_iter().sum();
    assert!(calls * BODY > 4 * GROWTH, "{calls} calls could have filled the memory");
    assert!(most < GROWTH, "{} MiB more than before", most >> 20);

    set_watermark(&node, &["0.4"]);
    until_alarm_is(&node, false).await;
    let recovered = async {
        while let Err(error) = publisher.publish(&Bytes::from_static(b"last")).await {
            assert!(is_held_back(&error), "{error}");
        }
    };
    timeout(Duration::from_secs(5), recovered).await.expect("publishing does not go on");
    // Some of what nobody knew is there too; nothing stands in the way of what was confirmed.
    let last = async {
        loop {
            let delivery = consumer.next().await.unwrap().unwrap();
            let is_last = &delivery[..] == b"last";
            delivery.ack();
            if is_last {
                return;
            }
        }
    };
    timeout(Duration::from_secs(30), last).await.expect("what was confirmed does not come");
    broker.close().await.unwrap();
}

/// Whether it says that the server took nothing in time, or that nobody knows.
fn is_held_back(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotSent | ErrorKind::OutcomeUnknown)
}

fn set_watermark(node: &Private, mark: &[&str]) {
    let args = ["set_vm_memory_high_watermark"].iter().chain(mark);
    let output = node.rabbitmqctl(args).unwrap().output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

async fn until_alarm_is(node: &Private, wanted: bool) {
    let is_so = async {
        let path = "/api/nodes?columns=mem_alarm";
        loop {
            let nodes = node.management().unwrap().get(path).unwrap().unwrap_or_default();
            if nodes.get(0).and_then(|node| node.get("mem_alarm")?.as_bool()) == Some(wanted) {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(60), is_so).await.unwrap();
}

/// The resident memory of this process in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() << 10
}
