mod python;
mod server;

use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use messaging::redis::RedisConfig;
use messaging::{Feature, MessageId, Result};
use xtask::brokers::{Kind, Options, Private, RedisMode};

use self::server::{RedisServer, connect};
use crate::conformance::stage::IMPATIENCE;
use crate::conformance::{Connecting, Harness, ServerNeed, Stage};

/// Redis Streams on a server of its own, which is started for the first case. Cases that end or
/// stop a server get another one.
#[derive(Debug)]
pub struct RedisHarness {
    options: Options,
    mode: RedisMode,
    server: Mutex<Option<Arc<Private>>>,
}

impl RedisHarness {
    /// On one node that syncs each write.
    #[must_use]
    pub fn streams() -> Self {
        Self::streams_on(RedisMode::Single)
    }

    /// On servers that stand to each other like that.
    #[must_use]
    pub fn streams_on(mode: RedisMode) -> Self {
        let options = Options::new(Kind::Redis).with_redis_mode(mode);
        Self { options, mode, server: Mutex::default() }
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
        "redis-streams"
    }

    fn lacks(&self) -> &'static [Feature] {
        &[Feature::Priority]
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
            let stage = Stage::new(self.lacks(), move || connect(config.clone()));
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
