//! Redis Streams against a real server: what the conformance suite can't see.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests fail by panicking and say why they are ignored"
)]
#![allow(dead_code, reason = "the server can do more than these tests need")]

#[path = "support/server.rs"]
mod server;
#[macro_use]
#[path = "support/trials.rs"]
mod trials;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use messaging_core::observe::{Notice, Observer};
use messaging_core::{Broker, Bytes, ErrorKind, Message, Publisher, Receipt, Received, SendSpec};
use messaging_redis::config::{Address, Servers};
use messaging_redis::{RedisConfig, Streams};
use tokio::time::{sleep, timeout};

use self::server::Server;

fn main() -> ExitCode {
    trials::run(trials![
        what_is_settled_while_a_connection_comes_back_is_not_told_as_missed,
        what_the_server_refuses_for_now_is_published_in_call_order_once_it_takes_it,
        what_the_server_refuses_until_its_deadline_is_not_sent,
        what_was_refused_does_not_follow_a_later_one_that_was_taken,
        a_server_that_became_a_replica_is_left_for_the_next_connection,
    ])
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

async fn what_is_settled_while_a_connection_comes_back_is_not_told_as_missed() {
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

async fn publisher(config: RedisConfig, timeout: Duration) -> (Broker, Publisher<Bytes>) {
    let broker = Broker::builder(Streams::connect(config).await.unwrap()).open().await.unwrap();
    let spec = SendSpec::to("tasks").unwrap().timeout(timeout);
    let publisher = broker.publisher(spec).await.unwrap();
    (broker, publisher)
}

fn replicas(count: u32) -> redis::Cmd {
    let mut command = redis::cmd("CONFIG");
    command.arg("SET").arg("min-replicas-to-write").arg(count);
    command
}

async fn length(server: &Server) -> redis::Value {
    let mut command = redis::cmd("XLEN");
    command.arg(format!("{}.tasks", server.config().prefix));
    server.run(&command).await
}

/// Waits until the server has refused something.
async fn refused(server: &Server) {
    let mut command = redis::cmd("INFO");
    command.arg("errorstats");
    let asking = async {
        while !format!("{:?}", server.run(&command).await).contains("NOREPLICAS") {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), asking).await.unwrap();
}

fn grow(receipts: &[Receipt]) -> bool {
    receipts.is_sorted_by(|one, next| one.position.unwrap().id() < next.position.unwrap().id())
}

async fn what_the_server_refuses_for_now_is_published_in_call_order_once_it_takes_it() {
    let server = Server::start(&[]).await;
    let (_broker, publisher) = publisher(server.config(), Duration::from_secs(20)).await;
    server.run(&replicas(1)).await;
    let mut pending = Vec::new();
    for round in 0..2 {
        for n in 0..600 {
            pending.push(publisher.enqueue(&Bytes::from(format!("{n}"))).await.unwrap());
        }
        if round == 0 {
            refused(&server).await;
        }
    }
    server.run(&replicas(0)).await;
    let mut receipts = Vec::new();
    for one in pending {
        receipts.push(one.await.unwrap());
    }
    assert!(grow(&receipts));
    assert_eq!(length(&server).await, redis::Value::Int(1_200));
}

async fn what_the_server_refuses_until_its_deadline_is_not_sent() {
    let server = Server::start(&[]).await;
    let (_broker, publisher) = publisher(server.config(), Duration::from_millis(600)).await;
    let (_other, patient) = self::publisher(server.config(), Duration::from_secs(20)).await;
    server.run(&replicas(1)).await;
    let many = vec![Bytes::from("in vain"); 600];
    let outcomes = publisher.publish_all(many).await;
    let errors: Vec<_> = outcomes.into_iter().map(Result::unwrap_err).collect();
    assert!(errors.iter().all(|error| *error.kind() == ErrorKind::NotSent), "{errors:?}");
    assert!(errors[0].to_string().contains("NOREPLICAS"), "{}", errors[0]);
    server.run(&replicas(0)).await;
    patient.publish(&Bytes::from("another")).await.unwrap();
    publisher.publish(&Bytes::from("after")).await.unwrap();
    assert_eq!(length(&server).await, redis::Value::Int(2));
}

/// A server that gives these answers to what appends, so many at once, and says how often somebody
/// connected.
fn fake(at_once: usize, answers: &'static [&'static str]) -> (RedisConfig, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::new("127.0.0.1", listener.local_addr().unwrap().port());
    let left = Arc::new(Mutex::new(answers.iter()));
    let connections = Arc::new(AtomicUsize::new(0));
    let opened = Arc::clone(&connections);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            opened.fetch_add(1, Ordering::Relaxed);
            let left = Arc::clone(&left);
            std::thread::spawn(move || {
                let (mut asked, mut bytes) = (0, [0; 1 << 16]);
                while let Ok(read @ 1..) = stream.read(&mut bytes) {
                    let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
                    let mut answer = String::new();
                    let lines: Vec<_> = text.split("\r\n").collect();
                    // The name of a command is two lines after the number of its parts.
                    let is_begin = |line: &str| line.len() > 1 && line.starts_with('*');
                    for command in lines.windows(3).filter(|lines| is_begin(lines[0])) {
                        match command[2] {
                            "XADD" => asked += 1,
                            _ => answer.push_str("+OK\r\n"),
                        }
                    }
                    while asked >= at_once {
                        asked -= at_once;
                        for one in left.lock().unwrap().by_ref().take(at_once) {
                            answer.push_str(one);
                            answer.push_str("\r\n");
                        }
                    }
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    let config = RedisConfig::default().with_servers(Servers::Node(address));
    (config, connections)
}

const REFUSED: &str = "-READONLY You can't write against a read only replica.";

async fn what_was_refused_does_not_follow_a_later_one_that_was_taken() {
    let (config, _) = fake(2, &[REFUSED, "+1-1"]);
    let (_broker, publisher) = publisher(config, Duration::from_secs(20)).await;
    let outcomes = publisher.publish_all([Bytes::from("first"), Bytes::from("second")]).await;
    assert_eq!(*outcomes[0].as_ref().unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(outcomes[1].as_ref().unwrap().position.unwrap().id(), 1 << 64 | 1);
}

async fn a_server_that_became_a_replica_is_left_for_the_next_connection() {
    let (config, connections) = fake(1, &["+1-1", REFUSED, REFUSED, "+1-2"]);
    let (_broker, publisher) = publisher(config, Duration::from_secs(20)).await;
    publisher.publish(&Bytes::from("before")).await.unwrap();
    let before = connections.load(Ordering::Relaxed);
    publisher.publish(&Bytes::from("after")).await.unwrap();
    assert_eq!(connections.load(Ordering::Relaxed), before + 2);
}
