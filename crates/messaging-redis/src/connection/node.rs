//! Connections to one node, as Pub/Sub needs them: a cluster passes every message on to every node.

use std::sync::Arc;

use messaging_core::Result;
use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Client, ProtocolVersion, RedisResult};
use tokio::time::timeout;

use super::inline::{Traffic, open};
use super::{Connector, Source};
use crate::error::from_client;

impl Connector {
    /// Opens a connection whose pushes go to what `receiver` makes: to the node, the master, or any
    /// node of a cluster. Each try has a receiver of its own, as a lost one says so there.
    pub(crate) async fn pubsub<R: AsyncPushSender>(
        &self,
        receiver: impl Fn() -> Arc<R> + Send + Sync,
    ) -> Result<(MultiplexedConnection, Arc<R>)> {
        let open = |client: Client| {
            let receiver = receiver();
            let config = self.config().set_push_sender(Arc::clone(&receiver));
            async move {
                let info = client.get_connection_info().clone();
                let login = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
                let client = Client::open(info.set_redis_settings(login))?;
                let opened = client.get_multiplexed_async_connection_with_config(&config).await?;
                Ok((opened, receiver))
            }
        };
        self.on_any_node(open).await
    }

    /// Opens a connection to one node, as [`Connector::pubsub`] does. The caller runs its traffic,
    /// best as [`Together`](super::Together) with what it does.
    pub(crate) async fn any_node(&self) -> Result<(MultiplexedConnection, Traffic)> {
        self.on_any_node(|client| open(client, self.config())).await
    }

    fn config(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout))
    }

    /// Tries one node after the other, each for its share of the time.
    async fn on_any_node<T, F>(&self, open: impl Fn(Client) -> F + Send + Sync) -> Result<T>
    where
        T: Send,
        F: Future<Output = RedisResult<T>> + Send,
    {
        let failed = |error| from_client(error, &self.address);
        self.in_time(async {
            let clients = match &self.source {
                Source::Node(client) => vec![client.clone()],
                Source::Sentinel(sentinel) => {
                    vec![sentinel.lock().await.async_get_client().await.map_err(failed)?]
                }
                Source::Cluster { nodes, .. } => nodes.clone(),
            };
            let share = self.timeout / clients.len().max(1) as u32;
            let mut outcome = Err(self.late());
            for client in clients {
                outcome = match timeout(share, open(client)).await {
                    Ok(opened) => opened.map_err(failed),
                    Err(_) => Err(self.late()),
                };
                if outcome.is_ok() {
                    break;
                }
            }
            outcome
        })
        .await
    }
}
