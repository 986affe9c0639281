//! From subscribing to the first message, and what a subscription asks for while nothing comes.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use xtask::brokers::{Kind, Options, Private};

use super::{Place, bare, ours};
use crate::table::{Row, Target};

const ROUNDS: usize = 5;
const IDLE: Duration = Duration::from_secs(5);

/// The number of a fetch in the protocol.
const FETCH: i16 = 1;

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub(super) fn rows() -> Vec<Row> {
    let runtime = crate::runtime();
    let (mut joins, mut fetches) = (Vec::new(), Vec::new());
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let options = Options::new(Kind::Kafka).with_advertised_ports(&[port]);
        let node = Private::start("bench", options).unwrap();
        let counted = Arc::new(AtomicU64::new(0));
        let mut relays = JoinSet::new();
        let server = node.address("kafka-1").unwrap().port();
        relays.spawn(relay(listener, server, Arc::clone(&counted)));
        for round in 0..ROUNDS {
            let place = Place { port, prefix: format!("idle{round}") };
            bare::prepare(&place, false).await;
            let broker = ours::open(&place).await;
            let publisher = ours::publisher(&broker).await;
            publisher.publish(&crate::bare::body()).await.unwrap();
            let began = std::time::Instant::now();
            let mut consumer = ours::consumer(&broker).await;
            consumer.next().await.unwrap().unwrap().ack();
            joins.push(began.elapsed().as_secs_f64());
            let before = counted.load(Ordering::Relaxed);
            tokio::time::timeout(IDLE, consumer.next()).await.unwrap_err();
            let count = counted.load(Ordering::Relaxed) - before;
            fetches.push(count as f64 / IDLE.as_secs_f64());
            drop(consumer);
            broker.close().await.unwrap();
        }
    });
    vec![
        Row::new("from subscribing to the first message", "s", joins).target(Target::AtMost(2.0)),
        Row::new("fetches while nothing comes", "1/s", fetches).target(Target::AtMost(5.0)),
    ]
}

/// Passes everything on and counts the fetches.
async fn relay(listener: TcpListener, server: u16, counted: Arc<AtomicU64>) {
    let mut links = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let server = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await.unwrap();
        let counted = Arc::clone(&counted);
        links.spawn(async move {
            let (mut answers, mut to_server) = server.into_split();
            let (mut requests, mut to_client) = client.into_split();
            let forth = async {
                while let Ok(length) = requests.read_u32().await {
                    let mut frame = vec![0; length as usize];
                    requests.read_exact(&mut frame).await?;
                    if frame.first_chunk() == Some(&FETCH.to_be_bytes()) {
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                    to_server.write_u32(length).await?;
                    to_server.write_all(&frame).await?;
                }
                std::io::Result::Ok(())
            };
            tokio::select! {
                ended = forth => drop(ended),
                ended = copy(&mut answers, &mut to_client) => drop(ended),
            }
        });
    }
}
