use std::sync::PoisonError;

use futures::FutureExt;
use futures::future::{self, BoxFuture};
use messaging_core::driver::{Admin, Health, Lag, Plan, Promise, Target};
use messaging_core::{Error, ErrorKind, Feature, GroupName, Result, Topology};
use redis::Value;

use super::driver::{NAME, PubSub};
use crate::connection::alongside;

/// The server has neither streams nor groups, so there is nothing to create: a connection knows the
/// streams that were applied to it. Groups of a topology are passed over, as who joins one here is
/// refused by name.
impl Admin for PubSub {
    fn plan<'a>(&'a self, topology: &'a Topology) -> BoxFuture<'a, Result<Plan>> {
        self.apply(topology)
    }

    fn apply<'a>(&'a self, topology: &'a Topology) -> BoxFuture<'a, Result<Plan>> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        for config in &topology.streams {
            match known.streams.iter_mut().find(|stream| stream.name == config.name) {
                Some(stream) => stream.clone_from(config),
                None => known.streams.push(config.clone()),
            }
        }
        future::ready(Ok(Plan::default())).boxed()
    }

    fn delete<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<()>> {
        let text = format!("{target} does not exist: Pub/Sub keeps nothing");
        let error = Error::new(ErrorKind::NotFound, text);
        future::ready(Err(error.at(NAME, "delete"))).boxed()
    }

    fn lag<'a>(&'a self, _: Option<&'a GroupName>) -> BoxFuture<'a, Result<Vec<Lag>>> {
        let text = "Pub/Sub keeps nothing, so nothing waits; use redis-streams";
        let error = Error::new(ErrorKind::Unsupported(Feature::Lag), text);
        future::ready(Err(error.at(NAME, "lag"))).boxed()
    }

    fn health(&self) -> BoxFuture<'_, Result<Health>> {
        async move {
            Ok(match self.version().await {
                Ok(version) => Health::serving()
                    .with_version(version)
                    .with_promise(Promise::kept("what a listener loses is seen as a gap"))
                    .with_promise(Promise::not_made(
                        "a confirmed publish reaches anybody",
                        "Pub/Sub keeps nothing: what is published while nobody listens is gone",
                    )),
                Err(error) => Health::not_serving(error.to_string()),
            })
        }
        .boxed()
    }
}

impl PubSub {
    async fn version(&self) -> Result<String> {
        let (mut link, mut traffic) = self.shared.connector.any_node().await?;
        let address = self.shared.connector.address();
        let mut info = redis::cmd("INFO");
        info.arg("server");
        let answer = alongside(&mut traffic, link.send_packed_command(&info)).await;
        let answer = answer.and_then(|answer| answer);
        let answer = answer.map_err(|error| crate::error::from_client(error, address))?;
        let text: String = match crate::error::checked(answer, "INFO")? {
            Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Value::VerbatimString { text, .. } => text,
            _ => return Err(crate::error::unexpected("INFO")),
        };
        let version = text.lines().find_map(|line| line.strip_prefix("redis_version:"));
        Ok(version.unwrap_or("unknown").trim().to_owned())
    }
}
