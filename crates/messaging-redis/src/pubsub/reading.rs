//! The task that keeps one listener connected and subscribed.

use std::sync::Arc;
use std::time::Duration;

use messaging_core::Result;
use messaging_core::driver::Backoff;
use redis::aio::MultiplexedConnection;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::buffer::Buffer;
use super::driver::Shared;
use super::inbox::Inbox;
use super::routes::Routes;
use crate::error::from_client;

/// How often the server is asked whether it is there.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long it may take to answer.
const PING: Duration = Duration::from_secs(2);
/// A connection that lasted so long starts the growing waits anew.
const STABLE: Duration = Duration::from_secs(1);

pub(super) struct Reading {
    pub(super) shared: Arc<Shared>,
    pub(super) routes: Arc<Routes>,
    pub(super) buffer: Arc<Buffer>,
    pub(super) stop: CancellationToken,
}

/// A connection whose subscriptions the server has confirmed.
pub(super) struct Subscribed {
    connection: MultiplexedConnection,
    inbox: Arc<Inbox>,
}

impl Reading {
    /// Connects and subscribes; `before` says why the connection before was lost.
    pub(super) async fn subscribe(&self, before: Option<&str>) -> Result<Subscribed> {
        let connector = &self.shared.connector;
        let inbox = || {
            let (routes, buffer) = (Arc::clone(&self.routes), Arc::clone(&self.buffer));
            Arc::new(Inbox::new(routes, buffer, before.map(ToOwned::to_owned)))
        };
        let (connection, inbox) = connector.pubsub(inbox).await?;
        let mut subscribed = Subscribed { connection, inbox };
        let confirmed = async {
            let (channels, globs) = (self.routes.channels(), self.routes.globs());
            if !channels.is_empty() {
                subscribed.connection.subscribe(channels).await?;
            }
            if !globs.is_empty() {
                subscribed.connection.psubscribe(globs).await?;
            }
            Ok(())
        };
        confirmed.await.map_err(|error| from_client(error, connector.address()))?;
        subscribed.inbox.announce();
        Ok(subscribed)
    }

    pub(super) async fn run(self, mut subscribed: Subscribed) {
        let mut backoff = Backoff::default();
        loop {
            let since = Instant::now();
            let Some(reason) = self.watch(subscribed).await else { return };
            if since.elapsed() > STABLE {
                backoff.reset();
            }
            let reason = format!("the connection was lost: {reason}");
            let Some(again) = self.subscribe_again(&reason, &mut backoff).await else { return };
            subscribed = again;
        }
    }

    /// Waits until the connection is lost, and says why; `None` when it is to stop.
    async fn watch(&self, subscribed: Subscribed) -> Option<String> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            () = subscribed.inbox.lost() => Some("the server ended it".to_owned()),
            reason = silence(subscribed.connection.clone()) => Some(reason),
        }
    }

    async fn subscribe_again(&self, reason: &str, backoff: &mut Backoff) -> Option<Subscribed> {
        let address = self.shared.connector.address();
        let mut outage = self.shared.outages.begin("a listener's connection", address, reason);
        loop {
            let wait = backoff.next();
            let attempt = async {
                sleep(wait).await;
                self.subscribe(Some(reason)).await
            };
            match self.stop.run_until_cancelled(attempt).await? {
                Ok(subscribed) => {
                    outage.end();
                    return Some(subscribed);
                }
                Err(error) => outage.lasts(&error),
            }
        }
    }
}

impl Drop for Reading {
    /// However the task ends, the listener sees it.
    fn drop(&mut self) {
        self.buffer.end();
    }
}

impl Drop for Subscribed {
    /// The next connection's messages come after those of this one.
    fn drop(&mut self) {
        self.inbox.close();
    }
}

/// Ends, with a reason, when the server does not answer any more.
async fn silence(mut connection: MultiplexedConnection) -> String {
    loop {
        sleep(HEARTBEAT).await;
        match timeout(PING, connection.send_packed_command(&redis::cmd("PING"))).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return "the server did not answer in time".to_owned(),
        }
    }
}
