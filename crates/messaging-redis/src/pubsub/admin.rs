use std::sync::PoisonError;

use futures::FutureExt;
use futures::future::{self, BoxFuture};
use messaging_core::driver::{Action, Admin, Change, Health, Lag, Plan};
use messaging_core::duration::format_duration;
use messaging_core::topology::{StreamConfig, StreamKind};
use messaging_core::{Error, ErrorKind, Feature, GroupName, Result, Topology};
use redis::Value;

use super::driver::{NAME, PubSub};

/// The server has neither streams nor groups, so a connection knows the streams that were applied
/// to it. Groups of a topology are passed over: who joins one here is refused by name.
impl Admin for PubSub {
    fn plan<'a>(&'a self, topology: &'a Topology) -> BoxFuture<'a, Result<Plan>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        future::ready(Ok(plan(&known, topology))).boxed()
    }

    fn apply<'a>(&'a self, topology: &'a Topology) -> BoxFuture<'a, Result<Plan>> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let plan = plan(&known, topology);
        for config in &topology.streams {
            match known.streams.iter_mut().find(|stream| stream.name == config.name) {
                Some(stream) => stream.clone_from(config),
                None => known.streams.push(config.clone()),
            }
        }
        future::ready(Ok(plan)).boxed()
    }

    fn lag<'a>(&'a self, _: Option<&'a GroupName>) -> BoxFuture<'a, Result<Vec<Lag>>> {
        let text = "Pub/Sub keeps nothing, so nothing waits; use redis-streams";
        let error = Error::new(ErrorKind::Unsupported(Feature::Lag), text);
        future::ready(Err(error.at(NAME, "lag"))).boxed()
    }

    fn health(&self) -> BoxFuture<'_, Result<Health>> {
        async move {
            Ok(match self.version().await {
                Ok(version) => {
                    let mut health = Health::serving();
                    health
                        .notes
                        .push(format!("Redis {version} at {}", self.shared.connector.address()));
                    health.notes.push(
                        "Pub/Sub keeps nothing: what is published while nobody listens is gone"
                            .to_owned(),
                    );
                    health
                }
                Err(error) => Health::not_serving(error.to_string()),
            })
        }
        .boxed()
    }
}

impl PubSub {
    async fn version(&self) -> Result<String> {
        let mut link = self.shared.connector.any_node().await?;
        let address = self.shared.connector.address();
        let mut info = redis::cmd("INFO");
        info.arg("server");
        let answer = link.send_packed_command(&info).await;
        let answer = answer.map_err(|error| crate::error::from_client(error, address))?;
        let text: String = match crate::error::checked(answer, "INFO")? {
            Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Value::VerbatimString { text, .. } => text,
            _ => return Err(crate::error::unexpected("INFO")),
        };
        let version = text.lines().find_map(|line| line.strip_prefix("redis_version:"));
        Ok(version.unwrap_or("of unknown version").trim().to_owned())
    }
}

fn plan(known: &Topology, wanted: &Topology) -> Plan {
    let mut plan = Plan::default();
    for config in &wanted.streams {
        let target = format!("stream {}", config.name);
        let detail = describe(config);
        match known.stream(config.name.name()).map(describe) {
            None => plan.changes.push(Change::new(Action::Create, target, detail)),
            Some(found) if found != detail => {
                plan.changes.push(Change::new(
                    Action::Alter,
                    target,
                    format!("{found} to {detail}"),
                ));
            }
            Some(_) => {}
        }
    }
    let unnamed = |stream: &&StreamConfig| wanted.stream(stream.name.name()).is_none();
    let unmanaged = known.streams.iter().filter(unnamed);
    plan.unmanaged = unmanaged.map(|stream| format!("stream {}", stream.name)).collect();
    plan
}

/// What of a stream is known here. Its retention is that of the topology; nothing is kept.
fn describe(stream: &StreamConfig) -> String {
    let kind = match stream.kind {
        StreamKind::Log => "log",
        StreamKind::Work => "work",
    };
    let retention = stream.retention.map(format_duration);
    let kept = retention.map_or_else(String::new, |time| format!(", kept {time} where it is kept"));
    format!("{kind}{kept}")
}
