//! Redis Streams against a real server: what the conformance suite can't see.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests fail by panicking and say why they are ignored"
)]
#![allow(dead_code, reason = "the server can do more than these tests need")]

#[path = "support/server.rs"]
mod server;

use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};
use messaging_core::observe::{Notice, Observer};
use messaging_core::{Broker, Bytes, Message, Received};
use messaging_redis::Streams;
use tokio::runtime::Runtime;
use tokio::time::{sleep, timeout};

use self::server::Server;

fn main() -> ExitCode {
    // A missing server is a failure in CI, and elsewhere a reason to ignore.
    let missing = server::missing().filter(|_| std::env::var_os("CI").is_none());
    if let Some(reason) = &missing {
        println!("ignored: {reason}");
    }
    let name = "what_is_settled_while_a_connection_comes_back_is_not_told_as_missed";
    let trial = Trial::test(name, || {
        Runtime::new()?.block_on(settled_meanwhile());
        Ok(())
    });
    let trial = trial.with_ignored_flag(missing.is_some());
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}

#[derive(Debug, Default)]
struct Notices(Mutex<Vec<Notice>>);

impl Observer for Notices {
    fn notice(&self, notice: &Notice) {
        self.0.lock().unwrap().push(notice.clone());
    }
}

/// How often the connections are lost: each time, some settlement was under way.
const LOSSES: usize = 40;

async fn settled_meanwhile() {
    let server = Server::start(&[]).await;
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
