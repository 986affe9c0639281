mod listener;
mod server;

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use messaging::redis::{PubSub, RedisConfig, Streams};
use messaging::{Broker, Feature, MessageId, Result};
use xtask::brokers::{Kind, Options, Private, RedisMode};

use self::server::RedisServer;
use super::nodes::Shared;
use crate::conformance::stage::IMPATIENCE;
use crate::conformance::{Connecting, Harness, ServerNeed, Stage};

/// A backend over Redis on a server of its own, which is started for the first case. Cases that end
/// or stop a server get another one.
#[derive(Debug)]
pub struct RedisHarness {
    backend: Backend,
    options: Options,
    mode: RedisMode,
    server: Shared,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backend {
    PubSub,
    Streams,
}

impl Backend {
    fn connect(self, config: RedisConfig) -> Connecting {
        async move {
            Ok(match self {
                Self::PubSub => Broker::builder(PubSub::connect(config).await?),
                Self::Streams => Broker::builder(Streams::connect(config).await?),
            })
        }
        .boxed()
    }
}

/// What Pub/Sub lacks, as it keeps nothing.
const NOT_KEPT: [Feature; 16] = [
    Feature::Settlement,
    Feature::Groups,
    Feature::Broadcast,
    Feature::Ordered,
    Feature::ParallelLanes,
    Feature::Priority,
    Feature::DelayedRetry,
    Feature::DeadLetters,
    Feature::ConfirmedSettlement,
    Feature::StartEarliest,
    Feature::StartPosition,
    Feature::StartTime,
    Feature::Lag,
    Feature::Provision,
    Feature::ReadRange,
    Feature::Positions,
];

impl RedisHarness {
    /// Streams on one node that syncs each write.
    #[must_use]
    pub fn streams() -> Self {
        Self::streams_on(RedisMode::Single)
    }

    /// Streams on servers that stand to each other like that.
    #[must_use]
    pub fn streams_on(mode: RedisMode) -> Self {
        Self::on(Backend::Streams, mode)
    }

    /// Pub/Sub on servers that stand to each other like that.
    #[must_use]
    pub fn pubsub_on(mode: RedisMode) -> Self {
        Self::on(Backend::PubSub, mode)
    }

    fn on(backend: Backend, mode: RedisMode) -> Self {
        let options = Options::new(Kind::Redis).with_redis_mode(mode);
        Self { backend, options, mode, server: Shared::default() }
    }

    fn start(&self) -> Result<Arc<Private>, String> {
        let servers = Private::start("conformance", self.options.clone())?;
        stay_in_place(&servers, self.mode)?;
        Ok(Arc::new(servers))
    }

    fn shared(&self) -> Result<Arc<Private>, String> {
        self.server.get(|| self.start())
    }
}

impl Harness for RedisHarness {
    fn name(&self) -> &'static str {
        match self.backend {
            Backend::PubSub => "redis",
            Backend::Streams => "redis-streams",
        }
    }

    fn lacks(&self) -> &'static [Feature] {
        match self.backend {
            Backend::PubSub => &NOT_KEPT,
            Backend::Streams => &[Feature::Priority],
        }
    }

    fn has_virtual_time(&self) -> bool {
        false
    }

    fn has_server(&self) -> bool {
        true
    }

    fn missing(&self) -> Option<String> {
        self.shared().err()
    }

    fn stage(&self, need: ServerNeed) -> BoxFuture<'_, Result<Stage, String>> {
        async move {
            let servers = match need {
                ServerNeed::Own => self.start()?,
                ServerNeed::Shared | ServerNeed::Nothing => self.shared()?,
            };
            let config = config(&servers, &MessageId::generate()).map_err(|e| e.to_string())?;
            let (backend, mode) = (self.backend, self.mode);
            let server = RedisServer { servers, backend, mode, config: config.clone() };
            let stage = Stage::new(self.lacks(), move || backend.connect(config.clone()));
            Ok(stage.with_server(Arc::new(server)))
        }
        .boxed()
    }
}

/// Keeps replicas from taking over, however long a case ends or stops a server: failover loses what
/// was not replicated, and is another subject.
fn stay_in_place(servers: &Private, mode: RedisMode) -> Result<(), String> {
    let call = |node: &str, args: &[&str]| {
        let port = servers.address(node)?.port().to_string();
        let mut command = servers.redis_cli(["-p", &port].iter().chain(args))?;
        match super::output(&mut command)?.as_str() {
            "OK" => Ok(()),
            other => Err(format!("{node}: {other}")),
        }
    };
    match mode {
        RedisMode::Sentinel => {
            let variables = servers.env();
            let master = variables.iter().find(|(name, _)| name == "REDIS_SENTINEL_MASTER");
            let (_, master) = master.ok_or("these servers have no name")?;
            let nodes = servers.nodes();
            let mut sentinels = nodes.iter().filter(|node| !servers.servers().contains(node));
            let never = ["SENTINEL", "SET", master, "down-after-milliseconds", "3600000"];
            sentinels.try_for_each(|node| call(node, &never))
        }
        RedisMode::Cluster => {
            let never = ["CONFIG", "SET", "cluster-replica-no-failover", "yes"];
            servers.servers().into_iter().try_for_each(|node| {
                call(node, &never)?;
                call(node, &["CONFIG", "REWRITE"])
            })
        }
        RedisMode::Single => Ok(()),
    }
}

/// Connects a process that was started as a member.
pub(super) fn member() -> Connecting {
    async {
        let mut config = RedisConfig::from_env()?;
        config.dead_after = IMPATIENCE;
        Backend::Streams.connect(config).await
    }
    .boxed()
}

/// The way to a server, with a prefix of its own.
fn config(server: &Private, prefix: &MessageId) -> Result<RedisConfig> {
    let variables = server.env();
    let get = |name: &str| {
        let found = variables.iter().find(|(known, _)| known == name);
        Ok(found.map(|(_, value)| value.clone()))
    };
    RedisConfig::from_variables(get)?.with_prefix(&format!("t-{prefix}"))
}
