//! The bare client at its best batch.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::time::Instant;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use messaging::MessageId;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, Value};
use tokio::task::JoinSet;

use super::{BATCH, IN_FLIGHT, Meter, Spent};
use crate::bare::body;

const KEY: &str = "helixagent.tasks";

async fn connect(url: &str) -> MultiplexedConnection {
    // Its own limit of half a second ends a benchmark on a busy machine.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let client = Client::open(url).unwrap();
    client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
}

/// The same fields as ours, so that the server has the same work.
fn append() -> Cmd {
    let mut command = redis::cmd("XADD");
    command.arg(KEY).arg("*").arg("subject").arg("tasks");
    command.arg("id").arg(MessageId::generate().to_string());
    command.arg("content-type").arg("application/octet-stream").arg("body").arg(&body()[..]);
    command
}

async fn fill(connection: &mut MultiplexedConnection, messages: usize) {
    for _ in 0..messages / BATCH {
        let mut pipeline = Pipeline::with_capacity(BATCH);
        for _ in 0..BATCH {
            pipeline.add_command(append());
        }
        connection.req_packed_commands(&pipeline, 0, BATCH).await.unwrap();
    }
}

pub(super) fn publish(url: String, messages: usize) -> BoxFuture<'static, Spent> {
    async move {
        let connection = connect(&url).await;
        let meter = Meter::start();
        let mut tasks = JoinSet::new();
        for _ in 0..IN_FLIGHT {
            let mut connection = connection.clone();
            tasks.spawn(async move { fill(&mut connection, messages / IN_FLIGHT).await });
        }
        tasks.join_all().await;
        meter.stop()
    }
    .boxed()
}

pub(super) fn consume(url: String, messages: usize) -> BoxFuture<'static, Spent> {
    async move {
        let mut connection = connect(&url).await;
        let mut create = redis::cmd("XGROUP");
        create.arg("CREATE").arg(KEY).arg("g").arg("0").arg("MKSTREAM");
        create.exec_async(&mut connection).await.unwrap();
        fill(&mut connection, messages).await;
        let mut settling = connect(&url).await;
        let work = async move {
            let meter = Meter::start();
            let mut left = messages;
            let mut acks = JoinSet::new();
            while left > 0 {
                let mut read = redis::cmd("XREADGROUP");
                read.arg("GROUP").arg("g").arg("c").arg("COUNT").arg(BATCH);
                read.arg("STREAMS").arg(KEY).arg(">");
                let ids = ids(connection.req_packed_command(&read).await.unwrap());
                left -= ids.len();
                let mut ack = redis::cmd("XACK");
                ack.arg(KEY).arg("g").arg(ids);
                let mut settling = settling.clone();
                acks.spawn(async move { ack.exec_async(&mut settling).await.unwrap() });
            }
            acks.join_all().await;
            let _: Value = redis::cmd("PING").query_async(&mut settling).await.unwrap();
            meter.stop()
        };
        tokio::spawn(work).await.unwrap()
    }
    .boxed()
}

/// The ids of an answer `[[key, [[id, fields], …]]]`.
fn ids(answer: Value) -> Vec<Vec<u8>> {
    let array = |value| if let Value::Array(all) = value { all } else { Vec::new() };
    let entries = array(answer).into_iter().flat_map(|stream| array(stream).into_iter().skip(1));
    entries
        .flat_map(array)
        .filter_map(|entry| match array(entry).into_iter().next() {
            Some(Value::BulkString(id)) => Some(id),
            _ => None,
        })
        .collect()
}

pub(super) fn pubsub(url: String, messages: usize) -> BoxFuture<'static, Spent> {
    async move {
        let client = Client::open(url.as_str()).unwrap();
        let mut subscriber = client.get_async_pubsub().await.unwrap();
        subscriber.subscribe("helixagent.tasks").await.unwrap();
        let connection = connect(&url).await;
        let meter = Meter::start();
        let mut tasks = JoinSet::new();
        for _ in 0..IN_FLIGHT {
            let mut connection = connection.clone();
            tasks.spawn(async move {
                for _ in 0..messages / IN_FLIGHT / BATCH {
                    let mut pipeline = Pipeline::with_capacity(BATCH);
                    for _ in 0..BATCH {
                        let mut command = redis::cmd("PUBLISH");
                        command.arg("helixagent.tasks").arg(JSON);
                        pipeline.add_command(command);
                    }
                    connection.req_packed_commands(&pipeline, 0, BATCH).await.unwrap();
                }
            });
        }
        tasks.spawn(async move {
            let mut heard = subscriber.into_on_message().take(messages);
            while let Some(message) = heard.next().await {
                std::hint::black_box(message.get_payload_bytes().len());
            }
        });
        tasks.join_all().await;
        meter.stop()
    }
    .boxed()
}

/// A task as it travels, of about 256 bytes.
pub(super) const JSON: &str = r#"{"id":"task-123","type":"completion","priority":1,"payload":{"model":"helix-ensemble","messages":[{"role":"user","content":"Say in one sentence why the sky looks blue at noon and red in the evening, without formulas."}]},"created_at":"2026-01-16T10:00:00Z"}"#;

pub(super) fn latency(url: String) -> BoxFuture<'static, f64> {
    async move {
        let mut connection = connect(&url).await;
        let work = async move {
            let mut all = Vec::new();
            for _ in 0..2_000 {
                let began = Instant::now();
                append().exec_async(&mut connection).await.unwrap();
                all.push(began.elapsed());
            }
            super::median(all)
        };
        tokio::spawn(work).await.unwrap()
    }
    .boxed()
}
