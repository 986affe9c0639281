//! The task that reads for one listener: a connection, its subscriptions, and what comes in.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use messaging_core::Result;
use messaging_core::driver::{Incoming, Token};
use redis::Msg;
use redis::aio::{PubSubSink, PubSubStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::buffer::{Buffer, Item};
use super::driver::{NAME, Shared};
use super::envelope;
use super::routes::Routes;
use crate::backoff::Backoff;
use crate::error::from_client;

/// The most messages that are moved into the buffer in one piece.
const CHUNK: usize = 256;
/// How often the server is asked whether it is there.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long it may take to answer.
const PING: Duration = Duration::from_secs(2);
/// A connection that lasted so long starts the growing waits anew.
const STABLE: Duration = Duration::from_secs(10);

pub(super) struct Reading {
    pub(super) shared: Arc<Shared>,
    pub(super) routes: Routes,
    pub(super) buffer: Arc<Buffer>,
    pub(super) stop: CancellationToken,
}

/// A connection whose subscriptions the server has confirmed.
pub(super) struct Subscribed {
    sink: PubSubSink,
    pushes: PubSubStream,
}

impl Reading {
    pub(super) async fn subscribe(&self) -> Result<Subscribed> {
        let (mut sink, pushes) = self.shared.connector.pubsub().await?.split();
        let confirmed = async {
            let (channels, globs) = (self.routes.channels(), self.routes.globs());
            if !channels.is_empty() {
                sink.subscribe(channels).await?;
            }
            if !globs.is_empty() {
                sink.psubscribe(globs).await?;
            }
            Ok(())
        };
        let address = self.shared.connector.address();
        self.shared
            .connector
            .in_time(async { confirmed.await.map_err(|error| from_client(error, address)) })
            .await?;
        Ok(Subscribed { sink, pushes })
    }

    pub(super) async fn run(self, mut subscribed: Subscribed) {
        let mut backoff = Backoff::default();
        loop {
            let since = Instant::now();
            let Some(reason) = self.read(subscribed).await else { return };
            let address = self.shared.connector.address();
            tracing::warn!(backend = NAME, address, reason, "a listener's connection is lost");
            if since.elapsed() > STABLE {
                backoff.reset();
            }
            let Some(again) = self.subscribe_again(&mut backoff).await else { return };
            subscribed = again;
            tracing::info!(backend = NAME, address, "a listener's connection is back");
            self.buffer.push([Item::Reconnected(format!("the connection was lost: {reason}"))]);
        }
    }

    /// Reads until the connection is lost, and says why; `None` when it is to stop.
    async fn read(&self, Subscribed { sink, pushes }: Subscribed) -> Option<String> {
        let mut chunks = pushes.ready_chunks(CHUNK);
        let silent = silence(sink);
        tokio::pin!(silent);
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                reason = &mut silent => return Some(reason),
                chunk = chunks.next() => match chunk {
                    Some(chunk) => self.buffer.push(chunk.iter().filter_map(|push| self.item(push))),
                    None => return Some("the server ended it".to_owned()),
                },
            }
        }
    }

    async fn subscribe_again(&self, backoff: &mut Backoff) -> Option<Subscribed> {
        loop {
            let wait = backoff.next();
            let attempt = async {
                sleep(wait).await;
                self.subscribe().await
            };
            match self.stop.run_until_cancelled(attempt).await? {
                Ok(subscribed) => return Some(subscribed),
                Err(error) => tracing::debug!(backend = NAME, %error, "no connection yet"),
            }
        }
    }

    /// What a push of the server's brings, if it counts.
    fn item(&self, push: &Msg) -> Option<Item> {
        let glob = || push.get_pattern::<Option<String>>().ok().flatten();
        let subject = self.routes.accept(push.get_channel_name(), glob)?;
        let payload = Bytes::copy_from_slice(push.get_payload_bytes());
        let bytes = payload.len();
        Some(match envelope::read(subject, payload) {
            Ok(message) => {
                let token = Token { lane: 0, epoch: 0, id: 0 };
                Item::Message(Incoming::new(message, token), bytes)
            }
            Err(reason) => Item::Unreadable(reason),
        })
    }
}

impl Drop for Reading {
    /// However the task ends, the listener sees it.
    fn drop(&mut self) {
        self.buffer.end();
    }
}

/// Ends, with a reason, when the server does not answer any more.
async fn silence(mut sink: PubSubSink) -> String {
    loop {
        sleep(HEARTBEAT).await;
        match timeout(PING, sink.ping::<redis::Value>()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return "the server did not answer in time".to_owned(),
        }
    }
}
