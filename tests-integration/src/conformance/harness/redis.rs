mod server;

use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use messaging::redis::{PubSub, RedisConfig};
use messaging::{Broker, Feature, MessageId, Result};
use xtask::brokers::{Kind, Options, Private, RedisMode};

use self::server::{RedisServer, connect};
use crate::conformance::stage::IMPATIENCE;
use crate::conformance::{Connecting, Harness, ServerNeed, Stage};

/// A backend over Redis on a server of its own, which is started for the first case. Cases that end
/// or stop a server get another one.
#[derive(Debug)]
pub struct RedisHarness {
    backend: Backend,
    options: Options,
    mode: RedisMode,
    server: Mutex<Option<Arc<Private>>>,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backend {
    PubSub,
    Streams,
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
        Self { backend, options, mode, server: Mutex::default() }
    }

    /// Why there is no server, if there is none.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        self.shared().err()
    }

    fn start(&self) -> Result<Arc<Private>, String> {
        Ok(Arc::new(Private::start("conformance", self.options.clone())?))
    }

    fn shared(&self) -> Result<Arc<Private>, String> {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = &*server {
            return Ok(Arc::clone(server));
        }
        Ok(Arc::clone(server.insert(self.start()?)))
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

    fn stage(&self, need: ServerNeed) -> BoxFuture<'_, Result<Stage, String>> {
        async move {
            let servers = match need {
                ServerNeed::Own => self.start()?,
                ServerNeed::Shared | ServerNeed::Nothing => self.shared()?,
            };
            let config = config(&servers, &MessageId::generate()).map_err(|e| e.to_string())?;
            let server = RedisServer { servers, mode: self.mode, config: config.clone() };
            let backend = self.backend;
            let stage = Stage::new(self.lacks(), move || {
                let config = config.clone();
                match backend {
                    Backend::PubSub => {
                        async { Ok(Broker::builder(PubSub::connect(config).await?)) }.boxed()
                    }
                    Backend::Streams => connect(config),
                }
            });
            Ok(stage.with_server(Arc::new(server)))
        }
        .boxed()
    }
}

/// Connects a process that was started as a member.
pub(super) fn member() -> Connecting {
    async {
        let mut config = RedisConfig::from_env()?;
        config.dead_after = IMPATIENCE;
        connect(config).await
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
