//! Redis Streams against a real server: what the conformance suite can't see.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests fail by panicking and say why they are ignored"
)]
#![allow(dead_code, reason = "the server can do more than these tests need")]

#[path = "support/server.rs"]
mod server;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use messaging_core::observe::{Notice, Observer};
use messaging_core::{Broker, Bytes, Message, Received};
use messaging_redis::Streams;
use tokio::time::{sleep, timeout};

use self::server::Server;

#[derive(Debug, Default)]
struct Notices(Mutex<Vec<Notice>>);

impl Observer for Notices {
    fn notice(&self, notice: &Notice) {
        self.0.lock().unwrap().push(notice.clone());
    }
}

/// How often the connections are lost: each time, some settlement was under way.
const LOSSES: usize = 40;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_settled_while_a_connection_comes_back_is_not_told_as_missed() {
    let Some(server) = Server::start(&[]).await else { return };
    let notices = Arc::new(Notices::default());
    let observer: Arc<dyn Observer> = Arc::<Notices>::clone(&notices);
    let driver = Streams::connect(server.config()).await.unwrap();
    let broker = Broker::builder(driver).observer(observer).open().await.unwrap();
    let handler = |_: Received<Bytes>| sleep(Duration::from_millis(2));
    let worker = broker.worker("settlers", ["tasks.#"]).concurrency(32).prefetch(64);
    let worker = worker.spawn(handler).await.unwrap();
    let publisher = Streams::connect(server.config()).await.unwrap();
    let publisher = Broker::builder(publisher).open().await.unwrap();
    let mut kill = redis::cmd("CLIENT");
    kill.arg("KILL").arg("TYPE").arg("normal");
    for _ in 0..LOSSES {
        for n in 0..200 {
            let message = Message::new("tasks.x".parse().unwrap(), format!("{n}"));
            // What is lost with its connection is nobody's to miss.
            publisher.publish_message(message).await.ok();
            if n == 150 {
                server.run(&kill).await;
            }
        }
    }
    timeout(Duration::from_secs(30), worker.stop()).await.unwrap().unwrap();
    let seen = notices.0.lock().unwrap();
    assert!(seen.iter().any(|notice| matches!(notice, Notice::Reconnected)), "{seen:?}");
    let gaps: Vec<_> = seen.iter().filter(|notice| matches!(notice, Notice::Gap(_))).collect();
    assert!(gaps.is_empty(), "{} times: {}", gaps.len(), gaps[0]);
}
